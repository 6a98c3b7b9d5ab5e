#include "engine/wait_model.h"

#include <algorithm>
#include <utility>

namespace based {
namespace {

// Of one kind, in the order in which they enter.
std::vector<const SequenceLoad*> WaitingOf(const EngineLoad& load, bool batch) {
  std::vector<const SequenceLoad*> waiting;
  waiting.reserve(load.waiting.size());
  for (const SequenceLoad& sequence : load.waiting) {
    if (sequence.batch == batch) waiting.push_back(&sequence);
  }
  const auto by_turn = [](const auto* a, const auto* b) { return a->turn < b->turn; };
  // One tenant's are.
  if (!std::is_sorted(waiting.begin(), waiting.end(), by_turn)) {
    std::stable_sort(waiting.begin(), waiting.end(), by_turn);
  }
  return waiting;
}

int32_t Scaled(int32_t sequences, const EngineLoad& load) {
  return (sequences + load.every / 2) / load.every;
}

// Batch sequences that make room for what waits and for one more.
int32_t Parks(const EngineLoad& load) {
  int32_t wanted = 1 - Scaled(load.free_slots, load);
  for (const SequenceLoad& sequence : load.waiting) {
    wanted += sequence.batch ? 0 : sequence.completions;
  }
  return std::clamp(wanted, 0, Scaled(load.parkable, load));
}

}  // namespace

void WaitModel::SetLoad(EngineLoad load) {
  load_ = std::move(load);
  simulation_.reset();
  batch_.reset();
}

void WaitModel::Queue(int32_t tenant, double weight, bool batch, const QueueLoad& load) {
  const size_t waiting = load_.waiting.size();
  load_.Queue(tenant, weight, batch, load);
  if (load_.waiting.size() == waiting) return;
  const SequenceLoad& last = load_.waiting.back();
  batch_.reset();
  if (batch || !simulation_.has_value()) return;
  const bool is_last = interactive_.turns.empty() || interactive_.turns.back() <= last.turn;
  if (!is_last || load_.parkable > 0) return simulation_.reset();
  interactive_.turns.push_back(last.turn);
  simulation_->Enter(last);
  interactive_.seconds.push_back(simulation_->AwaitSlot());
}

// Before anything is simulated: more slots are free than are waited for.
bool WaitModel::HasRoom(bool batch) const {
  int32_t ahead = 0;
  for (const TenantLoad& other : load_.tenants) {
    ahead += other.interactive.completions + (batch ? other.batch.completions : 0);
  }
  if (!batch && load_.parkable > ahead) return true;
  return load_.free_slots - (batch ? load_.reserved_slots : 0) > ahead;
}

// The scheduler parks sequences of others for a tenant that is behind its share of tokens and
// slots.
bool WaitModel::MayDisplace(int32_t tenant, double weight) const {
  const auto index = static_cast<size_t>(tenant);
  double weights = 0;
  for (size_t i = 0; i < load_.tenants.size(); ++i) {
    if (i != index && load_.tenants[i].is_live) weights += load_.tenants[i].weight;
  }
  if (weights == 0 || load_.TurnOf(tenant, weight, false) >= load_.now[0]) return false;
  const TenantLoad own = index < load_.tenants.size() ? load_.tenants[index] : TenantLoad();
  const int32_t ahead = own.interactive.completions;
  const double share = load_.slots * weight / (weights + weight);
  return ahead < load_.park_room && own.slots + ahead < share;
}

std::optional<double> WaitModel::Predict(int32_t tenant, double weight, bool batch) const {
  if (HasRoom(batch)) return 0;
  if (load_.step_seconds <= 0) return std::nullopt;
  if (!batch && MayDisplace(tenant, weight)) return 0;
  const Turns& own = batch ? Batch() : Interactive();
  const auto after =
      std::upper_bound(own.turns.begin(), own.turns.end(), load_.TurnOf(tenant, weight, batch));
  return own.seconds[static_cast<size_t>(after - own.turns.begin())];
}

std::optional<double> WaitModel::PredictLast() const {
  if (HasRoom(/*batch=*/false)) return 0;
  if (load_.step_seconds <= 0) return std::nullopt;
  return Interactive().seconds.back();
}

const WaitModel::Turns& WaitModel::Interactive() const {
  if (simulation_.has_value()) return interactive_;
  interactive_ = Turns();
  simulation_.emplace(load_, Parks(load_));
  for (const SequenceLoad& sequence : load_.parked) {
    if (!sequence.batch) simulation_->Enter(sequence);
  }
  for (const SequenceLoad* sequence : WaitingOf(load_, false)) {
    interactive_.turns.push_back(sequence->turn);
    interactive_.seconds.push_back(simulation_->AwaitSlot());
    simulation_->Enter(*sequence);
  }
  interactive_.seconds.push_back(simulation_->AwaitSlot());
  return interactive_;
}

// Behind all interactive work, and what was parked.
const WaitModel::Turns& WaitModel::Batch() const {
  if (batch_.has_value()) return *batch_;
  Interactive();
  SlotSimulation simulation = *simulation_;
  batch_.emplace();
  for (int32_t i = 0; i < Scaled(load_.reserved_slots, load_); ++i) simulation.Reserve();
  for (const SequenceLoad& sequence : load_.parked) {
    if (sequence.batch) simulation.Enter(sequence);
  }
  int32_t parks = Parks(load_);
  for (auto it = load_.running.rbegin(); it != load_.running.rend() && parks > 0; ++it) {
    if (!it->batch) continue;
    simulation.Enter(*it);
    --parks;
  }
  for (const SequenceLoad* sequence : WaitingOf(load_, true)) {
    batch_->turns.push_back(sequence->turn);
    batch_->seconds.push_back(simulation.AwaitSlot());
    simulation.Enter(*sequence);
  }
  batch_->seconds.push_back(simulation.AwaitSlot());
  return *batch_;
}

}  // namespace based
