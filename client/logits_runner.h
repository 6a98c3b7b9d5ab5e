// Drives an Executable over one sequence, in slot 0, outside the engine's scheduler.
#ifndef BASED_CLIENT_LOGITS_RUNNER_H_
#define BASED_CLIENT_LOGITS_RUNNER_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/backend.h"

namespace based {

class LogitsRunner {
 public:
  // Takes the executable's one call of CreateSlots.
  static absl::StatusOr<LogitsRunner> Create(Executable& executable);

  // Starts a new sequence.
  absl::Status Reset();

  // Feeds `tokens` in one step and appends the raw logits after each: [tokens, V], padding ids
  // included.
  absl::Status Logits(absl::Span<const int32_t> tokens, std::vector<double>& logits);

  // Feeds one step and returns the most likely id after its last token.
  absl::StatusOr<int32_t> Greedy(absl::Span<const int32_t> tokens);

  // Feeds one step; returns the sum of ln p(targets[i] | everything up to tokens[i]).
  absl::StatusOr<double> LogProbability(absl::Span<const int32_t> tokens,
                                        absl::Span<const int32_t> targets);

 private:
  explicit LogitsRunner(Executable& executable) : executable_(&executable) {}

  // Tokens at the next position, one span, no samples.
  void Prepare(absl::Span<const int32_t> tokens);
  absl::Status Run();

  Executable* executable_;
  int64_t position_ = 0;
  StepTable table_;
  StepOutput output_;
};

}  // namespace based

#endif  // BASED_CLIENT_LOGITS_RUNNER_H_
