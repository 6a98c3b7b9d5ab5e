// Where the engine thread's time goes: the phases of the latest steps, kept always (a step costs
// one lock and one copy) and summed up when somebody asks. Thread-safe.
#ifndef BASED_SERVER_STEP_PROFILE_H_
#define BASED_SERVER_STEP_PROFILE_H_

#include <array>
#include <atomic>
#include <chrono>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/observer.h"
#include "engine/step_cost.h"
#include "kernels/base/mutex.h"

namespace based {

struct PhaseSummary {
  absl::string_view phase;  // "plan", "launch", "collect", "commit", and "step", launch to collect
  double mean_us = 0;
  double p50_us = 0;
  double p99_us = 0;
  double max_us = 0;
};

struct ProfileSummary {
  int64_t steps = 0;
  double seconds = 0;  // between the first and the last of them
  double decode_tokens = 0, prefill_tokens = 0, sequences = 0;  // mean per step
  std::array<PhaseSummary, 5> phases;
};

// An Observer that hands everything on to `next`.
class StepProfile final : public Observer {
 public:
  static constexpr size_t kMostSteps = 16'384;

  // `next` must outlive this.
  explicit StepProfile(Observer& next) : next_(next) {}

  void OnStep(const StepStats& stats) override;
  void OnSlots(int32_t active, int32_t free, int32_t queued) override {
    rounds_.fetch_add(1, std::memory_order_relaxed);
    next_.OnSlots(active, free, queued);
  }
  void OnParks(int32_t parks, int32_t resumes) override { next_.OnParks(parks, resumes); }
  void OnStateSaved(std::chrono::nanoseconds took) override { next_.OnStateSaved(took); }
  void OnStateRestored(std::chrono::nanoseconds took) override { next_.OnStateRestored(took); }
  void OnConstraint(const absl::Status& status, bool reused,
                    std::chrono::nanoseconds took) override {
    next_.OnConstraint(status, reused, took);
  }
  void OnFirstToken(Priority priority, std::chrono::nanoseconds since_submit) override {
    next_.OnFirstToken(priority, since_submit);
  }
  void OnInterToken(Priority priority, std::chrono::nanoseconds gap) override {
    next_.OnInterToken(priority, gap);
  }
  void OnFinished(Priority priority, const Finished& finished) override {
    next_.OnFinished(priority, finished);
  }
  void OnTotals(const RequestTotals& totals) override { next_.OnTotals(totals); }
  void OnError(const absl::Status& status) override { next_.OnError(status); }
  void OnRejected(const absl::Status& status) override { next_.OnRejected(status); }

  // How often the engine thread has told its counts: it does in every round of its loop.
  int64_t rounds() const { return rounds_.load(std::memory_order_relaxed); }

  // Tokens per second when `sequences` decode in every step and nothing else does, as far as the
  // steps so far tell; 0 while none has decoded.
  double DecodeTokensPerSecond(int32_t sequences) const;

  // Of the steps collected in the last `window`, at most kMostSteps.
  ProfileSummary Summarize(std::chrono::nanoseconds window) const;

 private:
  struct Record {
    Clock::time_point at;
    StepStats stats;
  };

  std::vector<Record> Since(Clock::time_point begin) const;

  Observer& next_;
  std::atomic<int64_t> rounds_{0};
  mutable Mutex mutex_;
  std::vector<Record> ring_ ABSL_GUARDED_BY(mutex_);
  size_t newest_ ABSL_GUARDED_BY(mutex_) = 0;  // place of the next record once the ring is full
  Clock::time_point last_step_ ABSL_GUARDED_BY(mutex_);
  StepCost cost_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace based

#endif  // BASED_SERVER_STEP_PROFILE_H_
