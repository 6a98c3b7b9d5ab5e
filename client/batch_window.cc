#include "client/batch_window.h"

#include <algorithm>

namespace based {
namespace {

constexpr std::chrono::milliseconds kFirstWait(200);
constexpr int32_t kMostDoublings = 4;  // to 3.2 s

}  // namespace

BatchWindow::Clock::duration BatchWindow::WithJitter(Clock::duration wait) {
  return wait + Clock::duration(absl::Uniform<int64_t>(random_, 0, wait.count() / 4 + 1));
}

void BatchWindow::Admitted(Clock::time_point now) {
  contact_ = now;
  if (lost_since_) window_ = most_;
  lost_since_.reset();
  losses_ = 0;
}

void BatchWindow::Succeeded(Clock::time_point now) {
  Admitted(now);
  window_ = std::min<int64_t>(window_ + 1, most_);
}

void BatchWindow::Refused(Clock::time_point now, int64_t in_flight,
                          std::chrono::milliseconds pushback) {
  window_ = std::clamp<int64_t>(in_flight, 1, window_);
  gate_ = std::max(gate_, now + WithJitter(pushback));
}

void BatchWindow::Lost(Clock::time_point now, Clock::time_point sent) {
  if (lost_since_ && sent <= *lost_since_) return;
  lost_since_ = now;
  window_ = 1;
  gate_ = now + WithJitter(kFirstWait * (1 << std::min(losses_, kMostDoublings)));
  ++losses_;
}

}  // namespace based
