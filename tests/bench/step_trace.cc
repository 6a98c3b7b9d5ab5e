#include "tests/bench/step_trace.h"

#include <cstdio>

#include "tests/bench/serve_load.h"

namespace based {

void StepTrace::OnStep(const StepStats& stats) {
  MutexLock lock(mutex_);
  steps_.push_back({Clock::now(), stats});
}

void StepTrace::Clear() {
  MutexLock lock(mutex_);
  steps_.clear();
}

void StepTrace::Print() {
  MutexLock lock(mutex_);
  std::vector<Step> decode, mixed;
  for (const Step& step : steps_) (step.stats.prefill_tokens > 0 ? mixed : decode).push_back(step);
  PrintSteps("decode", decode);
  PrintSteps("mixed", mixed);
  std::vector<float> periods;
  for (size_t i = 1; i < steps_.size(); ++i) {
    periods.push_back(
        std::chrono::duration<float>(steps_[i].collected - steps_[i - 1].collected).count());
  }
  std::printf("trace period: p50 %.0f p99 %.0f max %.0f us\n", 1e6 * Quantile(periods, 0.5),
              1e6 * Quantile(periods, 0.99), 1e6 * Quantile(periods, 1));
}

void StepTrace::PrintSteps(const char* name, const std::vector<Step>& steps) {
  if (steps.empty()) return;
  double decode_tokens = 0, prefill_tokens = 0;
  for (const Step& step : steps) {
    decode_tokens += step.stats.decode_tokens;
    prefill_tokens += step.stats.prefill_tokens;
  }
  const auto count = static_cast<double>(steps.size());
  std::printf("trace %s: %zu steps, %.1f decode and %.1f prefill tokens;", name, steps.size(),
              decode_tokens / count, prefill_tokens / count);
  const auto print = [&](const char* phase, std::chrono::nanoseconds StepStats::*field) {
    std::vector<float> values;
    for (const Step& step : steps) {
      values.push_back(std::chrono::duration<float, std::micro>(step.stats.*field).count());
    }
    std::printf(" %s %.0f/%.0f", phase, Quantile(values, 0.5), Quantile(values, 0.99));
  };
  print("plan", &StepStats::plan);
  print("launch", &StepStats::launch);
  print("wait", &StepStats::wait);
  print("commit", &StepStats::commit);
  print("launch-to-collect", &StepStats::duration);
  std::printf(" us (p50/p99)\n");
}

}  // namespace based
