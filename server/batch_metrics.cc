#include "server/batch_metrics.h"

#include <algorithm>
#include <string>

namespace based {
namespace {

constexpr std::array<const char*, 4> kStates = {"queued", "running", "completed", "cancelled"};

prometheus::Gauge* NewGauge(prometheus::Registry& registry, const std::string& name,
                            const std::string& help) {
  return &prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
}

// Brings a counter to what has been counted; it never goes back.
void Raise(prometheus::Counter& counter, int64_t to) {
  counter.Increment(std::max(0.0, static_cast<double>(to) - counter.Value()));
}

}  // namespace

BatchMetrics::BatchMetrics(prometheus::Registry& registry)
    : waiting_lines_(NewGauge(registry, "based_batch_waiting_lines",
                              "Lines of running batch jobs that are not in the engine yet")),
      lines_in_flight_(
          NewGauge(registry, "based_batch_lines_in_flight", "Lines of batch jobs in the engine")),
      bytes_(NewGauge(registry, "based_batch_disk_bytes",
                      "Disk that inputs and results of batch jobs take")),
      limit_bytes_(NewGauge(registry, "based_batch_disk_limit_bytes",
                            "Disk that they may take: --batch_disk; 0 without --batch_dir")),
      write_errors_(&prometheus::BuildCounter()
                         .Name("based_batch_write_errors_total")
                         .Help("Writes of batch results that failed and were tried again")
                         .Register(registry)
                         .Add({})) {
  auto& jobs = prometheus::BuildGauge()
                   .Name("based_batch_jobs")
                   .Help("Batch jobs that are kept, by state")
                   .Register(registry);
  for (size_t i = 0; i < kStates.size(); ++i) jobs_[i] = &jobs.Add({{"state", kStates[i]}});
  auto& lines = prometheus::BuildCounter()
                    .Name("based_batch_lines_total")
                    .Help("Lines of batch jobs finished since the start, by what came of them")
                    .Register(registry);
  succeeded_ = &lines.Add({{"outcome", "result"}});
  failed_ = &lines.Add({{"outcome", "error"}});
}

void BatchMetrics::Set(const BatchUse& use) {
  MutexLock lock(mutex_);
  const std::array<int64_t, 4> jobs = {use.queued, use.running, use.completed, use.cancelled};
  for (size_t i = 0; i < jobs.size(); ++i) jobs_[i]->Set(static_cast<double>(jobs[i]));
  waiting_lines_->Set(static_cast<double>(use.waiting_lines));
  lines_in_flight_->Set(static_cast<double>(use.in_flight));
  bytes_->Set(static_cast<double>(use.bytes));
  limit_bytes_->Set(static_cast<double>(use.limit_bytes));
  Raise(*succeeded_, use.counts.succeeded);
  Raise(*failed_, use.counts.failed);
  Raise(*write_errors_, use.counts.write_errors);
}

}  // namespace based
