// A sink that keeps what it hears, for tests to wait on.
#ifndef BASED_TESTS_ENGINE_COLLECTING_SINK_H_
#define BASED_TESTS_ENGINE_COLLECTING_SINK_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"
#include "kernels/base/mutex.h"

namespace based {

class CollectingSink final : public TokenSink {
 public:
  // Refuses deltas after this many, as a full queue does; -1: never.
  explicit CollectingSink(int64_t capacity = -1) : capacity_(capacity) {}

  void OnStarted(const Started& started) override {
    MutexLock lock(mutex_);
    started_ = started;
    changed_.NotifyAll();
  }
  bool OnDelta(Delta delta) override {
    MutexLock lock(mutex_);
    if (deltas_ == capacity_) return false;
    ++deltas_;
    text_ += delta.text;
    token_ids_.insert(token_ids_.end(), delta.token_ids.begin(), delta.token_ids.end());
    changed_.NotifyAll();
    return true;
  }
  void OnFinished(const Finished& finished) override {
    MutexLock lock(mutex_);
    ++endings_;
    finished_ = finished;
    changed_.NotifyAll();
  }
  void OnError(const absl::Status& status) override {
    MutexLock lock(mutex_);
    ++endings_;
    error_ = status;
    changed_.NotifyAll();
  }

  // Each waits for up to a minute.
  bool WaitForEnd() {
    return WaitFor([this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return endings_ > 0; });
  }
  bool WaitForDeltas(int64_t count) {
    return WaitFor([this, count]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return deltas_ >= count; });
  }

  // Read after WaitForEnd.
  const std::optional<Started>& started() const { return started_; }
  const std::optional<Finished>& finished() const { return finished_; }
  const absl::Status& error() const { return error_; }
  const std::string& text() const { return text_; }
  const std::vector<int32_t>& token_ids() const { return token_ids_; }
  int endings() const { return endings_; }

 private:
  template <typename Condition>
  bool WaitFor(Condition condition) {
    const auto deadline = Clock::now() + std::chrono::minutes(1);
    MutexLock lock(mutex_);
    while (!condition() && Clock::now() < deadline) changed_.WaitUntil(mutex_, deadline);
    return condition();
  }

  const int64_t capacity_;
  Mutex mutex_;
  CondVar changed_;
  std::optional<Started> started_;
  std::optional<Finished> finished_;
  absl::Status error_;
  std::string text_;
  std::vector<int32_t> token_ids_;
  int64_t deltas_ = 0;
  int endings_ = 0;
};

}  // namespace based

#endif  // BASED_TESTS_ENGINE_COLLECTING_SINK_H_
