// What the engine tells whoever keeps metrics. Called from the engine and delivery threads, often:
// implementations count and return.
#ifndef BASED_ENGINE_OBSERVER_H_
#define BASED_ENGINE_OBSERVER_H_

#include <chrono>
#include <cstdint>

#include "absl/status/status.h"
#include "engine/request.h"

namespace based {

struct StepStats {
  int32_t decode_tokens = 0;
  int32_t prefill_tokens = 0;
  int32_t forced_rows = 0;          // of prefill_tokens, those that no prompt holds
  int32_t interactive_decodes = 0;  // of decode_tokens
  int32_t batch_rows = 0;           // of all tokens, those of batch work
  int32_t deferred_rows = 0;        // decodes of batch work left out for interactive work
  int32_t sequences = 0;            // spans in the step
  int32_t forced_tokens = 0;  // taken without a draw when its tokens came: see DrawRules::Forced
  int32_t padded_rows = 0;    // rows that the device computed beyond the step's tokens
  bool replayed = false;      // as one captured graph
  // The engine thread's time: choosing the step, handing it to the device, waiting for the device,
  // handing its tokens to delivery. With another step in the pipeline, the device works meanwhile;
  // no time left to wait then means that the thread is the slower of the two.
  std::chrono::nanoseconds plan{0};
  std::chrono::nanoseconds launch{0};
  std::chrono::nanoseconds wait{0};
  std::chrono::nanoseconds commit{0};
  std::chrono::nanoseconds duration{0};  // Launch to Collect

  std::chrono::nanoseconds host() const { return plan + launch + commit; }
};

// What a request that generates asked for and was given.
struct RequestTotals {
  int32_t completions = 1;       // returned
  int64_t max_tokens = 1;        // of each completion, at most
  int64_t generated_tokens = 0;  // of all completions that were drawn
};

class Observer {
 public:
  virtual ~Observer() = default;
  virtual void OnStep(const StepStats& stats) = 0;
  virtual void OnSlots(int32_t active, int32_t free, int32_t queued) = 0;
  // Sequences whose state went to host memory before a step, and came back.
  virtual void OnParks(int32_t /*parks*/, int32_t /*resumes*/) {}
  // The copy of one sequence's state from its slot to host memory, and back.
  virtual void OnStateSaved(std::chrono::nanoseconds /*took*/) {}
  virtual void OnStateRestored(std::chrono::nanoseconds /*took*/) {}
  // A request's constraint was made ready, or refused with `status`.
  virtual void OnConstraint(const absl::Status& /*status*/, bool /*reused*/,
                            std::chrono::nanoseconds /*took*/) {}
  virtual void OnFirstToken(Priority priority, std::chrono::nanoseconds since_submit) = 0;
  // Per generated token after the first.
  virtual void OnInterToken(Priority priority, std::chrono::nanoseconds gap) = 0;
  // Of several completions, the last.
  virtual void OnFinished(Priority priority, const Finished& finished) = 0;
  virtual void OnTotals(const RequestTotals& /*totals*/) {}  // of a request that has finished
  virtual void OnError(const absl::Status& status) = 0;  // a submitted request ended with an error
  virtual void OnRejected(const absl::Status& status) = 0;  // Submit refused
};

}  // namespace based

#endif  // BASED_ENGINE_OBSERVER_H_
