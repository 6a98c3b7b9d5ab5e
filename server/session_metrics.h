// Prometheus series of sessions. Thread-safe.
#ifndef BASED_SERVER_SESSION_METRICS_H_
#define BASED_SERVER_SESSION_METRICS_H_

#include "engine/session_store.h"
#include "kernels/base/mutex.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/registry.h"

namespace based {

class SessionMetrics {
 public:
  // `registry` must outlive this object.
  explicit SessionMetrics(prometheus::Registry& registry);

  void Set(const SessionUse& use);

 private:
  Mutex mutex_;  // counters are raised by one thread at a time
  prometheus::Gauge* sessions_;
  prometheus::Gauge* bytes_;
  prometheus::Gauge* limit_bytes_;
  prometheus::Counter* created_;
  prometheus::Counter* resumed_;
  prometheus::Counter* evicted_memory_;
  prometheus::Counter* evicted_idle_;
  prometheus::Counter* reused_tokens_;
  prometheus::Counter* hits_;
  prometheus::Counter* misses_;
  prometheus::Counter* busy_;
  prometheus::Counter* mismatches_;
};

}  // namespace based

#endif  // BASED_SERVER_SESSION_METRICS_H_
