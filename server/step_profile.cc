#include "server/step_profile.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace based {
namespace {

double Microseconds(std::chrono::nanoseconds duration) {
  return std::chrono::duration<double, std::micro>(duration).count();
}

// The value that `share` of the sorted `values`, at least one, do not exceed.
double Percentile(const std::vector<double>& values, double share) {
  const auto rank = static_cast<size_t>(share * static_cast<double>(values.size()));
  return values[std::min(rank, values.size() - 1)];
}

PhaseSummary SummarizePhase(absl::string_view phase, std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return {.phase = phase,
          .mean_us = std::accumulate(values.begin(), values.end(), 0.0) /
                     static_cast<double>(values.size()),
          .p50_us = Percentile(values, 0.50),
          .p99_us = Percentile(values, 0.99),
          .max_us = values.back()};
}

}  // namespace

void StepProfile::OnStep(const StepStats& stats) {
  {
    MutexLock lock(mutex_);
    const Record record = {.at = Clock::now(), .stats = stats};
    if (ring_.size() < kMostSteps) {
      ring_.push_back(record);
    } else {
      ring_[newest_] = record;
      newest_ = (newest_ + 1) % kMostSteps;
    }
    // With two steps in flight, one began when the one before had ended.
    const auto ran = std::min<Clock::duration>(stats.duration, record.at - last_step_);
    last_step_ = record.at;
    cost_.Observe(stats.decode_tokens, stats.prefill_tokens,
                  std::chrono::duration<double>(ran).count());
  }
  next_.OnStep(stats);
}

double StepProfile::DecodeTokensPerSecond(int32_t sequences) const {
  MutexLock lock(mutex_);
  const double seconds = cost_.DecodeSeconds(sequences);
  return seconds > 0 ? sequences / seconds : 0;
}

std::vector<StepProfile::Record> StepProfile::Since(Clock::time_point begin) const {
  std::vector<Record> records;
  MutexLock lock(mutex_);
  for (size_t i = 0; i < ring_.size(); ++i) {
    const Record& record = ring_[(newest_ + i) % ring_.size()];
    if (record.at >= begin) records.push_back(record);
  }
  return records;
}

ProfileSummary StepProfile::Summarize(std::chrono::nanoseconds window) const {
  constexpr std::pair<const char*, std::chrono::nanoseconds StepStats::*> kPhases[] = {
      {"plan", &StepStats::plan},
      {"launch", &StepStats::launch},
      {"collect", &StepStats::wait},
      {"commit", &StepStats::commit},
      {"step", &StepStats::duration}};
  const std::vector<Record> records = Since(Clock::now() - window);
  ProfileSummary summary;
  for (size_t i = 0; i < summary.phases.size(); ++i) summary.phases[i].phase = kPhases[i].first;
  if (records.empty()) return summary;
  const auto count = static_cast<double>(records.size());
  summary.steps = static_cast<int64_t>(records.size());
  summary.seconds = std::chrono::duration<double>(records.back().at - records.front().at).count();
  for (const Record& record : records) {
    summary.decode_tokens += record.stats.decode_tokens / count;
    summary.prefill_tokens += record.stats.prefill_tokens / count;
    summary.sequences += record.stats.sequences / count;
  }
  for (size_t i = 0; i < summary.phases.size(); ++i) {
    std::vector<double> values;
    for (const Record& record : records) {
      values.push_back(Microseconds(record.stats.*kPhases[i].second));
    }
    summary.phases[i] = SummarizePhase(kPhases[i].first, std::move(values));
  }
  return summary;
}

}  // namespace based
