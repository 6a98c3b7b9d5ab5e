// Prometheus series of batch jobs. Thread-safe.
#ifndef BASED_SERVER_BATCH_METRICS_H_
#define BASED_SERVER_BATCH_METRICS_H_

#include <array>

#include "kernels/base/mutex.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/registry.h"
#include "server/batch_jobs.h"

namespace based {

class BatchMetrics {
 public:
  // `registry` must outlive this object.
  explicit BatchMetrics(prometheus::Registry& registry);

  void Set(const BatchUse& use);

 private:
  Mutex mutex_;                             // counters are raised by one thread at a time
  std::array<prometheus::Gauge*, 4> jobs_;  // by kStates
  prometheus::Gauge* waiting_lines_;
  prometheus::Gauge* lines_in_flight_;
  prometheus::Gauge* bytes_;
  prometheus::Gauge* limit_bytes_;
  prometheus::Counter* succeeded_;
  prometheus::Counter* failed_;
  prometheus::Counter* write_errors_;
};

}  // namespace based

#endif  // BASED_SERVER_BATCH_METRICS_H_
