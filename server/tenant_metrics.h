// Prometheus series of each tenant: as many as are configured, those of tenants that are gone
// removed. Thread-safe.
#ifndef BASED_SERVER_TENANT_METRICS_H_
#define BASED_SERVER_TENANT_METRICS_H_

#include <map>
#include <string>
#include <vector>

#include "engine/tenant.h"
#include "kernels/base/mutex.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/registry.h"

namespace based {

class TenantMetrics {
 public:
  // `registry` must outlive this object.
  explicit TenantMetrics(prometheus::Registry& registry);

  // Every tenant that there is. The label of the default tenant is empty.
  void Set(const std::vector<TenantUse>& tenants);

 private:
  struct Series {
    prometheus::Gauge* active;
    prometheus::Counter* admitted;
    prometheus::Counter* refused;
    prometheus::Counter* tokens;
  };

  Series Add(const std::string& name);
  void Remove(const Series& series);

  prometheus::Family<prometheus::Gauge>& active_;
  prometheus::Family<prometheus::Counter>& requests_;
  prometheus::Family<prometheus::Counter>& tokens_;

  Mutex mutex_;
  std::map<std::string, Series> series_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace based

#endif  // BASED_SERVER_TENANT_METRICS_H_
