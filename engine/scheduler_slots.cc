// The scheduler's slots: who takes one next, and who makes room for that.
#include <algorithm>
#include <limits>
#include <tuple>
#include <utility>

#include "engine/scheduler.h"
#include "engine/sequence.h"
#include "kernels/base/check.h"

namespace based {

QueueLoad CostOf(const SequenceSpec& spec) {
  QueueLoad cost{.requests = 1,
                 .prompt_tokens = static_cast<int64_t>(spec.prompt.size()),
                 .output_tokens = spec.max_tokens * spec.completions,
                 .completions = spec.completions};
  if (spec.continuations == nullptr) return cost;
  for (const Continuation& continuation : *spec.continuations) {
    cost.prompt_tokens += static_cast<int64_t>(continuation.ids.size());
  }
  return cost;
}

Scheduler::Tenant& Scheduler::TenantOf(const Sequence& sequence) {
  const auto index = static_cast<size_t>(sequence.spec.tenant);
  if (tenants_.size() <= index) tenants_.resize(index + 1);
  return tenants_[index];
}

void Scheduler::TakeSlot(Sequence& sequence) {
  sequence.slot = slots_.Take();
  sequence.entered = plans_;
  sequence.waiting_since = now_;
  ++TenantOf(sequence).slots;
  if (sequence.spec.held_slots != nullptr) sequence.spec.held_slots->Take(sequence.slot);
  if (sequence.yields) ++yielding_slots_;
}

void Scheduler::GiveSlot(Sequence& sequence) {
  slots_.Give(sequence.slot);
  if (sequence.spec.held_slots != nullptr) sequence.spec.held_slots->Give(sequence.slot);
  sequence.slot = kNone;
  --TenantOf(sequence).slots;
  if (sequence.yields) --yielding_slots_;
}

void Scheduler::Admit(StepPlan& plan, std::vector<SchedulerEvent>& events) {
  queue_.Age(now_ - options_.batch_patience);
  for (Sequence* sequence : parked_) AgeIfDue(*sequence);
  while (FillSlot(plan, events)) {
  }
}

// One sequence takes a slot; false when there is none for whose turn it is. Turns: interactive work
// before batch, what was parked before what is queued; but a tenant that is behind its share goes
// before what was parked for that.
bool Scheduler::FillSlot(StepPlan& plan, std::vector<SchedulerEvent>& events) {
  const FairQueue::Entry* front = queue_.Front(/*batch=*/false);
  const bool entitled = front != nullptr && queue_.FrontIsBehind(/*batch=*/false) &&
                        SlotExcess()[static_cast<size_t>(front->tenant)] < 0;
  Sequence* parked = NextParked(/*yields=*/false);
  if (parked != nullptr && (!entitled || parked->aged)) {
    if (!MakeRoom(*parked, /*entitled=*/false, plan)) return false;
    Resume(*parked, plan);
    return true;
  }
  if (front != nullptr) {
    Sequence& sequence = *sequences_.at(front->id).front();
    sequence.yields = false;
    sequence.aged = front->aged;
    if (!MayAdmit(sequence) || !MakeRoom(sequence, entitled, plan)) return false;
    Enter(/*batch=*/false, plan, events);
    return true;
  }
  if (slots_.free() <= options_.reserved_slots) return false;
  parked = NextParked(/*yields=*/true);
  if (parked != nullptr) {
    Resume(*parked, plan);
    return true;
  }
  front = queue_.Front(/*batch=*/true);
  if (front == nullptr || !MayAdmit(*sequences_.at(front->id).front())) return false;
  Enter(/*batch=*/true, plan, events);
  return true;
}

// Slots that a fork of batch work leaves free: one may always be taken, or its source would wait
// for good.
int32_t Scheduler::KeptFromForks() const {
  return std::clamp(slots_.total() - 2, 0, options_.reserved_slots);
}

// A slot must be left that is no waiting source, and that its forks may take.
bool Scheduler::MayBecomeSource(bool yields) const {
  const int32_t kept = yields ? KeptFromForks() : 0;
  return pending_sources_ + 1 < slots_.total() - kept;
}

bool Scheduler::MayAdmit(const Sequence& sequence) const {
  return sequence.forks_left == 0 || MayBecomeSource(sequence.yields);
}

// The front of the queue takes a slot. REQUIRES: there is a front, and a slot is free.
void Scheduler::Enter(bool batch, StepPlan& plan, std::vector<SchedulerEvent>& events) {
  const bool behind = queue_.FrontIsBehind(batch);
  const FairQueue::Entry entry = queue_.Pop(batch);
  Sequence& sequence = *sequences_.at(entry.id).front();
  const SequenceSpec& spec = sequence.spec;
  sequence.charged_batch = batch;
  sequence.behind = behind;
  TakeSlot(sequence);
  if (spec.rules != nullptr) {
    sequence.rules = std::make_unique<DrawRules>(*spec.rules, spec.prompt);
  }
  Restore(sequence, plan);
  JoinPrefill(sequence);
  events.push_back({.id = spec.id, .kind = SchedulerEvent::Kind::kStarted});
  if (sequence.forks_left == 0) return;
  ++pending_sources_;
  if (sequence.prompt_left() == 0) LeavePrefill(sequence);
  StartForks(plan);
}

// Tenants that were behind their share come first; the others take turns, a tenant's k-th prompt
// behind the k-th of every other.
void Scheduler::JoinPrefill(Sequence& sequence) {
  sequence.phase = Sequence::Phase::kPrefilling;
  const int32_t tenant = sequence.spec.tenant;
  const auto own =
      std::count_if(prefilling_.begin(), prefilling_.end(),
                    [&](const Sequence* other) { return other->spec.tenant == tenant; });
  std::vector<std::ptrdiff_t> seen(tenants_.size(), 0);
  auto at = prefilling_.begin();
  for (auto it = prefilling_.begin(); it != prefilling_.end(); ++it) {
    const bool turn = seen[static_cast<size_t>((*it)->spec.tenant)]++ <= own;
    if (sequence.behind ? (*it)->behind : turn) at = std::next(it);
  }
  prefilling_.insert(at, &sequence);
}

// True when a slot is free, if need be after another sequence was parked for `claimant`.
bool Scheduler::MakeRoom(const Sequence& claimant, bool entitled, StepPlan& plan) {
  if (slots_.free() > (claimant.yields ? KeptFromForks() : 0)) return true;
  Sequence* victim = Victim(claimant, entitled);
  if (victim == nullptr) return false;
  Park(*victim, plan);
  return true;
}

bool Scheduler::MayPark(const Sequence& sequence) const {
  // With a step in flight.
  const bool ends = sequence.draws > 0 && sequence.draws >= sequence.spec.max_tokens;
  return sequence.forks_left == 0 && sequence.entered != plans_ && !sequence.aged && !ends;
}

// Who makes room for `claimant`: for interactive work the batch sequence that came last; for one
// that is entitled to a slot of others, the latest of the tenant that has most beyond its share.
// Null: nobody.
Scheduler::Sequence* Scheduler::Victim(const Sequence& claimant, bool entitled) {
  if (images_made_ == options_.max_parked && spare_images_.empty()) return nullptr;
  if (claimant.yields) return nullptr;
  const std::vector<double> excess = entitled ? SlotExcess() : std::vector<double>();
  const auto rank = [&](const Sequence& sequence) {
    const double batch = std::numeric_limits<double>::max();
    const double other = entitled ? excess[static_cast<size_t>(sequence.spec.tenant)] : 0;
    return std::make_tuple(sequence.yields ? batch : other, sequence.entered, sequence.spec.id);
  };
  Sequence* best = nullptr;
  for (const std::deque<Sequence*>* running : {&decoding_, &prefilling_}) {
    for (Sequence* sequence : *running) {
      if (!MayPark(*sequence) || std::get<0>(rank(*sequence)) < 1) continue;
      if (best == nullptr || rank(*sequence) > rank(*best)) best = sequence;
    }
  }
  return best;
}

// Slots of each tenant beyond its share of all, by weight among the tenants that have requests.
std::vector<double> Scheduler::SlotExcess() const {
  double weights = 0;
  for (const Tenant& tenant : tenants_) weights += tenant.live > 0 ? tenant.weight : 0;
  std::vector<double> excess;
  excess.reserve(tenants_.size());
  for (const Tenant& tenant : tenants_) {
    excess.push_back(tenant.slots - slots_.total() * tenant.weight / weights);
  }
  return excess;
}

void Scheduler::Park(Sequence& sequence, StepPlan& plan) {
  if (spare_images_.empty()) {
    spare_images_.push_back(std::make_shared<StateImage>());
    ++images_made_;
  }
  sequence.image = std::move(spare_images_.back());
  spare_images_.pop_back();
  plan.parks.push_back({sequence.slot, sequence.position, sequence.image});
  std::erase(prefilling_, &sequence);
  std::erase(decoding_, &sequence);
  sequence.phase = Sequence::Phase::kParked;
  sequence.waiting_since = now_;
  GiveSlot(sequence);
  parked_.push_back(&sequence);
}

// The sequence parked longest that can go on: its latest draw must be known, since the step that
// made it is not the one before any more.
Scheduler::Sequence* Scheduler::NextParked(bool yields) {
  for (Sequence* sequence : parked_) {
    if (sequence->yields == yields && sequence->draw_is_known()) return sequence;
  }
  return nullptr;
}

// REQUIRES: a slot is free.
void Scheduler::Resume(Sequence& sequence, StepPlan& plan) {
  std::erase(parked_, &sequence);
  TakeSlot(sequence);
  plan.resumes.push_back({sequence.slot, sequence.position, sequence.image});
  resumed_images_.push_back(std::move(sequence.image));
  if (sequence.draws == 0) return JoinPrefill(sequence);
  sequence.phase = Sequence::Phase::kDecoding;
  decoding_.push_back(&sequence);
}

void Scheduler::AgeIfDue(Sequence& sequence) {
  if (sequence.aged || now_ - sequence.waiting_since < options_.batch_patience) return;
  if (sequence.yields && sequence.slot != kNone) --yielding_slots_;
  sequence.yields = false;
  sequence.aged = true;
}

void Scheduler::CountServed(Sequence& sequence, int32_t tokens) {
  const auto tenant = static_cast<size_t>(sequence.spec.tenant);
  if (served_.size() <= tenant) served_.resize(tenant + 1);
  served_[tenant] += tokens;
  sequence.waiting_since = now_;
}

// The accounts of a sequence that had a slot and ends: its tenant gets back what it did not take.
void Scheduler::Settle(Sequence& sequence) {
  const SequenceSpec& spec = sequence.spec;
  const int64_t undrawn = spec.max_tokens * (1 + sequence.forks_left) - sequence.draws;
  const int64_t unfed =
      spec.continuations == nullptr ? sequence.unfed() : sequence.UnfedContinuations();
  queue_.Refund(spec.tenant, sequence.charged_batch, unfed + undrawn);
  if (sequence.draws > 0) drawn_.Add(sequence.committed, spec.max_tokens);
}

// Steps for each token of batch work, which takes turns at the rows that it is left.
double Scheduler::BatchPace() const {
  if (!limits_batch_) return 1;
  const auto yields = [](const Sequence* sequence) { return sequence->yields; };
  const auto batch = std::count_if(decoding_.begin(), decoding_.end(), yields);
  return std::max(1.0, static_cast<double>(batch) / std::max(1, batch_limit_));
}

SequenceLoad Scheduler::LoadOf(const Sequence& sequence, double batch_pace) const {
  return {.prompt_tokens = sequence.unfed(),
          .output_tokens = sequence.spec.max_tokens,
          .drawn_tokens = sequence.committed,
          .completions = 1 + sequence.forks_left,
          .pace = sequence.yields ? batch_pace : 1,
          .batch = sequence.yields};
}

EngineLoad Scheduler::load() const {
  const int32_t total = slots_.total();
  const int32_t park_room = options_.max_parked - parked();
  EngineLoad load{.slots = total,
                  .free_slots = slots_.free(),
                  .reserved_slots = options_.reserved_slots,
                  .parkable = std::min(yielding_slots_, park_room),
                  .park_room = park_room,
                  .every = EngineLoad::EveryOf(total, queue_.size()),
                  .drawn = drawn_,
                  .row_budget = options_.token_budget};
  const double batch_pace = BatchPace();
  const auto every = static_cast<size_t>(load.every);
  const auto add = [&](const std::deque<Sequence*>& from, size_t begin, auto& to) {
    for (size_t i = begin; i < from.size(); i += every) to.push_back(LoadOf(*from[i], batch_pace));
  };
  size_t before = 0;
  for (const auto* from : {&decoding_, &prefilling_, &sources_}) {
    add(*from, (every - before % every) % every, load.running);
    before += from->size();
  }
  add(parked_, 0, load.parked);
  queue_.AddTo(load);
  if (load.tenants.size() < tenants_.size()) load.tenants.resize(tenants_.size());
  for (size_t i = 0; i < tenants_.size(); ++i) {
    load.tenants[i].is_live = tenants_[i].live > 0;
    load.tenants[i].slots = tenants_[i].slots;
    if (tenants_[i].live > 0) load.tenants[i].weight = tenants_[i].weight;
  }
  return load;
}

}  // namespace based
