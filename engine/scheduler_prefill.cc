// How prompts share the rows that decodes leave.
#include <algorithm>

#include "engine/scheduler.h"
#include "engine/sequence.h"

namespace based {
namespace {

// Prompt tokens for each decode where all that runs is batch work: it has no latency to keep, and
// fed prompts fill the steps, but an interactive request that comes now waits for the step.
constexpr int32_t kBatchPrefill = 3;

}  // namespace

bool Scheduler::OnlyBatchRuns() const {
  return yielding_slots_ == slots_.active() &&
         std::all_of(parked_.begin(), parked_.end(),
                     [](const Sequence* sequence) { return sequence->yields; });
}

// Rows that are not decodes, at most, in a step with so many that are.
int32_t Scheduler::PrefillBeside(int32_t decodes) const {
  if (decodes == 0) return options_.token_budget;
  return mixed_prefill_tokens_ >= 0 ? mixed_prefill_tokens_ : std::max(32, decodes);
}

void Scheduler::PlanPrefills(StepPlan& plan, InFlight& step) {
  // Where interactive work runs, decodes of batch work have no latency to keep.
  int32_t beside =
      PrefillBeside(interactive_.any() ? plan.interactive_decodes : plan.decode_tokens);
  if (plan.decode_tokens > 0 && beside > 0 && OnlyBatchRuns()) {
    beside = std::max(beside, kBatchPrefill * plan.decode_tokens);
  }
  int64_t left = std::min(options_.token_budget - plan.decode_tokens, beside) - plan.prefill_tokens;
  std::vector<Sequence*> order(prefilling_.begin(), prefilling_.end());
  const auto yielding = std::stable_partition(
      order.begin(), order.end(), [this](Sequence* sequence) { return !Yields(*sequence); });
  const absl::Span<Sequence* const> all(order);
  const auto interactive = static_cast<size_t>(yielding - order.begin());
  left -= PlanPrefillsOf(all.first(interactive), left, plan, step);
  left = std::min<int64_t>(left, batch_limit_ - plan.batch_rows);
  PlanPrefillsOf(all.subspan(interactive), left, plan, step);
}

// Returns the tokens that were planned.
int64_t Scheduler::PlanPrefillsOf(absl::Span<Sequence* const> waiting, int64_t budget,
                                  StepPlan& plan, InFlight& step) {
  const std::vector<int64_t> lengths = SharePrefill(waiting, budget);
  int64_t planned = 0;
  for (size_t i = 0; i < lengths.size(); ++i) {
    if (static_cast<int32_t>(plan.table.spans.size()) >= options_.max_spans) break;
    Sequence& sequence = *waiting[i];
    const int64_t unsampled = std::max<int64_t>(0, sequence.first_sample() - sequence.position);
    const auto length = static_cast<int32_t>(std::min(lengths[i], unsampled + SamplesLeft(plan)));
    if (length == 0) break;
    AddSpan(sequence, length, plan, step);
    plan.prefill_tokens += length;
    planned += length;
  }
  return planned;
}

// Tokens for each of the first sequences of `waiting`: all to one whose prompt then ends, else at
// most half of what is left while others wait behind it; then what nobody needed to the first.
std::vector<int64_t> Scheduler::SharePrefill(absl::Span<Sequence* const> waiting, int64_t budget) {
  std::vector<int64_t> lengths;
  int64_t left = budget;
  for (size_t i = 0; i < waiting.size() && left > 0; ++i) {
    const bool ends = waiting[i]->prompt_left() <= left;
    const int64_t share = ends || i + 1 == waiting.size() ? left : (left + 1) / 2;
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

}  // namespace based
