#include "client/bench_sweep.h"

#include <algorithm>
#include <utility>

#include "kernels/base/status.h"

namespace based {
namespace {

constexpr int kMostDoublings = 16;

}  // namespace

absl::StatusOr<SweepResult> Sweep(double start, int refinements, const LoadAtRate& run) {
  SweepResult result;
  std::optional<double> kept, missed;
  const auto measure = [&](double rate) -> absl::Status {
    BASED_ASSIGN_OR_RETURN(LoadStep step, run(rate));
    (step.keeps_limits ? kept : missed) = rate;
    result.steps.push_back(std::move(step));
    return absl::OkStatus();
  };
  double rate = start;
  for (int i = 0; i < kMostDoublings && !(kept && missed); ++i) {
    BASED_RETURN_IF_ERROR(measure(rate));
    rate = missed ? rate / 2 : rate * 2;
  }
  for (int i = 0; i < refinements && kept && missed; ++i) {
    BASED_RETURN_IF_ERROR(measure((*kept + *missed) / 2));
  }
  std::sort(result.steps.begin(), result.steps.end(),
            [](const LoadStep& a, const LoadStep& b) { return a.rate < b.rate; });
  for (size_t i = 0; i < result.steps.size(); ++i) {
    if (kept && result.steps[i].rate == *kept) result.best = i;
  }
  return result;
}

}  // namespace based
