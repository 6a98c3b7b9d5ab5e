// A rate limit: what comes in a second may go in a burst. Pure arithmetic.
#ifndef BASED_ENGINE_TOKEN_BUCKET_H_
#define BASED_ENGINE_TOKEN_BUCKET_H_

#include <algorithm>

#include "engine/request.h"

namespace based {

class TokenBucket {
 public:
  // `per_second` of 0 means no limit.
  void SetRate(double per_second) {
    rate_ = per_second;
    level_ = fresh_ ? capacity() : std::min(level_, capacity());
  }

  // Seconds until `amount` may be taken; 0: now. One larger than a full bucket may be taken when it
  // is full, and is owed afterwards.
  double SecondsUntil(double amount, Clock::time_point now) {
    if (rate_ <= 0) return 0;
    Fill(now);
    return std::max(0.0, (std::min(amount, capacity()) - level_) / rate_);
  }

  void Take(double amount, Clock::time_point now) {
    if (rate_ <= 0) return;
    Fill(now);
    level_ -= amount;
  }

 private:
  double capacity() const { return std::max(1.0, rate_); }

  void Fill(Clock::time_point now) {
    const double seconds = fresh_ ? 0 : std::chrono::duration<double>(now - filled_).count();
    fresh_ = false;
    filled_ = std::max(filled_, now);
    level_ = std::min(capacity(), level_ + rate_ * std::max(0.0, seconds));
  }

  double rate_ = 0;
  double level_ = 0;
  bool fresh_ = true;  // full, and its clock has not begun
  Clock::time_point filled_ = Clock::time_point::min();
};

}  // namespace based

#endif  // BASED_ENGINE_TOKEN_BUCKET_H_
