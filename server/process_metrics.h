// Series about the process itself: memory, processor time, descriptors. Thread-safe.
#ifndef BASED_SERVER_PROCESS_METRICS_H_
#define BASED_SERVER_PROCESS_METRICS_H_

#include "kernels/base/mutex.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/registry.h"

namespace based {

class ProcessMetrics {
 public:
  // `registry` must outlive this object.
  explicit ProcessMetrics(prometheus::Registry& registry);

  // Brings the series to this moment.
  void Read();

 private:
  prometheus::Gauge& resident_bytes_;
  prometheus::Gauge& open_fds_;
  prometheus::Gauge& max_fds_;
  Mutex mutex_;  // one reader of the processor time at a time: it only grows
  prometheus::Counter& cpu_seconds_;
};

}  // namespace based

#endif  // BASED_SERVER_PROCESS_METRICS_H_
