// How sequences end: at their deadline, at a stop string, and what they leave to their sessions.
#include <algorithm>
#include <utility>

#include "engine/scheduler.h"
#include "engine/sequence.h"
#include "kernels/base/check.h"

namespace based {

void Scheduler::ExpireDeadlines(Clock::time_point now, std::vector<SchedulerEvent>& events) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    const RequestId id = deadlines_.begin()->second;
    // Those that have ended wait for steps in flight only.
    deadlines_.erase(deadlines_.begin());
    Cancel(id, absl::DeadlineExceededError("the request's deadline passed"), events);
  }
}

// Only sessions need to know in the step itself: what others draw beyond is not heard by anybody.
bool Scheduler::CompletesStopString(const Sequence& sequence) const {
  return sequence.spec.text_stop != nullptr &&
         sequence.spec.text_stop->Completes(sequence.last_token);
}

// Its own token was drawn that ends it.
void Scheduler::Finish(Sequence& sequence) {
  SequenceSpec& spec = sequence.spec;
  if (spec.session == nullptr) return End(sequence);
  const bool is_stop = sequence.last_token == spec.eos_token_id ||
                       std::find(spec.stop_token_ids.begin(), spec.stop_token_ids.end(),
                                 sequence.last_token) != spec.stop_token_ids.end();
  const bool keeps_last = !is_stop || spec.include_stop;
  // The last token was not fed, but for a step in flight, which the state is then stepped back
  // over.
  const int64_t position = sequence.prompt_tokens() + sequence.committed - 1;
  const bool is_parked = sequence.phase == Sequence::Phase::kParked;
  BASED_CHECK(sequence.position - position <= (is_parked ? 0 : 1));
  if (!keeps_last) sequence.drawn.pop_back();
  std::vector<int32_t> tokens = std::move(spec.prompt);
  tokens.insert(tokens.end(), sequence.drawn.begin(), sequence.drawn.end());
  kept_.push_back({.session = spec.session,
                   .from = {sequence.slot, position, is_parked ? sequence.image : nullptr},
                   .tail = keeps_last ? sequence.last_token : kNone,
                   .tokens = std::move(tokens)});
  End(sequence);
}

// Makes its slot the state that it starts from.
void Scheduler::Restore(Sequence& sequence, StepPlan& plan) {
  const SequenceSpec& spec = sequence.spec;
  const int64_t position = spec.session == nullptr ? 0 : spec.session->state().position;
  if (position == 0) return plan.clear_slots.push_back(sequence.slot);
  plan.restores.push_back({sequence.slot, position, spec.session->state().image});
  sequence.prompt_offset = sequence.position = position;
  if (sequence.rules != nullptr) sequence.rules->OnHistory(spec.history);
}

}  // namespace based
