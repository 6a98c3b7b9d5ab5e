#include "engine/scheduler.h"

#include <algorithm>
#include <utility>

#include "kernels/base/check.h"

namespace based {

struct Scheduler::Sequence {
  enum class Phase : uint8_t { kQueued, kPrefilling, kDecoding, kEnded };

  SequenceSpec spec;
  Phase phase = Phase::kQueued;
  int32_t slot = kNone;
  int64_t position = 0;     // tokens launched into the slot's state
  int64_t draws = 0;        // draws launched
  int64_t committed = 0;    // draws whose ids are known
  int32_t last_token = kNone;
  uint64_t draw_step = 0;   // number of the step that holds the latest draw
  int32_t draw_sample = 0;  // and its index among that step's samples
  int32_t steps_in_flight = 0;

  int64_t prompt_left() const { return static_cast<int64_t>(spec.prompt.size()) - position; }
};

Scheduler::Scheduler(const SchedulerOptions& options)
    : options_(options),
      mixed_prefill_tokens_(options.mixed_prefill_tokens),
      slots_(options.slots) {
  BASED_CHECK(options.slots >= 1);
  BASED_CHECK(options.token_budget >= 2);
  BASED_CHECK(options.max_spans >= 2);
}

Scheduler::~Scheduler() = default;

void Scheduler::Submit(SequenceSpec spec) {
  BASED_CHECK(!spec.prompt.empty());
  BASED_CHECK(spec.max_tokens >= 1);
  auto sequence = std::make_unique<Sequence>();
  sequence->spec = std::move(spec);
  queue_.push_back(sequence.get());
  const RequestId id = sequence->spec.id;
  if (sequence->spec.deadline != Clock::time_point::max()) {
    deadlines_.emplace(sequence->spec.deadline, id);
  }
  BASED_CHECK(sequences_.emplace(id, std::move(sequence)).second);
}

void Scheduler::Cancel(RequestId id, const absl::Status& status,
                       std::vector<SchedulerEvent>& events) {
  const auto found = sequences_.find(id);
  if (found == sequences_.end() || found->second->phase == Sequence::Phase::kEnded) return;
  events.push_back({.id = id, .kind = SchedulerEvent::Kind::kEnded, .status = status});
  End(*found->second);
}

void Scheduler::CancelAll(const absl::Status& status, std::vector<SchedulerEvent>& events) {
  std::vector<RequestId> ids;
  ids.reserve(sequences_.size());
  for (const auto& [id, sequence] : sequences_) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  for (const RequestId id : ids) Cancel(id, status, events);
}

void Scheduler::Plan(Clock::time_point now, StepPlan& plan, std::vector<SchedulerEvent>& events) {
  BASED_CHECK(in_flight_.size() <= 1);
  plan = StepPlan();
  ExpireDeadlines(now, events);
  Admit(plan, events);
  InFlight step;
  PlanDecodes(plan, step);
  PlanPrefills(plan, step);
  if (plan.empty()) return;
  in_flight_.push_back(std::move(step));
  ++steps_planned_;
}

void Scheduler::Admit(StepPlan& plan, std::vector<SchedulerEvent>& events) {
  while (!queue_.empty() && slots_.free() > 0) {
    Sequence& sequence = *queue_.front();
    queue_.pop_front();
    sequence.phase = Sequence::Phase::kPrefilling;
    sequence.slot = slots_.Take();
    plan.clear_slots.push_back(sequence.slot);
    prefilling_.push_back(&sequence);
    events.push_back({.id = sequence.spec.id, .kind = SchedulerEvent::Kind::kStarted});
  }
}

void Scheduler::PlanDecodes(StepPlan& plan, InFlight& step) {
  const bool share = !prefilling_.empty();
  const int32_t rows = std::min(options_.token_budget, options_.max_spans);
  const int32_t most = share ? std::max(1, rows - std::max(1, rows / 4)) : rows;
  const size_t count = decoding_.size();
  for (size_t i = 0; i < count && plan.decode_tokens < most; ++i) {
    Sequence& sequence = *decoding_.front();
    decoding_.pop_front();
    decoding_.push_back(&sequence);
    if (sequence.draws >= sequence.spec.max_tokens) continue;  // its last draw is in flight
    AddSpan(sequence, 1, plan, step);
    ++plan.decode_tokens;
  }
}

void Scheduler::PlanPrefills(StepPlan& plan, InFlight& step) {
  int64_t left = options_.token_budget - plan.decode_tokens;
  if (plan.decode_tokens > 0) {
    const int64_t mixed = mixed_prefill_tokens_ > 0 ? mixed_prefill_tokens_
                                                    : std::max(32, plan.decode_tokens);
    left = std::min(left, mixed);
  }
  const std::vector<int64_t> lengths = SharePrefill(prefilling_, left);
  const std::vector<Sequence*> chosen(
      prefilling_.begin(), prefilling_.begin() + static_cast<std::ptrdiff_t>(lengths.size()));
  for (size_t i = 0; i < chosen.size(); ++i) {
    if (static_cast<int32_t>(plan.table.spans.size()) >= options_.max_spans) return;
    AddSpan(*chosen[i], static_cast<int32_t>(lengths[i]), plan, step);
    plan.prefill_tokens += static_cast<int32_t>(lengths[i]);
  }
}

// Tokens for each of the first sequences of `waiting`: at most half of what is left to each while
// others wait behind it, then what nobody needed to the oldest.
std::vector<int64_t> Scheduler::SharePrefill(const std::deque<Sequence*>& waiting, int64_t budget) {
  std::vector<int64_t> lengths;
  int64_t left = budget;
  for (size_t i = 0; i < waiting.size() && left > 0; ++i) {
    const int64_t share = i + 1 < waiting.size() ? (left + 1) / 2 : left;
    lengths.push_back(std::min(waiting[i]->prompt_left(), share));
    left -= lengths.back();
  }
  for (size_t i = 0; i < lengths.size() && left > 0; ++i) {
    const int64_t more = std::min(waiting[i]->prompt_left() - lengths[i], left);
    lengths[i] += more;
    left -= more;
  }
  return lengths;
}

void Scheduler::AddSpan(Sequence& sequence, int32_t length, StepPlan& plan, InFlight& step) {
  StepTable& table = plan.table;
  const auto row = static_cast<int32_t>(table.tokens.size());
  table.spans.push_back(
      {.slot = sequence.slot, .row = row, .length = length, .position = sequence.position});
  step.members.push_back(&sequence);
  ++sequence.steps_in_flight;
  if (sequence.phase == Sequence::Phase::kDecoding) {
    const bool known = sequence.committed == sequence.draws;
    // An uncommitted draw is always in the step planned just before this one: a sequence sits out a
    // step only when the pipeline has drained past its draw.
    BASED_CHECK(known || sequence.draw_step == steps_planned_);
    table.tokens.push_back(known ? sequence.last_token : kTokenFromPrevious);
    table.sources.push_back(known ? kNone : sequence.draw_sample);
  } else {
    const auto begin = sequence.spec.prompt.begin() + sequence.position;
    table.tokens.insert(table.tokens.end(), begin, begin + length);
    table.sources.insert(table.sources.end(), static_cast<size_t>(length), kNone);
  }
  sequence.position += length;
  if (sequence.prompt_left() <= 0) AddSample(sequence, row + length - 1, plan, step);
}

void Scheduler::AddSample(Sequence& sequence, int32_t row, StepPlan& plan, InFlight& step) {
  sequence.draw_step = steps_planned_ + 1;
  sequence.draw_sample = static_cast<int32_t>(plan.table.samples.size());
  ++sequence.draws;
  SampleRow sample{.row = row, .params = sequence.spec.sampling};
  sample.params.position = sequence.position;
  plan.table.samples.push_back(sample);
  step.drawing.push_back(&sequence);
  if (sequence.phase == Sequence::Phase::kPrefilling) {
    sequence.phase = Sequence::Phase::kDecoding;
    std::erase(prefilling_, &sequence);
    decoding_.push_back(&sequence);
  }
}

void Scheduler::Commit(const StepOutput& output, std::vector<SchedulerEvent>& events) {
  BASED_CHECK(!in_flight_.empty());
  const InFlight step = std::move(in_flight_.front());
  in_flight_.pop_front();
  BASED_CHECK(output.ids.size() == step.drawing.size());
  BASED_CHECK(output.finite.size() == step.drawing.size());
  for (size_t i = 0; i < step.drawing.size(); ++i) {
    Sequence& sequence = *step.drawing[i];
    if (sequence.phase == Sequence::Phase::kEnded) continue;
    if (output.finite[i] == 0) {
      Cancel(sequence.spec.id, absl::InternalError("the model's logits are not finite"), events);
      continue;
    }
    CommitToken(sequence, output.ids[i], events);
  }
  for (Sequence* sequence : step.members) {
    --sequence->steps_in_flight;
    if (sequence->phase == Sequence::Phase::kEnded) Retire(*sequence);
  }
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

void Scheduler::CommitToken(Sequence& sequence, int32_t token,
                            std::vector<SchedulerEvent>& events) {
  ++sequence.committed;
  sequence.last_token = token;
  const SequenceSpec& spec = sequence.spec;
  SchedulerEvent event{.id = spec.id, .kind = SchedulerEvent::Kind::kFinished, .token = token};
  if (token == spec.eos_token_id) {
    event.reason = FinishReason::kEndOfText;
  } else if (std::find(spec.stop_token_ids.begin(), spec.stop_token_ids.end(), token) !=
             spec.stop_token_ids.end()) {
    event.reason = FinishReason::kStopToken;
  } else if (sequence.committed >= spec.max_tokens) {
    event.reason = FinishReason::kMaxTokens;
  } else {
    event.kind = SchedulerEvent::Kind::kToken;
  }
  events.push_back(event);
  if (event.kind == SchedulerEvent::Kind::kFinished) End(sequence);
}

void Scheduler::End(Sequence& sequence) {
  switch (sequence.phase) {
    case Sequence::Phase::kQueued:
      std::erase(queue_, &sequence);
      break;
    case Sequence::Phase::kPrefilling:
      std::erase(prefilling_, &sequence);
      break;
    case Sequence::Phase::kDecoding:
      std::erase(decoding_, &sequence);
      break;
    case Sequence::Phase::kEnded:
      return;
  }
  sequence.phase = Sequence::Phase::kEnded;
  deadlines_.erase({sequence.spec.deadline, sequence.spec.id});
  // Commit still walks the sequences of a step in flight; it retires them itself.
  if (sequence.steps_in_flight == 0) Retire(sequence);
}

void Scheduler::Retire(Sequence& sequence) {
  if (sequence.steps_in_flight > 0) return;
  if (sequence.slot != kNone) slots_.Give(sequence.slot);
  sequences_.erase(sequence.spec.id);
}

void Scheduler::ExpireDeadlines(Clock::time_point now, std::vector<SchedulerEvent>& events) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    const RequestId id = deadlines_.begin()->second;
    Cancel(id, absl::DeadlineExceededError("the request's deadline passed"), events);
  }
}

}  // namespace based
