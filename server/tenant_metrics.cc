#include "server/tenant_metrics.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"

namespace based {
namespace {

// Brings a counter to what the engine has counted; it never goes back.
void Raise(prometheus::Counter& counter, int64_t to) {
  counter.Increment(std::max(0.0, static_cast<double>(to) - counter.Value()));
}

}  // namespace

TenantMetrics::TenantMetrics(prometheus::Registry& registry)
    : active_(prometheus::BuildGauge()
                  .Name("based_tenant_active_requests")
                  .Help("Requests of a tenant that are queued or running")
                  .Register(registry)),
      requests_(prometheus::BuildCounter()
                    .Name("based_tenant_requests_total")
                    .Help("Requests of a tenant, by whether limits let them in")
                    .Register(registry)),
      tokens_(prometheus::BuildCounter()
                  .Name("based_tenant_tokens_total")
                  .Help("Prompt and output tokens computed for a tenant")
                  .Register(registry)) {}

TenantMetrics::Series TenantMetrics::Add(const std::string& name) {
  return {.active = &active_.Add({{"tenant", name}}),
          .admitted = &requests_.Add({{"tenant", name}, {"result", "admitted"}}),
          .refused = &requests_.Add({{"tenant", name}, {"result", "refused"}}),
          .tokens = &tokens_.Add({{"tenant", name}})};
}

void TenantMetrics::Remove(const Series& series) {
  active_.Remove(series.active);
  requests_.Remove(series.admitted);
  requests_.Remove(series.refused);
  tokens_.Remove(series.tokens);
}

void TenantMetrics::Set(const std::vector<TenantUse>& tenants) {
  absl::flat_hash_set<absl::string_view> names;  // there may be a thousand: no search for each
  for (const TenantUse& use : tenants) names.insert(use.name);
  MutexLock lock(mutex_);
  for (auto it = series_.begin(); it != series_.end();) {
    const bool stays = names.contains(it->first);
    if (!stays) Remove(it->second);
    it = stays ? std::next(it) : series_.erase(it);
  }
  for (const TenantUse& use : tenants) {
    auto found = series_.find(use.name);
    if (found == series_.end()) found = series_.emplace(use.name, Add(use.name)).first;
    const Series& series = found->second;
    series.active->Set(use.active);
    Raise(*series.admitted, use.admitted);
    Raise(*series.refused, use.refused);
    Raise(*series.tokens, use.tokens);
  }
}

}  // namespace based
