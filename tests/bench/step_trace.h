// Where the engine thread's time goes: an Observer that keeps every step's figures.
#ifndef BASED_TESTS_BENCH_STEP_TRACE_H_
#define BASED_TESTS_BENCH_STEP_TRACE_H_

#include <vector>

#include "engine/observer.h"
#include "kernels/base/mutex.h"

namespace based {

class StepTrace final : public Observer {
 public:
  void OnStep(const StepStats& stats) override;
  void OnSlots(int32_t, int32_t, int32_t) override {}
  void OnFirstToken(Priority, std::chrono::nanoseconds) override {}
  void OnInterToken(Priority, std::chrono::nanoseconds) override {}
  void OnFinished(Priority, const Finished&) override {}
  void OnError(const absl::Status&) override {}
  void OnRejected(const absl::Status&) override {}

  // Forgets the steps so far.
  void Clear();
  // One line each for steps with and without prefill: their number, mean tokens and the median and
  // 99th percentile of each phase in microseconds.
  void Print();

 private:
  struct Step {
    Clock::time_point collected;
    StepStats stats;
  };
  static void PrintSteps(const char* name, const std::vector<Step>& steps);

  Mutex mutex_;
  std::vector<Step> steps_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace based

#endif  // BASED_TESTS_BENCH_STEP_TRACE_H_
