// The timings of a call that ends before its time, as its sink saw them: what the engine would have
// said had the request finished. Of several completions, or prompts, those of the first to get so
// far. Not thread-safe.
#ifndef BASED_SERVER_CALL_TIMER_H_
#define BASED_SERVER_CALL_TIMER_H_

#include "engine/request.h"

namespace based {

class CallTimer {
 public:
  // From the submission on.
  explicit CallTimer(Clock::time_point now = Clock::now()) : submitted_(now) {}

  void OnStarted(Clock::time_point now) {
    if (started_ == Clock::time_point()) started_ = now;
  }
  // Tokens that go out together are seen together: the first of them when they all are.
  void OnDelta(const Delta& delta) {
    if (delta.tokens > 0 && first_token_ == Clock::time_point()) first_token_ = Clock::now();
  }

  // The phase that the call was in ends with it; those after it are 0.
  Timings CutAt(Clock::time_point now) const {
    const Clock::time_point started = started_ == Clock::time_point() ? now : started_;
    const Clock::time_point first = first_token_ == Clock::time_point() ? now : first_token_;
    return {.queue = started - submitted_, .prefill = first - started, .decode = now - first};
  }

 private:
  Clock::time_point submitted_;
  Clock::time_point started_;  // the epoch: has not
  Clock::time_point first_token_;
};

}  // namespace based

#endif  // BASED_SERVER_CALL_TIMER_H_
