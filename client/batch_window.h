// How many calls a batch keeps under way, and when it may send: all slots filled while the daemon
// takes them, less when it refuses, one at a time while it is gone.
#ifndef BASED_CLIENT_BATCH_WINDOW_H_
#define BASED_CLIENT_BATCH_WINDOW_H_

#include <chrono>
#include <cstdint>
#include <optional>

#include "absl/random/random.h"

namespace based {

class BatchWindow {
 public:
  using Clock = std::chrono::steady_clock;

  // At most `most` sequences under way.
  BatchWindow(int32_t most, Clock::time_point now) : most_(most), window_(most), contact_(now) {}

  // Whether `sequences` more may be sent beside `in_flight`. Whatever the window, one call may.
  bool MaySend(Clock::time_point now, int64_t in_flight, int32_t sequences) const {
    return now >= gate_ && (in_flight == 0 || in_flight + sequences <= window_);
  }
  // Nothing is sent before.
  Clock::time_point gate() const { return gate_; }

  // The daemon took a call.
  void Admitted(Clock::time_point now);
  // A call ended with OK.
  void Succeeded(Clock::time_point now);
  // The daemon refused a call beside `in_flight` others and asks to wait so long.
  void Refused(Clock::time_point now, int64_t in_flight, std::chrono::milliseconds pushback);
  // The daemon cannot be reached, or fails. Failures of calls that were sent before the last such
  // call count as one with it.
  void Lost(Clock::time_point now, Clock::time_point sent);

  bool lost() const { return lost_since_.has_value(); }
  // Since when the daemon has taken nothing.
  Clock::time_point contact() const { return contact_; }

 private:
  // Up to a quarter more, so that many clients do not come back at once.
  Clock::duration WithJitter(Clock::duration wait);

  const int32_t most_;
  int64_t window_;
  Clock::time_point gate_;
  Clock::time_point contact_;
  std::optional<Clock::time_point> lost_since_;  // the last loss, while there is no contact
  int32_t losses_ = 0;                           // one after the other
  absl::BitGen random_;
};

}  // namespace based

#endif  // BASED_CLIENT_BATCH_WINDOW_H_
