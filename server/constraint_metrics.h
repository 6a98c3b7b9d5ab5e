// Prometheus series of structured output. Thread-safe.
#ifndef BASED_SERVER_CONSTRAINT_METRICS_H_
#define BASED_SERVER_CONSTRAINT_METRICS_H_

#include <chrono>

#include "absl/status/status.h"
#include "prometheus/counter.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"

namespace based {

class ConstraintMetrics {
 public:
  // `registry` must outlive this object.
  explicit ConstraintMetrics(prometheus::Registry& registry);

  // See Observer::OnConstraint.
  void OnConstraint(const absl::Status& status, bool reused, std::chrono::nanoseconds took);
  void OnForcedTokens(int32_t tokens) { forced_->Increment(tokens); }

 private:
  prometheus::Counter* compiled_;
  prometheus::Counter* reused_;
  prometheus::Counter* refused_;
  prometheus::Histogram* seconds_;
  prometheus::Counter* forced_;
};

}  // namespace based

#endif  // BASED_SERVER_CONSTRAINT_METRICS_H_
