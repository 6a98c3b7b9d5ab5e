// Which sequences decode in a step, and how many of its rows batch work may take.
#include <algorithm>
#include <iterator>
#include <utility>

#include "engine/scheduler.h"
#include "engine/sequence.h"

namespace based {
namespace {

// Steps for which batch work stays limited after interactive work has ended: one that follows at
// once, as in a conversation, finds short steps.
constexpr uint64_t kCalmSteps = 16;

}  // namespace

// Whether interactive work goes before it; not when it has waited for too long.
bool Scheduler::Yields(Sequence& sequence) {
  if (sequence.yields) AgeIfDue(sequence);
  return sequence.yields;
}

InteractiveWork Scheduler::interactive() const {
  const auto runs = [](const Sequence* sequence) { return !sequence->yields; };
  return {.decoding = static_cast<int32_t>(std::count_if(decoding_.begin(), decoding_.end(), runs)),
          .prefilling =
              static_cast<int32_t>(std::count_if(prefilling_.begin(), prefilling_.end(), runs))};
}

// Sets what batch work may take of the step to be planned. Interactive sequences that wait for a
// slot or for scores limit nothing: they wait the less the sooner batch work ends.
void Scheduler::LimitBatch() {
  interactive_ = {};
  for (Sequence* sequence : decoding_) interactive_.decoding += Yields(*sequence) ? 0 : 1;
  for (Sequence* sequence : prefilling_) interactive_.prefilling += Yields(*sequence) ? 0 : 1;
  if (interactive_.any()) calm_until_ = steps_planned_ + kCalmSteps;
  limits_batch_ = steps_planned_ < calm_until_;
  batch_limit_ = options_.token_budget;
  if (!limits_batch_) return;
  const int32_t asked = batch_rows_ >= 0 ? batch_rows_ : interactive_.decoding;
  // A step must hold something.
  batch_limit_ = std::max(asked, interactive_.decoding > 0 && batch_rows_ >= 0 ? 0 : 1);
}

// Rows that batch decodes may take: where prompts of batch work wait too, those go first in one
// step of batch_prompts_every_.
int32_t Scheduler::BatchDecodes() {
  // Prompts of interactive work leave no turn to those.
  if (!limits_batch_ || interactive_.prefilling > 0) return batch_limit_;
  int64_t prompts = 0;
  for (const Sequence* sequence : prefilling_) prompts += sequence->prompt_left();
  if (prompts == 0) return batch_limit_;
  if (++batch_turns_ < batch_prompts_every_) return batch_limit_;
  batch_turns_ = 0;
  return static_cast<int32_t>(std::max<int64_t>(0, batch_limit_ - prompts));
}

void Scheduler::PlanDecodes(StepPlan& plan, InFlight& step) {
  // A waiting prompt needs tokens, but only a few spans.
  const int32_t tokens = options_.token_budget;
  const int32_t spans = options_.max_spans;
  const int32_t most =
      interactive_.prefilling > 0
          ? std::max(1, std::min(tokens - std::max(1, tokens / 4), spans - std::max(1, spans / 16)))
          : std::min(tokens, spans);
  const auto batch = static_cast<int32_t>(decoding_.size()) - interactive_.decoding;
  const int32_t batch_decodes = BatchDecodes();
  const int32_t interactive = std::min(most, interactive_.decoding);
  const int32_t decodes = std::min(most, interactive + std::min(batch, batch_decodes));
  // Rows of forced tokens; half of what prompts may take, where any waits.
  int32_t spare =
      std::min(tokens - decodes, PrefillBeside(interactive_.any() ? interactive : decodes)) /
      (prefilling_.empty() ? 1 : 2);
  std::deque<Sequence*> order = std::exchange(decoding_, {});
  for (Sequence*& sequence : order) {
    if (plan.decode_tokens >= most) break;
    if (sequence->yields || !MayDraw(*sequence)) continue;
    spare -= PlanDecode(*std::exchange(sequence, nullptr), spare, plan, step);
  }
  for (Sequence*& sequence : order) {
    if (plan.decode_tokens >= most) break;
    if (sequence == nullptr || !sequence->yields || !MayDraw(*sequence)) continue;
    const int32_t left = batch_decodes - plan.batch_rows;
    if (left > 0) {
      const int32_t more = std::min(spare, left - 1);
      spare -= PlanDecode(*std::exchange(sequence, nullptr), more, plan, step);
    } else if (sequence->draws < sequence->spec.max_tokens &&
               plan.decode_tokens + plan.deferred_rows < most) {
      ++plan.deferred_rows;
    }
  }
  // The others keep their turn.
  std::erase(order, nullptr);
  decoding_.insert(decoding_.begin(), order.begin(), order.end());
}

// With at most `spare` rows beyond the first; returns how many.
int32_t Scheduler::PlanDecode(Sequence& sequence, int32_t spare, StepPlan& plan, InFlight& step) {
  decoding_.push_back(&sequence);
  if (sequence.draws >= sequence.spec.max_tokens) return 0;  // its last draw is in flight
  const auto forced = static_cast<int32_t>(std::max<size_t>(1, sequence.ahead.size())) - 1;
  const int32_t more = std::min(spare, forced);
  AddSpan(sequence, 1 + more, plan, step);
  ++plan.decode_tokens;
  if (!sequence.yields) ++plan.interactive_decodes;
  plan.prefill_tokens += more;
  plan.forced_rows += more;
  return more;
}

}  // namespace based
