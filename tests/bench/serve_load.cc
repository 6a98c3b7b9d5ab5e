#include "tests/bench/serve_load.h"

#include <algorithm>
#include <utility>

namespace based {
namespace {

float SecondsBetween(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<float>(to - from).count();
}

}  // namespace

void LoadStream::Start() {
  {
    MutexLock lock(mutex_);
    ended_ = false;
  }
  Begin();
}

void LoadStream::Begin() {
  ++ask_.seed;
  first_ = true;
  asked_ = Clock::now();
  target_.Start(ask_, *this);
}

void LoadStream::OnTokens(int64_t tokens) {
  const Clock::time_point now = Clock::now();
  if (first_) {
    record_.first_token.push_back(SecondsBetween(asked_, now));
  } else {
    record_.gaps.push_back({now, SecondsBetween(last_, now)});
  }
  first_ = false;
  last_ = now;
  ++record_.messages;
  record_.tokens.insert(record_.tokens.end(), static_cast<size_t>(tokens), now);
}

void LoadStream::OnEnd(const absl::Status& status) {
  bool again = false;
  {
    MutexLock lock(mutex_);
    if (!stopping_ && !status.ok()) record_.error = status;
    again = repeat_ && !stopping_ && status.ok();
    ended_ = !again;
    // Under the lock: once ended, the waiter may destroy this object.
    if (ended_) changed_.NotifyAll();
  }
  if (again) Begin();
}

void LoadStream::Stop() {
  MutexLock lock(mutex_);
  stopping_ = true;
}

void LoadStream::Wait() {
  MutexLock lock(mutex_);
  while (!ended_) changed_.Wait(mutex_);
}

bool LoadStream::ended() {
  MutexLock lock(mutex_);
  return ended_;
}

bool LoadStream::WaitFor(std::chrono::seconds limit) {
  const Clock::time_point deadline = Clock::now() + limit;
  MutexLock lock(mutex_);
  while (!ended_ && Clock::now() < deadline) changed_.WaitUntil(mutex_, deadline);
  return ended_;
}

LoadStream::Record LoadStream::Take() { return std::move(record_); }

double Quantile(std::vector<float> values, double q) {
  if (values.empty()) return 0;
  const auto at = static_cast<std::ptrdiff_t>(q * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[static_cast<size_t>(at)];
}

}  // namespace based
