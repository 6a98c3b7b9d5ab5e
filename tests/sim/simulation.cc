#include "tests/sim/simulation.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/scheduler.h"
#include "engine/slot_transfer.h"
#include "tests/sim/alone.h"
#include "tests/sim/scenario.h"
#include "tests/sim/session_book.h"
#include "tests/sim/sim_executable.h"

namespace based {
namespace {

struct Choice {
  int64_t stop_after = -1;  // tokens until a stop string is found
  bool stopping = false;    // found it: hears no more, and the scheduler is told after the events
  bool ended = false;
  int64_t unserved_steps = 0;  // while decoding
  Completion heard;
};

struct Client {
  SequenceSpec spec;
  int64_t cancel_at_step = -1;
  bool cancel_in_flight = false;  // when that step's plans are launched, else before
  int64_t gives_up_after = -1;    // tokens
  bool started = false;
  bool ended = false;
  std::vector<Choice> choices;  // one per completion or continuation
  int64_t tokens = 0;           // of all completions
  std::weak_ptr<const void> lease;
  std::shared_ptr<HeldSlots> held = std::make_shared<HeldSlots>();
  std::string session;  // empty: none
};

class Simulation {
 public:
  Simulation(const Choices& choices, Scenario (*change)(Scenario))
      : random_(choices),
        scenario_(change(DrawScenario(random_))),
        device_(scenario_.model),
        sessions_(device_),
        scheduler_(scenario_.scheduler) {
    if (scenario_.scheduler.batch_rows > 0) batch_rows_ = scenario_.scheduler.batch_rows;
    (void)device_.CreateSlots(scenario_.scheduler.slots);
  }

  SimulationResult Run();

 private:
  int64_t Uniform(int64_t low, int64_t high) { return random_.Uniform(low, high); }
  bool Chance(double share) { return random_.Chance(share); }

  void Arrive();
  void JoinSession(SequenceSpec& spec, Client& client);
  void CancelSome(bool in_flight);
  void PlanAndLaunch();
  void CheckPlan(const StepPlan& plan);
  void CheckBatch(const StepPlan& plan);
  int32_t InteractiveStarted() const;
  int32_t MostPrefill(const StepPlan& plan) const;
  void CheckService(const StepPlan& plan);
  bool KeptForForks(bool batch) const;
  void Transfer(const StepPlan& plan);
  void CheckTurn(const Client& client);
  void CheckPatience();
  void CollectAndCommit();
  void Apply();
  void ApplyStarted(Client& client);
  void ApplyToken(Client& client, const SchedulerEvent& event);
  void EndChoice(Client& client, Choice& choice);
  void Require(bool condition, const std::string& what) {
    if (!condition && result_.error.empty()) {
      result_.error = absl::StrCat("step ", result_.steps, ": ", what);
    }
  }
  void Trace(uint64_t value) {
    result_.trace = SimState(result_.trace, static_cast<int32_t>(value));
  }
  Clock::time_point Now() const { return Clock::time_point(std::chrono::milliseconds(now_ms_)); }

  Choices random_;
  Scenario scenario_;
  SimExecutable device_;
  SessionBook sessions_;
  std::vector<std::pair<RequestId, int32_t>> stops_;
  Scheduler scheduler_;
  std::map<RequestId, Client> clients_;
  std::vector<RequestId> waiting_;        // submitted, not yet started, not yet ended; by arrival
  std::vector<RequestId> prefill_order_;  // admitted, first token not drawn
  int64_t delayed_plans_ = 0;             // in a row, interactive work waited for batch work
  int64_t idle_plans_ = 0;                // in a row, a parked sequence waited beside a free slot
  std::vector<SchedulerEvent> events_;
  std::deque<StepPlan> in_flight_;
  int32_t batch_rows_ = -1;  // below 0: as many as interactive decodes
  int64_t now_ms_ = 0;
  int64_t step_ = 0;
  SimulationResult result_;
};

void Simulation::Arrive() {
  if (!Chance(std::min(1.0, scenario_.arrivals_per_step / scenario_.burst))) return;
  for (int32_t i = 0; i < scenario_.burst && result_.requests < scenario_.requests; ++i) {
    const auto id = static_cast<RequestId>(++result_.requests);
    Client client;
    client.spec = DrawSpec(scenario_, id, Now(), random_);
    client.choices.resize(static_cast<size_t>(client.spec.completions));
    for (Choice& choice : client.choices) {
      if (Chance(scenario_.slow_share)) choice.stop_after = Uniform(1, 5);
    }
    if (Chance(scenario_.cancel_share)) {
      client.cancel_at_step = step_ + Uniform(0, 40);
      client.cancel_in_flight = Chance(0.5);
    }
    if (Chance(scenario_.slow_share)) client.gives_up_after = Uniform(1, 5);
    SequenceSpec spec = client.spec;
    spec.lease = std::make_shared<int>(0);
    client.lease = spec.lease;
    spec.held_slots = client.held;
    // A session's draws are all its own: see MakeRules.
    const bool jumps = spec.rules != nullptr && spec.rules->spelling != nullptr;
    if (!jumps && Chance(scenario_.session_share)) JoinSession(spec, client);
    scheduler_.Submit(std::move(spec));
    waiting_.push_back(id);
    clients_.emplace(id, std::move(client));
  }
}

void Simulation::JoinSession(SequenceSpec& spec, Client& client) {
  const bool scores = spec.score_from != std::numeric_limits<int64_t>::max();
  if (spec.completions > 1 || spec.max_tokens == 0 || scores) return;
  spec.include_stop = client.spec.include_stop = Chance(0.5);
  const std::string id = std::to_string(Uniform(0, 3));
  if (sessions_.Join(id, spec, client.spec)) client.session = id;
}

void Simulation::CancelSome(bool in_flight) {
  for (auto& [id, client] : clients_) {
    if (!client.ended && client.cancel_at_step == step_ && client.cancel_in_flight == in_flight) {
      scheduler_.Cancel(id, absl::CancelledError("client gone"), events_);
    }
  }
  scheduler_.Cancel(999'999, absl::CancelledError("never existed"), events_);
  Apply();
}

void Simulation::PlanAndLaunch() {
  StepPlan plan;
  if (Chance(0.1)) {
    scenario_.scheduler.mixed_prefill_tokens = static_cast<int32_t>(Uniform(1, 64));
    scheduler_.SetMixedPrefill(scenario_.scheduler.mixed_prefill_tokens);
  }
  if (Chance(0.1)) {
    batch_rows_ = static_cast<int32_t>(Uniform(0, 6));
    scheduler_.SetBatchRows(batch_rows_, static_cast<int32_t>(Uniform(2, 5)));
  }
  scheduler_.Plan(Now(), plan, events_);
  Apply();
  CheckPlan(plan);
  CheckPatience();
  result_.parks += static_cast<int64_t>(plan.parks.size());
  result_.resumes += static_cast<int64_t>(plan.resumes.size());
  Transfer(plan);
  if (plan.empty()) return;
  CheckService(plan);
  ++result_.steps;
  Require(device_.Launch(plan.table).ok(), "launch failed");
  for (const Span& span : plan.table.spans) {
    Trace(static_cast<uint64_t>(span.slot) * 1000 + static_cast<uint64_t>(span.length));
  }
  in_flight_.push_back(std::move(plan));
}

void Simulation::CheckPlan(const StepPlan& plan) {
  const SchedulerOptions& limits = scenario_.scheduler;
  const auto rows = static_cast<int32_t>(plan.table.tokens.size());
  Require(rows == plan.decode_tokens + plan.prefill_tokens, "rows do not add up");
  Require(rows <= limits.token_budget, absl::StrCat(rows, " rows exceed the token budget"));
  Require(static_cast<int32_t>(plan.table.spans.size()) <= limits.max_spans, "too many spans");
  Require(static_cast<int32_t>(plan.table.samples.size()) <= limits.max_samples,
          "too many samples");
  Require(plan.prefill_tokens <= MostPrefill(plan), "prefill beside decodes exceeds its limit");
  CheckBatch(plan);
  const SlotPool& slots = scheduler_.slots();
  Require(slots.active() + slots.free() == slots.total(), "slots do not add up");
  Require(scheduler_.parked() <= limits.max_parked, "too many are parked");
  const auto waits = [&](bool batch) {
    return std::any_of(waiting_.begin(), waiting_.end(),
                       [&](RequestId id) { return clients_.at(id).spec.batch == batch; });
  };
  if (KeptForForks(false)) return;
  Require(!waits(false) || slots.free() == 0, "a request waits while a slot is free");
  if (KeptForForks(true)) return;
  Require(!waits(true) || slots.free() <= limits.reserved_slots,
          "batch work waits while a slot is free");
}

// Interactive completions that may take rows, at most.
int32_t Simulation::InteractiveStarted() const {
  int32_t completions = 0;
  for (const auto& [id, client] : clients_) {
    const bool runs = client.started && !client.ended && !client.spec.batch;
    completions += runs ? client.spec.completions : 0;
  }
  return completions;
}

int32_t Simulation::MostPrefill(const StepPlan& plan) const {
  const SchedulerOptions& limits = scenario_.scheduler;
  const int32_t interactive = scenario_.ages() ? limits.slots : InteractiveStarted();
  // Nobody's inter-token latency is to be kept, as far as can be seen here.
  if (plan.decode_tokens == 0 || (interactive > 0 && plan.interactive_decodes == 0)) {
    return limits.token_budget;
  }
  const int32_t decodes = interactive > 0 ? plan.interactive_decodes : plan.decode_tokens;
  const int32_t mixed =
      limits.mixed_prefill_tokens > 0 ? limits.mixed_prefill_tokens : std::max(32, decodes);
  return interactive > 0 ? mixed : std::max(mixed, 3 * plan.decode_tokens);
}

// Batch work leaves reserved slots free, and steps with interactive work short.
void Simulation::CheckBatch(const StepPlan& plan) {
  if (scenario_.ages()) return;
  int32_t held = 0;
  std::vector<bool> is_batch(static_cast<size_t>(scheduler_.slots().total()), false);
  for (const auto& [id, client] : clients_) {
    if (!client.spec.batch) continue;
    for (const int32_t slot : client.held->List()) {
      is_batch[static_cast<size_t>(slot)] = true;
      ++held;
    }
  }
  Require(held <= scheduler_.slots().total() - scenario_.reserved_of_forks(),
          "batch work holds reserved slots");
  int32_t rows = 0;
  bool interactive = false;
  for (const Span& span : plan.table.spans) {
    const bool batch = is_batch[static_cast<size_t>(span.slot)];
    rows += batch ? span.length : 0;
    interactive |= !batch;
  }
  Require(rows == plan.batch_rows, "rows of batch work do not add up");
  const int32_t most = batch_rows_ >= 0 ? batch_rows_ : InteractiveStarted();
  Require(!interactive || rows <= std::max(1, most),
          absl::StrCat(rows, " rows of batch work beside interactive work"));
}

// The last slot that is no source is kept for forks; of batch work, the last it may take.
bool Simulation::KeptForForks(bool batch) const {
  const int32_t reserved = batch ? scenario_.reserved_of_forks() : 0;
  return scheduler_.pending_sources() + 1 >= scheduler_.slots().total() - reserved &&
         std::any_of(waiting_.begin(), waiting_.end(),
                     [&](RequestId id) { return clients_.at(id).spec.completions > 1; });
}

void Simulation::Transfer(const StepPlan& plan) {
  for (const SlotTransfer& park : plan.parks) {
    park.image->resize(static_cast<size_t>(device_.info().image_bytes));
    (void)device_.ExportSlot(park.slot, park.position, absl::MakeSpan(*park.image));
  }
  (void)device_.ClearSlots(plan.clear_slots);
  for (const std::vector<SlotTransfer>* transfers : {&plan.resumes, &plan.restores}) {
    for (const auto& [slot, position, image] : *transfers) {
      (void)device_.ImportSlot(slot, position, *image);
    }
  }
  (void)device_.CopySlots(plan.copies);
}

// Interactive work waits for batch work, and what is parked for a free slot, for two plans at most:
// a sequence is not parked in the plan in which it took its slot, and goes on when its draw is
// known.
void Simulation::CheckPatience() {
  const SlotPool& slots = scheduler_.slots();
  const bool held = slots.free() > 0 || KeptForForks(false) || scenario_.fork_share > 0 ||
                    scenario_.score_share > 0;  // with continuations, which are forks too
  const bool waits = std::any_of(waiting_.begin(), waiting_.end(),
                                 [&](RequestId id) { return !clients_.at(id).spec.batch; });
  delayed_plans_ = waits && !held && scheduler_.load().parkable > 0 ? delayed_plans_ + 1 : 0;
  Require(delayed_plans_ <= 2, "interactive work waits for batch work");
  const bool idle = scheduler_.parked() > 0 && !KeptForForks(false) &&
                    slots.free() > scenario_.scheduler.reserved_slots;
  idle_plans_ = idle ? idle_plans_ + 1 : 0;
  Require(idle_plans_ <= 2, "a parked sequence waits beside a free slot");
}

// No starvation: every step advances prefill if any waits, and a decoding sequence is passed over
// at most as often as sharing the rows makes necessary; batch sequences share those that they are
// left, with their prompts in every second step.
void Simulation::CheckService(const StepPlan& plan) {
  if (!scenario_.steady()) return;  // tests/sim/fairness_test.cc has the bounds
  // With a step in flight a prompt may be launched to its end and its first token not yet known.
  const bool waits = std::any_of(prefill_order_.begin(), prefill_order_.end(),
                                 [&](RequestId id) { return !clients_.at(id).spec.batch; });
  if (waits && in_flight_.empty()) {
    Require(plan.prefill_tokens > plan.forced_rows, "prefill starves");
  }
  const int32_t rows = std::min(scenario_.scheduler.token_budget, scenario_.scheduler.max_spans);
  const int32_t least = std::max(1, rows - std::max(1, rows / 4));
  const int32_t slots = scheduler_.slots().total();
  // A step had a row for batch work.
  const bool has_room = plan.interactive_decodes < least && batch_rows_ != 0;
  size_t decoding = 0;
  for (auto& [id, client] : clients_) {
    const bool batch = client.spec.batch;
    if (batch && (!has_room || scenario_.scheduler.max_parked > 0)) continue;
    for (Choice& choice : client.choices) {
      const bool decodes = client.started && !client.ended && !choice.ended;
      if (!decodes || choice.heard.tokens.empty()) continue;
      if (!batch) ++decoding;
      ++choice.unserved_steps;
      const bool constrained =
          client.spec.rules != nullptr && client.spec.rules->constraint != nullptr;
      const int64_t turns = constrained ? 1 + kLongestForced : 1;  // to feed what needed no draw
      const int64_t patience = batch ? 2 * slots + 2 : slots / least + 2;
      Require(choice.unserved_steps <= turns * (patience + 2),
              absl::StrCat("request ", id, " saw no token for ", choice.unserved_steps, " steps"));
    }
  }
  Require(decoding == 0 || plan.decode_tokens > 0 || !in_flight_.empty(), "decodes starve");
}

void Simulation::CollectAndCommit() {
  StepOutput output;
  const absl::Status collected = device_.Collect(output);
  Require(collected.ok(), std::string(collected.message()));
  in_flight_.pop_front();
  scheduler_.Commit(output, events_);
  const std::vector<const SampleRules*> late = scheduler_.LateRules();
  const absl::Status supplied = device_.SupplyRules(late);
  Require(supplied.ok(), std::string(supplied.message()));
  result_.late_draws += static_cast<int64_t>(late.size());
  result_.void_draws += std::count(late.begin(), late.end(), nullptr);
  Require(KeepSessions(scheduler_.TakeKept(), device_, nullptr).ok(), "keep failed");
  Apply();
}

void Simulation::Apply() {
  const std::vector<SchedulerEvent> events = std::move(events_);
  events_.clear();
  for (const SchedulerEvent& event : events) {
    Client& client = clients_.at(event.id);
    Trace(event.id * 8 + static_cast<uint64_t>(event.kind));
    Require(!client.ended, absl::StrCat("request ", event.id, " hears of itself after its end"));
    switch (event.kind) {
      case SchedulerEvent::Kind::kStarted:
        ApplyStarted(client);
        break;
      case SchedulerEvent::Kind::kPrompt: {
        auto& scores = client.choices[static_cast<size_t>(event.index)].heard.scores;
        scores.insert(scores.end(), event.logprobs.begin(), event.logprobs.end());
        break;
      }
      case SchedulerEvent::Kind::kToken:
      case SchedulerEvent::Kind::kFinished:
        Require(client.started, "a token before the start");
        std::erase(prefill_order_, event.id);
        ApplyToken(client, event);
        break;
      case SchedulerEvent::Kind::kEnded:
        client.ended = true;
        ++result_.cancelled;
        std::erase(waiting_, event.id);
        std::erase(prefill_order_, event.id);
        break;
    }
    Require(!client.ended || client.lease.expired(), "the lease outlives the request");
  }
  for (const auto& [id, index] : std::exchange(stops_, {})) {
    scheduler_.Stop(id, index);
    Client& client = clients_.at(id);
    Choice& choice = client.choices[static_cast<size_t>(index)];
    if (!client.ended && !choice.ended) EndChoice(client, choice);
  }
  for (const SchedulerEvent& event : events) {
    Client& client = clients_.at(event.id);
    const bool gives_up = client.gives_up_after > 0 && client.tokens >= client.gives_up_after;
    if (client.ended || !gives_up) continue;
    client.gives_up_after = -1;
    scheduler_.Cancel(event.id, absl::ResourceExhaustedError("slow reader"), events_);
  }
  if (!events_.empty()) Apply();
}

void Simulation::ApplyStarted(Client& client) {
  Require(!client.started, "started twice");
  client.started = true;
  CheckTurn(client);
  std::erase(waiting_, client.spec.id);
  // The prompt of several completions is fed to its end only as slots come free.
  if (client.spec.completions == 1) prefill_order_.push_back(client.spec.id);
}

// FIFO within a tenant and a class; batch work that has not waited for too long comes last.
void Simulation::CheckTurn(const Client& client) {
  const bool aged = Now() - client.spec.submitted >= scenario_.scheduler.batch_patience;
  for (const RequestId id : waiting_) {
    const SequenceSpec& other = clients_.at(id).spec;
    const bool same = other.tenant == client.spec.tenant && other.batch == client.spec.batch;
    Require(!same || id >= client.spec.id,
            absl::StrCat("request ", client.spec.id, " was admitted before ", id));
    Require(!client.spec.batch || aged || other.batch,
            absl::StrCat("batch request ", client.spec.id, " was admitted before ", id));
  }
}

void Simulation::ApplyToken(Client& client, const SchedulerEvent& event) {
  Choice& choice = client.choices[static_cast<size_t>(event.index)];
  Require(!choice.ended, absl::StrCat("completion ", event.index, " goes on after its end"));
  if (choice.stopping) return;
  if (event.token != kNone) {
    choice.heard.tokens.push_back(event.token);
    choice.heard.logprobs.push_back(event.logprobs);
    choice.unserved_steps = 0;
    ++client.tokens;
    ++result_.tokens;
  }
  if (event.kind == SchedulerEvent::Kind::kFinished) {
    // The prompt of several completions is scored once, for the first.
    const bool own = client.spec.continuations != nullptr;
    std::string difference = CompareScores(client.spec, event.index,
                                           (own ? choice : client.choices.front()).heard.scores);
    if (client.spec.max_tokens > 0 && difference.empty()) {
      difference =
          CompareWithAlone(scenario_.model, client.spec, event.index, choice.heard, event.reason);
    }
    if (difference.empty() && !client.session.empty()) {
      difference = sessions_.Finish(client.session, client.spec, choice.heard.tokens, event.reason);
    }
    Require(difference.empty(), absl::StrCat("request ", event.id, ": ", difference));
    EndChoice(client, choice);
  } else if (static_cast<int64_t>(choice.heard.tokens.size()) == choice.stop_after) {
    choice.stopping = true;
    stops_.emplace_back(event.id, event.index);
  }
}

void Simulation::EndChoice(Client& client, Choice& choice) {
  choice.ended = true;
  client.ended = std::all_of(client.choices.begin(), client.choices.end(),
                             [](const Choice& c) { return c.ended; });
  if (client.ended) ++result_.finished;
}

SimulationResult Simulation::Run() {
  constexpr int64_t kMostSteps = 100'000;
  while (result_.error.empty() && step_ < kMostSteps) {
    now_ms_ += Uniform(0, 3);
    if (result_.requests < scenario_.requests) Arrive();
    CancelSome(/*in_flight=*/false);
    while (static_cast<int32_t>(in_flight_.size()) < scenario_.model.pipeline_depth) {
      const size_t before = in_flight_.size();
      PlanAndLaunch();
      if (in_flight_.size() == before) break;
    }
    CancelSome(/*in_flight=*/true);
    if (!in_flight_.empty()) CollectAndCommit();
    Require(device_.error().empty(), device_.error());
    ++step_;
    if (result_.requests == scenario_.requests && scheduler_.idle()) break;
  }
  Require(scheduler_.idle(), "did not come to an end");
  Require(scheduler_.slots().active() == 0, "a slot was not given back");
  const EngineLoad left = scheduler_.load();
  Require(left.running.empty() && left.parked.empty() && left.waiting.empty() && left.parkable == 0,
          "the load does not go down to nothing");
  for (const auto& [id, client] : clients_) {
    Require(client.ended, absl::StrCat("request ", id, " never ended"));
  }
  Require(sessions_.AllFree(), "a session was not given back");
  Require(result_.finished + result_.cancelled == result_.requests, "endings do not add up");
  return result_;
}

}  // namespace

SimulationResult Simulate(uint64_t seed) { return Simulation(Choices(seed, {}), AsDrawn).Run(); }

SimulationResult SimulateForks(uint64_t seed) {
  return Simulation(Choices(seed, {}), OnlyForks).Run();
}

SimulationResult SimulateChoices(absl::Span<const uint8_t> choices) {
  return Simulation(Choices(/*seed=*/0, choices), ShortDay).Run();
}

}  // namespace based
