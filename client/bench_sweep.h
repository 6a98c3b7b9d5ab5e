// The search for the highest rate that keeps the limits.
#ifndef BASED_CLIENT_BENCH_SWEEP_H_
#define BASED_CLIENT_BENCH_SWEEP_H_

#include <functional>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "client/bench_report.h"

namespace based {

// One load at a rate. An error ends the search.
using LoadAtRate = std::function<absl::StatusOr<LoadStep>(double rate)>;

struct SweepResult {
  std::vector<LoadStep> steps;  // in order of their rates
  std::optional<size_t> best;   // the highest that keeps the limits below any that does not
};

// Doubles the rate from `start` while the limits are kept (halves it while they are not), then
// halves the interval `refinements` times.
absl::StatusOr<SweepResult> Sweep(double start, int refinements, const LoadAtRate& run);

}  // namespace based

#endif  // BASED_CLIENT_BENCH_SWEEP_H_
