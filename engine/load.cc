#include "engine/load.h"

namespace based {

QueueLoad EngineLoad::queued() const {
  QueueLoad sum;
  for (const TenantLoad& tenant : tenants) {
    sum += tenant.interactive;
    sum += tenant.batch;
  }
  return sum;
}

double EngineLoad::TurnOf(int32_t tenant, double weight, bool batch) const {
  const auto index = static_cast<size_t>(tenant);
  const size_t own_class = batch ? 1 : 0;
  const double idle = now[own_class] - burst_tokens / weight;
  return index < tenants.size() ? std::max(tenants[index].turns[own_class], idle) : idle;
}

void EngineLoad::Queue(int32_t tenant, double weight, bool batch, const QueueLoad& load) {
  const double turn = TurnOf(tenant, weight, batch);
  const auto index = static_cast<size_t>(tenant);
  if (tenants.size() <= index) tenants.resize(index + 1);
  TenantLoad& own = tenants[index];
  own.weight = weight;
  own.is_live = true;
  own.turns[batch ? 1 : 0] = turn + static_cast<double>(load.tokens()) / weight;
  (batch ? own.batch : own.interactive) += load;
  if (waiting_requests++ % every != 0) return;
  const int32_t completions = std::max(1, load.completions);
  waiting.push_back({.prompt_tokens = load.prompt_tokens,
                     .output_tokens = load.output_tokens / completions,
                     .completions = completions,
                     .batch = batch,
                     .turn = turn});
}

}  // namespace based
