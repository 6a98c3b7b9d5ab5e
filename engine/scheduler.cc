#include "engine/scheduler.h"

#include <algorithm>
#include <utility>

#include "engine/refusal.h"
#include "engine/sequence.h"
#include "kernels/base/check.h"

namespace based {
Scheduler::Scheduler(const SchedulerOptions& options)
    : options_(options),
      mixed_prefill_tokens_(options.mixed_prefill_tokens > 0 ? options.mixed_prefill_tokens : -1),
      batch_rows_(options.batch_rows > 0 ? options.batch_rows : -1),
      slots_(options.slots),
      queue_(options.burst_tokens) {
  BASED_CHECK(options.slots >= 1);
  BASED_CHECK(options.token_budget >= 2);
  BASED_CHECK(options.max_spans >= 2);
  BASED_CHECK(options.max_samples >= options.max_spans);
  BASED_CHECK(options.reserved_slots >= 0 && options.reserved_slots < options.slots);
}

Scheduler::~Scheduler() = default;

void Scheduler::Submit(SequenceSpec spec) {
  const bool has_continuations = spec.continuations != nullptr;
  BASED_CHECK(spec.prompt.size() + has_continuations >= (spec.max_tokens == 0 ? 2u : 1u));
  BASED_CHECK(spec.completions >= 1);
  BASED_CHECK(spec.completions <= (has_continuations && slots_.total() > 1 ? 64 : slots_.total()));
  BASED_CHECK(spec.score_from >= 1);
  auto sequence = std::make_unique<Sequence>();
  sequence->forks_left = spec.completions - 1;
  sequence->index = sequence->forks_left;
  const QueueLoad cost = CostOf(spec);
  sequence->spec = std::move(spec);
  if (has_continuations) sequence->BeginContinuations();
  sequence->yields = sequence->spec.batch;
  Tenant& tenant = TenantOf(*sequence);
  ++tenant.live;
  tenant.weight = sequence->spec.weight;
  const RequestId id = sequence->spec.id;
  queue_.Push({.id = id,
               .tenant = sequence->spec.tenant,
               .weight = tenant.weight,
               .load = cost,
               .since = sequence->spec.submitted},
              sequence->spec.batch);
  if (sequence->spec.deadline != Clock::time_point::max()) {
    deadlines_.emplace(sequence->spec.deadline, id);
  }
  Completions& completions = sequences_[id];
  BASED_CHECK(completions.empty());
  completions.push_back(std::move(sequence));
}

void Scheduler::Cancel(RequestId id, const absl::Status& status,
                       std::vector<SchedulerEvent>& events) {
  const auto found = sequences_.find(id);
  if (found == sequences_.end()) return;
  // Ending one may erase it, and with the last of them the request.
  absl::InlinedVector<Sequence*, 1> live;
  for (const auto& sequence : found->second) {
    if (sequence->phase != Sequence::Phase::kEnded) live.push_back(sequence.get());
  }
  if (live.empty()) return;
  events.push_back({.id = id, .kind = SchedulerEvent::Kind::kEnded, .status = status});
  for (Sequence* sequence : live) End(*sequence);
}

void Scheduler::Stop(RequestId id, int32_t index) {
  const auto found = sequences_.find(id);
  if (found == sequences_.end()) return;
  for (const auto& sequence : found->second) {
    if (sequence->index == index) return End(*sequence);
  }
}

void Scheduler::CancelAll(const absl::Status& status, std::vector<SchedulerEvent>& events) {
  std::vector<RequestId> ids;
  ids.reserve(sequences_.size());
  for (const auto& [id, completions] : sequences_) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  for (const RequestId id : ids) Cancel(id, status, events);
}

void Scheduler::Plan(Clock::time_point now, StepPlan& plan, std::vector<SchedulerEvent>& events) {
  BASED_CHECK(in_flight_.size() <= 1);
  plan = StepPlan();
  now_ = now;
  ++plans_;
  std::move(resumed_images_.begin(), resumed_images_.end(), std::back_inserter(spare_images_));
  resumed_images_.clear();
  ExpireDeadlines(now, events);
  StartForks(plan);
  Admit(plan, events);
  LimitBatch();
  if (AwaitsDraws()) return;
  InFlight step;
  PlanDecodes(plan, step);
  PlanPrefills(plan, step);
  if (plan.empty()) return;
  in_flight_.push_back(std::move(step));
  ++steps_planned_;
}

void Scheduler::StartForks(StepPlan& plan) {
  while (!sources_.empty()) {
    const auto interactive = std::find_if(sources_.begin(), sources_.end(),
                                          [](const Sequence* source) { return !source->yields; });
    Sequence& source = interactive != sources_.end() ? **interactive : *sources_.front();
    if (!MakeRoom(source, /*entitled=*/false, plan)) return;
    StartFork(source, plan);
    if (source.forks_left > 0 && source.prompt_left() == 0) continue;
    // The last completion goes on in the slot that the others were copied from.
    if (source.forks_left == 0) --pending_sources_;
    std::erase(sources_, &source);
    source.spec.sampling.seed += static_cast<uint64_t>(source.index);
    source.entered = plans_;  // this plan's copies are made from its slot
    JoinPrefill(source);
  }
}

void Scheduler::StartFork(Sequence& source, StepPlan& plan) {
  auto fork = std::make_unique<Sequence>();
  const SequenceSpec& spec = source.spec;
  fork->index = spec.completions - 1 - source.forks_left;
  --source.forks_left;
  fork->prompt_offset = source.fork_position() - 1;
  fork->position = fork->prompt_offset;
  const auto last = static_cast<size_t>(fork->prompt_offset - source.prompt_offset);
  fork->spec = {.id = spec.id,
                .prompt = {spec.prompt[last]},
                .sampling = spec.sampling,
                .rules = spec.rules,
                .max_tokens = spec.max_tokens,
                .logprobs = spec.logprobs,
                .top_logprobs = spec.top_logprobs,
                .eos_token_id = spec.eos_token_id,
                .stop_token_ids = spec.stop_token_ids,
                .deadline = spec.deadline,
                .tenant = spec.tenant,
                .weight = spec.weight,
                .batch = spec.batch,
                .submitted = spec.submitted,
                .lease = spec.lease,
                .held_slots = spec.held_slots};
  fork->spec.sampling.seed += static_cast<uint64_t>(fork->index);
  if (spec.continuations != nullptr) StartContinuation(source, *fork);
  if (spec.rules != nullptr) fork->rules = std::make_unique<DrawRules>(*spec.rules, spec.prompt);
  fork->yields = source.yields;
  fork->aged = source.aged;
  fork->charged_batch = source.charged_batch;
  TakeSlot(*fork);
  plan.copies.push_back({.from = source.slot, .to = fork->slot});
  JoinPrefill(*fork);
  sequences_[spec.id].push_back(std::move(fork));
}

int32_t Scheduler::SamplesLeft(const StepPlan& plan) const {
  return options_.max_samples - static_cast<int32_t>(plan.table.samples.size());
}

void Scheduler::AddSpan(Sequence& sequence, int32_t length, StepPlan& plan, InFlight& step) {
  StepTable& table = plan.table;
  const auto row = static_cast<int32_t>(table.tokens.size());
  table.spans.push_back(
      {.slot = sequence.slot, .row = row, .length = length, .position = sequence.position});
  step.members.push_back(&sequence);
  ++sequence.steps_in_flight;
  if (sequence.yields) plan.batch_rows += length;
  CountServed(sequence, length);
  if (!sequence.ahead.empty()) {
    const auto begin = sequence.ahead.begin();
    table.tokens.insert(table.tokens.end(), begin, begin + length);
    table.sources.insert(table.sources.end(), static_cast<size_t>(length), kNone);
    sequence.ahead.erase(begin, begin + length);
  } else if (sequence.phase == Sequence::Phase::kDecoding) {
    const bool known = sequence.draw_is_known();
    // An uncommitted draw is always in the step planned just before this one: a sequence sits out a
    // step only when the pipeline has drained past its draw.
    BASED_CHECK(known || sequence.draw_step == steps_planned_);
    table.tokens.push_back(known ? sequence.last_token : kTokenFromPrevious);
    table.sources.push_back(known ? kNone : sequence.draw_sample);
  } else {
    const auto begin = sequence.spec.prompt.begin() + (sequence.position - sequence.prompt_offset);
    table.tokens.insert(table.tokens.end(), begin, begin + length);
    table.sources.insert(table.sources.end(), static_cast<size_t>(length), kNone);
  }
  if (sequence.phase == Sequence::Phase::kPrefilling) {
    AddScores(sequence, row, length, plan, step);
  }
  sequence.position += length;
  if (sequence.prompt_left() > 0 || !sequence.ahead.empty()) return;
  const bool fed = sequence.phase == Sequence::Phase::kPrefilling;
  if (sequence.forks_left == 0 && sequence.spec.max_tokens > 0) {
    AddDraw(sequence, row + length - 1, plan, step);
  }
  if (fed) LeavePrefill(sequence);
}

// Row i of the span scores the token after it, where that one is of the prompt.
void Scheduler::AddScores(Sequence& sequence, int32_t row, int32_t length, StepPlan& plan,
                          InFlight& step) {
  const SequenceSpec& spec = sequence.spec;
  for (int32_t i = 0; i < length; ++i) {
    const int64_t target = sequence.position + i + 1;
    if (target < spec.score_from || target >= sequence.prompt_tokens()) continue;
    const int32_t token = spec.prompt[static_cast<size_t>(target - sequence.prompt_offset)];
    // The most likely id is drawn to compare with, where nothing else is.
    plan.table.samples.push_back({.row = row + i,
                                  .params = {.temperature = 0},
                                  .sample = spec.max_tokens == 0,
                                  .logprob = true,
                                  .target = token,
                                  .top_logprobs = spec.top_logprobs});
    step.samples.push_back({&sequence, token});
  }
}

// The prompt is fed as far as it is to be.
void Scheduler::LeavePrefill(Sequence& sequence) {
  std::erase(prefilling_, &sequence);
  if (sequence.forks_left > 0) {
    sequence.phase = Sequence::Phase::kFed;
    sources_.push_back(&sequence);
  } else if (sequence.spec.max_tokens == 0) {
    sequence.phase = Sequence::Phase::kFed;
  } else {
    sequence.phase = Sequence::Phase::kDecoding;
    decoding_.push_back(&sequence);
  }
}

void Scheduler::Commit(const StepOutput& output, std::vector<SchedulerEvent>& events) {
  BASED_CHECK(!in_flight_.empty());
  const InFlight step = std::move(in_flight_.front());
  in_flight_.pop_front();
  BASED_CHECK(output.ids.size() == step.samples.size());
  BASED_CHECK(output.finite.size() == step.samples.size());
  size_t top = 0;
  for (size_t i = 0; i < step.samples.size(); ++i) {
    const Sampled& sampled = step.samples[i];
    if (sampled.sequence->phase != Sequence::Phase::kEnded && !sampled.is_void) {
      CommitSample(output, i, top, sampled, events);
    }
    const SequenceSpec& spec = sampled.sequence->spec;
    if (sampled.target != kNone || spec.logprobs) top += static_cast<size_t>(spec.top_logprobs);
  }
  for (Sequence* sequence : step.members) {
    --sequence->steps_in_flight;
    if (sequence->phase == Sequence::Phase::kEnded) Retire(*sequence);
  }
}

// `top` is where the sample's alternatives begin.
void Scheduler::CommitSample(const StepOutput& output, size_t sample, size_t top,
                             const Sampled& sampled, std::vector<SchedulerEvent>& events) {
  Sequence& sequence = *sampled.sequence;
  const SequenceSpec& spec = sequence.spec;
  if (output.finite[sample] == 0) {
    return Cancel(spec.id, NonFiniteLogits(), events);
  }
  const int32_t id = output.ids[sample];
  if (sampled.target == kNone && id == kNone) {
    return Cancel(spec.id, NothingToDraw(sequence), events);
  }
  TokenLogprob scored{.token_id = sampled.target == kNone ? id : sampled.target};
  if (sampled.target != kNone || spec.logprobs) {
    scored.logprob = output.logprobs[sample];
    scored.most_likely = id == sampled.target;
    const auto begin = output.top.begin() + static_cast<std::ptrdiff_t>(top);
    if (spec.top_logprobs > 0) scored.alternatives.assign(begin, begin + spec.top_logprobs);
  }
  if (sampled.target != kNone) return CommitScore(sequence, std::move(scored), events);
  SchedulerEvent event{.id = spec.id, .token = id, .index = sequence.index};
  if (spec.logprobs) event.logprobs.push_back(std::move(scored));
  CommitToken(sequence, std::move(event), events);
  JumpAhead(sequence, events);
}

void Scheduler::CommitScore(Sequence& sequence, TokenLogprob scored,
                            std::vector<SchedulerEvent>& events) {
  const SequenceSpec& spec = sequence.spec;
  // A prompt that is not only scored belongs to no completion.
  const int32_t index = spec.max_tokens == 0 ? sequence.index : 0;
  if (events.empty() || events.back().id != spec.id || events.back().index != index ||
      events.back().kind != SchedulerEvent::Kind::kPrompt) {
    events.push_back({.id = spec.id, .kind = SchedulerEvent::Kind::kPrompt, .index = index});
  }
  events.back().logprobs.push_back(std::move(scored));
  ++sequence.scored;
  if (spec.max_tokens > 0 || sequence.scored < sequence.prompt_tokens() - spec.score_from) return;
  events.push_back({.id = spec.id,
                    .kind = SchedulerEvent::Kind::kFinished,
                    .index = index,
                    .fed = sequence.position - sequence.prompt_offset});
  End(sequence);
}

void Scheduler::Abandon() {
  while (!in_flight_.empty()) {
    const InFlight step = std::move(in_flight_.front());
    in_flight_.pop_front();
    for (Sequence* sequence : step.members) {
      --sequence->steps_in_flight;
      BASED_CHECK(sequence->phase == Sequence::Phase::kEnded);
      Retire(*sequence);
    }
  }
}

void Scheduler::CommitToken(Sequence& sequence, SchedulerEvent event,
                            std::vector<SchedulerEvent>& events) {
  const int32_t token = event.token;
  ++sequence.committed;
  sequence.last_token = token;
  if (sequence.spec.session != nullptr) sequence.drawn.push_back(token);
  if (sequence.rules != nullptr) sequence.rules->OnToken(token);
  const SequenceSpec& spec = sequence.spec;
  event.kind = SchedulerEvent::Kind::kFinished;
  if (token == spec.eos_token_id) {
    event.reason = FinishReason::kEndOfText;
  } else if (std::find(spec.stop_token_ids.begin(), spec.stop_token_ids.end(), token) !=
             spec.stop_token_ids.end()) {
    event.reason = FinishReason::kStopToken;
  } else if (sequence.rules != nullptr && sequence.rules->complete()) {
    event.reason = FinishReason::kConstraint;
  } else if (sequence.committed >= spec.max_tokens) {
    event.reason = FinishReason::kMaxTokens;
  } else if (CompletesStopString(sequence)) {
    event.reason = FinishReason::kStopString;
  } else {
    event.kind = SchedulerEvent::Kind::kToken;
  }
  const bool finished = event.kind == SchedulerEvent::Kind::kFinished;
  events.push_back(std::move(event));
  if (finished) Finish(sequence);
}

void Scheduler::End(Sequence& sequence) {
  switch (sequence.phase) {
    case Sequence::Phase::kQueued:
      queue_.Erase(sequence.spec.id, sequence.spec.tenant);
      break;
    case Sequence::Phase::kPrefilling:
      std::erase(prefilling_, &sequence);
      break;
    case Sequence::Phase::kFed:
      std::erase(sources_, &sequence);
      break;
    case Sequence::Phase::kDecoding:
      std::erase(decoding_, &sequence);
      break;
    case Sequence::Phase::kParked:
      std::erase(parked_, &sequence);
      spare_images_.push_back(std::move(sequence.image));
      break;
    case Sequence::Phase::kEnded:
      return;
  }
  if (sequence.phase != Sequence::Phase::kQueued) Settle(sequence);
  if (sequence.slot != kNone && sequence.forks_left > 0) --pending_sources_;
  sequence.phase = Sequence::Phase::kEnded;
  sequence.spec.lease = nullptr;
  sequence.spec.session = nullptr;
  // Commit still walks the sequences of a step in flight; it retires them itself.
  if (sequence.steps_in_flight == 0) Retire(sequence);
}

void Scheduler::Retire(Sequence& sequence) {
  if (sequence.steps_in_flight > 0) return;
  if (sequence.slot != kNone) GiveSlot(sequence);
  const auto found = sequences_.find(sequence.spec.id);
  Completions& completions = found->second;
  const auto deadline = std::make_pair(sequence.spec.deadline, sequence.spec.id);
  const auto tenant = static_cast<size_t>(sequence.spec.tenant);
  completions.erase(std::find_if(completions.begin(), completions.end(),
                                 [&](const auto& own) { return own.get() == &sequence; }));
  if (!completions.empty()) return;
  --tenants_[tenant].live;
  deadlines_.erase(deadline);
  sequences_.erase(found);
}

}  // namespace based
