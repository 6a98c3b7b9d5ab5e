// How draws are planned when what they depend on may not be known yet.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"
#include "kernels/base/check.h"

namespace based {
namespace {

// At most one decoding sequence in so many sits out a step that is planned ahead.
constexpr int64_t kOneInMaySitOut = 4;

// A draw ahead that is void costs its sequence a step; to await each draw costs every step the time
// between two. At a larger share of draws that forced tokens follow, the second is cheaper.
constexpr float kMostVoid = 1.0f / 6;
constexpr float kJumpMemory = 32;  // draws

}  // namespace

bool Scheduler::MayDraw(const Sequence& sequence) const {
  const bool may_be_late = options_.late_rules && sequence.jump_share < kMostVoid;
  return may_be_late || sequence.rules_are_known();
}

// Whether so many decoding sequences would sit out a step planned now that it is better planned
// when the draws in flight are known: a step of few rows takes nearly as long as one of all. Beside
// interactive work, which most batch sequences sit out anyway, those do not count.
bool Scheduler::AwaitsDraws() const {
  if (in_flight_.empty()) return false;
  const bool all = !interactive_.any();
  const auto waiting = std::count_if(
      decoding_.begin(), decoding_.end(),
      [&](const Sequence* sequence) { return (all || !sequence->yields) && !MayDraw(*sequence); });
  const auto decodes =
      all ? static_cast<int64_t>(decoding_.size()) : int64_t{interactive_.decoding};
  return waiting > 0 && waiting * kOneInMaySitOut >= decodes;
}

void Scheduler::AddDraw(Sequence& sequence, int32_t row, StepPlan& plan, InFlight& step) {
  sequence.draw_step = steps_planned_ + 1;
  sequence.draw_sample = static_cast<int32_t>(plan.table.samples.size());
  const SequenceSpec& spec = sequence.spec;
  SampleRow sample{.row = row, .params = spec.sampling, .logprob = spec.logprobs};
  if (spec.logprobs) sample.top_logprobs = spec.top_logprobs;
  sample.params.position = sequence.position;
  if (!sequence.rules_are_known()) {
    sample.late = sequence.rules->MostAfterNext();
  } else if (sequence.rules != nullptr) {
    sample.rules = &sequence.rules->ForDraw(sequence.draws);
  }
  ++sequence.draws;
  plan.table.samples.push_back(sample);
  step.samples.push_back({&sequence, kNone, sample.late.has_value()});
}

// Why the draw that is next to be known gave nothing.
absl::Status Scheduler::NothingToDraw(Sequence& sequence) {
  std::vector<absl::string_view> fields;
  if (sequence.rules != nullptr) fields = sequence.rules->FieldsThatLeaveNone(sequence.committed);
  return absl::FailedPreconditionError(absl::StrCat(
      "no token is left to draw", fields.empty() ? "" : ": ", absl::StrJoin(fields, " and "),
      fields.empty()       ? ""
      : fields.size() == 1 ? " excludes all"
                           : " together exclude all"));
}

std::vector<const SampleRules*> Scheduler::LateRules() {
  std::vector<const SampleRules*> rules;
  if (in_flight_.empty()) return rules;
  for (const Sampled& sampled : in_flight_.back().samples) {
    if (!sampled.has_late_rules) continue;
    Sequence& sequence = *sampled.sequence;
    const bool wanted = !sampled.is_void && sequence.phase != Sequence::Phase::kEnded;
    rules.push_back(wanted ? &sequence.rules->ForDraw(sequence.committed) : nullptr);
  }
  return rules;
}

// Takes the tokens that can only follow the one just drawn.
void Scheduler::JumpAhead(Sequence& sequence, std::vector<SchedulerEvent>& events) {
  if (sequence.rules == nullptr || sequence.phase == Sequence::Phase::kEnded) return;
  const std::vector<int32_t> forced = sequence.rules->Forced(sequence.committed);
  const float jumps = forced.empty() ? 0 : 1;
  sequence.jump_share += (jumps - sequence.jump_share) / kJumpMemory;
  if (forced.empty()) return;
  if (sequence.draw_is_known()) {
    sequence.ahead.push_back(sequence.last_token);
  } else {
    VoidDraw(sequence);
  }
  for (const int32_t token : forced) {
    if (sequence.phase == Sequence::Phase::kEnded) return;
    sequence.ahead.push_back(token);
    ++sequence.draws;
    ++forced_tokens_;
    CommitToken(sequence, {.id = sequence.spec.id, .token = token, .index = sequence.index},
                events);
  }
}

// The step in flight feeds the token drawn last, and draws what is not drawn but forced.
void Scheduler::VoidDraw(Sequence& sequence) {
  BASED_CHECK(in_flight_.size() == 1 && sequence.draw_step == steps_planned_);
  Sampled& sampled = in_flight_.back().samples[static_cast<size_t>(sequence.draw_sample)];
  BASED_CHECK(sampled.sequence == &sequence && sampled.has_late_rules);
  sampled.is_void = true;
  --sequence.draws;
}

}  // namespace based
