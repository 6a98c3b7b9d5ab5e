// Single rules of the scheduler; their interplay is tested by tests/sim.
#include "engine/scheduler.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "engine/constraint/constraint.h"
#include "gtest/gtest.h"
#include "tests/engine/completion_recorder.h"

namespace based {
namespace {

SequenceSpec Spec(RequestId id, size_t prompt_tokens, int64_t max_tokens = 100) {
  SequenceSpec spec;
  spec.id = id;
  for (size_t i = 0; i < prompt_tokens; ++i) spec.prompt.push_back(static_cast<int32_t>(10 + i));
  spec.max_tokens = max_tokens;
  return spec;
}

class SchedulerTest : public ::testing::Test {
 protected:
  StepPlan Plan(Scheduler& scheduler) {
    StepPlan plan;
    scheduler.Plan(now_, plan, events_);
    return plan;
  }
  void Commit(Scheduler& scheduler, const StepPlan& plan, int32_t id = 5) {
    StepOutput output;
    output.ids.assign(plan.table.samples.size(), id);
    output.finite.assign(plan.table.samples.size(), 1);
    scheduler.Commit(output, events_);
  }
  std::vector<int32_t> Lengths(const StepPlan& plan) {
    std::vector<int32_t> lengths;
    for (const Span& span : plan.table.spans) lengths.push_back(span.length);
    return lengths;
  }

  Clock::time_point now_;
  std::vector<SchedulerEvent> events_;
};

TEST_F(SchedulerTest, APromptIsCutIntoChunksAndItsLastRowDraws) {
  Scheduler scheduler({.slots = 1, .token_budget = 8, .max_spans = 4});
  scheduler.Submit(Spec(1, 19));
  int64_t position = 0;
  for (const int32_t length : {8, 8, 3}) {
    const StepPlan plan = Plan(scheduler);
    ASSERT_EQ(Lengths(plan), std::vector<int32_t>({length}));
    EXPECT_EQ(plan.table.spans[0].position, position);
    EXPECT_EQ(plan.table.tokens[0], 10 + position);
    position += length;
    EXPECT_EQ(plan.table.samples.size(), position == 19 ? 1u : 0u);
    Commit(scheduler, plan);
  }
  const StepPlan decode = Plan(scheduler);
  EXPECT_EQ(decode.table.tokens, std::vector<int32_t>({5}));
  EXPECT_EQ(decode.table.spans[0].position, 19);
  EXPECT_EQ(decode.table.samples[0].params.position, 20);
}

TEST_F(SchedulerTest, ALongPromptLeavesHalfToThoseBehindIt) {
  Scheduler scheduler({.slots = 4, .token_budget = 64, .max_spans = 8});
  scheduler.Submit(Spec(1, 1000));
  scheduler.Submit(Spec(2, 10));
  scheduler.Submit(Spec(3, 500));
  EXPECT_EQ(Lengths(Plan(scheduler)), std::vector<int32_t>({32, 10, 22}));
}

TEST_F(SchedulerTest, WhatNobodyNeedsGoesToTheOldest) {
  Scheduler scheduler({.slots = 4, .token_budget = 64, .max_spans = 8});
  scheduler.Submit(Spec(1, 1000));
  scheduler.Submit(Spec(2, 4));
  EXPECT_EQ(Lengths(Plan(scheduler)), std::vector<int32_t>({60, 4}));
}

TEST_F(SchedulerTest, PrefillBesideDecodesIsHeldToItsLimit) {
  Scheduler scheduler({.slots = 4, .token_budget = 64, .max_spans = 8, .mixed_prefill_tokens = 6});
  scheduler.Submit(Spec(1, 2));
  Commit(scheduler, Plan(scheduler));
  scheduler.Submit(Spec(2, 100));
  const StepPlan plan = Plan(scheduler);
  EXPECT_EQ(Lengths(plan), std::vector<int32_t>({1, 6}));
  EXPECT_EQ(plan.decode_tokens, 1);
  EXPECT_EQ(plan.prefill_tokens, 6);
}

TEST_F(SchedulerTest, DecodesTakeTurnsWhenThereAreMoreThanRows) {
  Scheduler scheduler({.slots = 6, .token_budget = 16, .max_spans = 3});
  for (RequestId id = 1; id <= 6; ++id) scheduler.Submit(Spec(id, 1));
  for (int step = 0; step < 6; ++step) Commit(scheduler, Plan(scheduler));
  ASSERT_EQ(scheduler.running(), 6);
  std::vector<int> rows(6, 0);
  for (int step = 0; step < 8; ++step) {
    const StepPlan plan = Plan(scheduler);
    EXPECT_EQ(plan.decode_tokens, 3);
    for (const Span& span : plan.table.spans) ++rows[static_cast<size_t>(span.slot)];
    Commit(scheduler, plan);
  }
  EXPECT_EQ(rows, std::vector<int>(6, 4));
}

TEST_F(SchedulerTest, ASecondStepTakesItsInputFromTheOneInFlight) {
  Scheduler scheduler({.slots = 2, .token_budget = 16, .max_spans = 4});
  scheduler.Submit(Spec(1, 3));
  scheduler.Submit(Spec(2, 4));
  const StepPlan first = Plan(scheduler);
  const StepPlan second = Plan(scheduler);
  EXPECT_EQ(second.table.tokens, std::vector<int32_t>({kTokenFromPrevious, kTokenFromPrevious}));
  EXPECT_EQ(second.table.sources, std::vector<int32_t>({0, 1}));
  Commit(scheduler, first, 7);
  const StepPlan third = Plan(scheduler);
  EXPECT_EQ(third.table.tokens, std::vector<int32_t>({kTokenFromPrevious, kTokenFromPrevious}));
}

// A step that a quarter of the sequences would sit out is planned once their draws are known.
TEST_F(SchedulerTest, AheadIsPlannedOnlyWhereMostTakePart) {
  auto penalized = std::make_shared<RuleSpec>();
  penalized->rules.frequency_penalty = 1;
  for (const RequestId with_history : {1, 2}) {
    Scheduler scheduler({.slots = 5, .token_budget = 16, .max_spans = 8});
    for (RequestId id = 1; id <= 5; ++id) {
      SequenceSpec spec = Spec(id, 1);
      if (id <= with_history) spec.rules = penalized;
      scheduler.Submit(std::move(spec));
    }
    const StepPlan first = Plan(scheduler);
    EXPECT_EQ(first.table.spans.size(), 5u);
    const StepPlan ahead = Plan(scheduler);
    EXPECT_EQ(ahead.table.spans.size(), with_history == 1 ? 4u : 0u);
    Commit(scheduler, first);
    EXPECT_EQ(Plan(scheduler).decode_tokens, 5);
  }
}

TEST_F(SchedulerTest, LateRulesFollowAStepThatIsPlannedAhead) {
  auto penalized = std::make_shared<RuleSpec>();
  penalized->rules.frequency_penalty = 1;
  penalized->never = {3};
  Scheduler scheduler({.slots = 2, .token_budget = 16, .max_spans = 4, .late_rules = true});
  for (const RequestId id : {1, 2}) {
    SequenceSpec spec = Spec(id, 2);
    if (id == 2) spec.rules = penalized;
    scheduler.Submit(std::move(spec));
  }
  const StepPlan first = Plan(scheduler);
  ASSERT_NE(first.table.samples.at(1).rules, nullptr);
  const StepPlan ahead = Plan(scheduler);
  EXPECT_EQ(ahead.table.tokens, std::vector<int32_t>({kTokenFromPrevious, kTokenFromPrevious}));
  EXPECT_FALSE(ahead.table.samples[0].late.has_value());
  const SampleRow& late = ahead.table.samples[1];
  ASSERT_TRUE(late.late.has_value());
  EXPECT_EQ(late.rules, nullptr);
  EXPECT_EQ(late.late->counts, 1);
  EXPECT_EQ(late.late->banned, 1);
  EXPECT_FALSE(late.late->mask);
  EXPECT_EQ(late.params.position, 3);
  Commit(scheduler, first, 7);
  const std::vector<const SampleRules*> rules = scheduler.LateRules();
  ASSERT_EQ(rules.size(), 1u);
  ASSERT_EQ(rules[0]->counts.size(), 1u);
  EXPECT_EQ(rules[0]->counts[0].id, 7);
  EXPECT_EQ(rules[0]->counts[0].output_count, 1);
  Commit(scheduler, ahead, 8);
  EXPECT_TRUE(scheduler.LateRules().empty());
  const StepPlan known = Plan(scheduler);
  EXPECT_EQ(known.table.samples.at(1).rules->counts.size(), 2u);
}

TEST_F(SchedulerTest, ForcedTokensMakeTheDrawAheadVoid) {
  const LetterTokenizer letters(26);
  Grammar grammar;
  ByteSet first_letters, last_letters;
  for (const char letter : {'k', 'l'}) first_letters.set(static_cast<uint8_t>(letter));
  for (const char letter : {'x', 'y'}) last_letters.set(static_cast<uint8_t>(letter));
  grammar.SetStart(grammar.Sequence(
      {grammar.OneOf(first_letters), grammar.Bytes("cdef"), grammar.OneOf(last_letters)}));
  auto rules = std::make_shared<RuleSpec>();
  rules->constraint = *Constraint::Compile(grammar, *TokenTrie::Create(letters, 26, 0), {});
  rules->spelling = &letters;
  SequenceSpec spec = Spec(1, 2);
  spec.rules = rules;
  Scheduler scheduler({.slots = 1, .token_budget = 16, .max_spans = 4, .late_rules = true});
  scheduler.Submit(std::move(spec));
  const StepPlan first = Plan(scheduler);
  const StepPlan ahead = Plan(scheduler);
  ASSERT_TRUE(ahead.table.samples.at(0).late.has_value());
  EXPECT_TRUE(ahead.table.samples[0].late->mask);
  events_.clear();
  Commit(scheduler, first, 'k' - 'a');
  const std::vector<int32_t> expected = {'k' - 'a', 'c' - 'a', 'd' - 'a', 'e' - 'a'};
  std::vector<int32_t> tokens;
  for (const SchedulerEvent& event : events_) tokens.push_back(event.token);
  EXPECT_EQ(tokens, expected);
  EXPECT_EQ(scheduler.LateRules(), std::vector<const SampleRules*>({nullptr}));
  // What was drawn has been fed; the forced ones have not, and the draw after them has its rules.
  const StepPlan chunk = Plan(scheduler);
  EXPECT_EQ(chunk.table.tokens, std::vector<int32_t>({'c' - 'a', 'd' - 'a', 'e' - 'a'}));
  EXPECT_EQ(chunk.table.spans.at(0).position, 3);
  EXPECT_NE(chunk.table.samples.at(0).rules, nullptr);
  EXPECT_EQ(chunk.table.samples[0].params.position, 6);
  events_.clear();
  Commit(scheduler, ahead, kNone);
  EXPECT_TRUE(events_.empty());
  EXPECT_TRUE(scheduler.LateRules().empty());
  Commit(scheduler, chunk, 'f' - 'a');
  ASSERT_EQ(events_.size(), 1u);
  EXPECT_EQ(events_[0].token, 'f' - 'a');
}

int32_t FirstAllowed(const SampleRules& rules) {
  int32_t id = 0;
  while ((rules.mask[0] >> id & 1) == 0) ++id;
  return id;
}

TEST_F(SchedulerTest, WhereForcedTokensAreFrequentDrawsAreAwaited) {
  const LetterTokenizer letters(26);
  Grammar grammar;
  ByteSet choice;
  for (const char letter : {'k', 'l'}) choice.set(static_cast<uint8_t>(letter));
  // Two draws a word: its first letter, which forces the next two, and its last.
  grammar.SetStart(
      grammar.Repeat(grammar.Sequence({grammar.OneOf(choice), grammar.Bytes("cde")}), 100, 100));
  auto rules = std::make_shared<RuleSpec>();
  rules->constraint = *Constraint::Compile(grammar, *TokenTrie::Create(letters, 26, 0), {});
  rules->spelling = &letters;
  SequenceSpec spec = Spec(1, 2, /*max_tokens=*/1000);
  spec.rules = rules;
  Scheduler scheduler({.slots = 1, .token_budget = 16, .max_spans = 4, .late_rules = true});
  scheduler.Submit(std::move(spec));
  std::deque<std::pair<StepPlan, int32_t>> in_flight;  // and what it draws
  std::vector<bool> ahead;
  while (ahead.size() < 80) {
    StepPlan plan = Plan(scheduler);
    ahead.push_back(!in_flight.empty() && !plan.empty());
    if (!plan.empty()) {
      const SampleRules* known = plan.table.samples.at(0).rules;
      in_flight.emplace_back(std::move(plan), known != nullptr ? FirstAllowed(*known) : kNone);
      if (in_flight.size() < 2) continue;
    }
    Commit(scheduler, in_flight.front().first, in_flight.front().second);
    in_flight.pop_front();
    for (const SampleRules* late : scheduler.LateRules()) {
      if (late != nullptr) in_flight.back().second = FirstAllowed(*late);
    }
  }
  EXPECT_TRUE(std::find(ahead.begin(), ahead.begin() + 10, true) != ahead.begin() + 10);
  EXPECT_TRUE(std::find(ahead.end() - 20, ahead.end(), true) == ahead.end());
  for (const SchedulerEvent& event : events_) {
    EXPECT_NE(event.kind, SchedulerEvent::Kind::kFinished);
    EXPECT_NE(event.kind, SchedulerEvent::Kind::kEnded);
  }
}

TEST_F(SchedulerTest, TheDrawAheadOfAnEndedSequenceIsVoid) {
  auto penalized = std::make_shared<RuleSpec>();
  penalized->rules.frequency_penalty = 1;
  Scheduler scheduler({.slots = 3, .token_budget = 16, .max_spans = 4, .late_rules = true});
  for (const RequestId id : {1, 2, 3}) {
    SequenceSpec spec = Spec(id, 2);
    spec.rules = penalized;
    if (id == 1) spec.eos_token_id = 7;
    scheduler.Submit(std::move(spec));
  }
  const StepPlan first = Plan(scheduler);
  const StepPlan ahead = Plan(scheduler);
  scheduler.Cancel(3, absl::CancelledError("gone"), events_);
  Commit(scheduler, first, 7);
  const std::vector<const SampleRules*> rules = scheduler.LateRules();
  ASSERT_EQ(rules.size(), 3u);
  EXPECT_EQ(rules[0], nullptr);
  EXPECT_NE(rules[1], nullptr);
  EXPECT_EQ(rules[2], nullptr);
  events_.clear();
  Commit(scheduler, ahead, 8);
  ASSERT_EQ(events_.size(), 1u);
  EXPECT_EQ(events_[0].id, 2u);
  EXPECT_EQ(scheduler.slots().free(), 2);
}

TEST_F(SchedulerTest, TheSlotOfAStoppedSequenceIsFreeOnceItsStepsRetire) {
  Scheduler scheduler({.slots = 1, .token_budget = 16, .max_spans = 4});
  scheduler.Submit(Spec(1, 3));
  scheduler.Submit(Spec(2, 3));
  const StepPlan first = Plan(scheduler);
  const StepPlan second = Plan(scheduler);
  scheduler.Cancel(1, absl::CancelledError("gone"), events_);
  EXPECT_EQ(scheduler.slots().free(), 0);
  Commit(scheduler, first);
  EXPECT_EQ(scheduler.slots().free(), 0);
  Commit(scheduler, second);
  EXPECT_EQ(scheduler.slots().free(), 1);
  const StepPlan third = Plan(scheduler);
  EXPECT_EQ(third.clear_slots, std::vector<int32_t>({0}));
  EXPECT_EQ(third.table.spans[0].position, 0);
}

TEST_F(SchedulerTest, NoDrawIsPlannedBeyondMaxTokens) {
  Scheduler scheduler({.slots = 1, .token_budget = 16, .max_spans = 4});
  scheduler.Submit(Spec(1, 3, /*max_tokens=*/2));
  const StepPlan first = Plan(scheduler);
  const StepPlan second = Plan(scheduler);
  EXPECT_EQ(second.table.samples.size(), 1u);
  Commit(scheduler, first);
  EXPECT_TRUE(Plan(scheduler).empty());
  Commit(scheduler, second);
  EXPECT_TRUE(scheduler.idle());
  EXPECT_EQ(events_.back().kind, SchedulerEvent::Kind::kFinished);
  EXPECT_EQ(events_.back().reason, FinishReason::kMaxTokens);
}

TEST_F(SchedulerTest, APassedDeadlineEndsQueuedAndRunningAlike) {
  Scheduler scheduler({.slots = 1, .token_budget = 16, .max_spans = 4});
  SequenceSpec running = Spec(1, 3);
  running.deadline = now_ + std::chrono::milliseconds(5);
  SequenceSpec queued = Spec(2, 3);
  queued.deadline = now_ + std::chrono::milliseconds(4);
  scheduler.Submit(running);
  scheduler.Submit(queued);
  Commit(scheduler, Plan(scheduler));
  events_.clear();
  now_ += std::chrono::milliseconds(5);
  EXPECT_TRUE(Plan(scheduler).empty());
  ASSERT_EQ(events_.size(), 2u);
  EXPECT_EQ(events_[0].id, 2u);
  EXPECT_EQ(events_[1].id, 1u);
  for (const SchedulerEvent& event : events_) {
    EXPECT_EQ(event.status.code(), absl::StatusCode::kDeadlineExceeded);
  }
  EXPECT_TRUE(scheduler.idle());
}

}  // namespace
}  // namespace based
