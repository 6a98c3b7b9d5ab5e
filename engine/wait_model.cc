#include "engine/wait_model.h"

#include <algorithm>

namespace based {
namespace {

double WorkSeconds(const EngineLoad& load, const QueueLoad& ahead) {
  return static_cast<double>(ahead.prompt_tokens) * load.prompt_seconds +
         static_cast<double>(ahead.output_tokens) * load.drawn_share * load.output_seconds;
}

// What stands before a new request of `tenant`.
double SecondsAhead(const EngineLoad& load, int32_t tenant, bool batch) {
  QueueLoad all, own;
  double weights = 0, weight = 1;
  for (size_t i = 0; i < load.tenants.size(); ++i) {
    const TenantLoad& other = load.tenants[i];
    QueueLoad ahead = other.interactive;
    if (batch) ahead += other.batch;
    all += ahead;
    const bool itself = i == static_cast<size_t>(tenant);
    if (itself) {
      own = ahead;
      weight = other.weight;
    }
    if (itself || ahead.requests > 0) weights += other.weight;
  }
  return std::min(WorkSeconds(load, all), WorkSeconds(load, own) * weights / weight);
}

}  // namespace

QueueLoad EngineLoad::queued() const {
  QueueLoad sum;
  for (const TenantLoad& tenant : tenants) {
    sum += tenant.interactive;
    sum += tenant.batch;
  }
  return sum;
}

void EngineLoad::Queue(int32_t tenant, double weight, bool batch, const QueueLoad& load) {
  const auto index = static_cast<size_t>(tenant);
  if (tenants.size() <= index) tenants.resize(index + 1);
  tenants[index].weight = weight;
  (batch ? tenants[index].batch : tenants[index].interactive) += load;
}

std::optional<double> PredictWait(const EngineLoad& load, int32_t tenant, bool batch) {
  int32_t ahead = 0;
  for (const TenantLoad& other : load.tenants) {
    ahead += other.interactive.requests + (batch ? other.batch.requests : 0);
  }
  if (load.free_slots > ahead) return 0;
  if (!batch && load.parkable > ahead) return 0;
  if (load.output_seconds <= 0) return std::nullopt;
  const auto slots = static_cast<double>(load.slots);
  const double steps =
      2 * static_cast<double>(load.running.output_tokens) * load.drawn_share / slots / (slots + 1);
  const double prompts = static_cast<double>(load.running.prompt_tokens) / slots;
  const double first_slot =
      load.free_slots > 0 ? 0 : steps * load.step_seconds + prompts * load.prompt_seconds;
  return first_slot + SecondsAhead(load, tenant, batch);
}

}  // namespace based
