// What batch work may take of a step beside interactive work, and that it takes turns in that.
#include <algorithm>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "engine/held_slots.h"
#include "engine/scheduler.h"
#include "gtest/gtest.h"

namespace based {
namespace {

constexpr int kCalmSteps = 16;

class BatchRowsTest : public ::testing::Test {
 protected:
  void Submit(Scheduler& scheduler, RequestId id, bool batch, size_t prompt = 1,
              int64_t max_tokens = 100'000) {
    SequenceSpec spec;
    spec.id = id;
    spec.prompt.assign(prompt, 3);
    spec.max_tokens = max_tokens;
    spec.batch = batch;
    spec.submitted = now_;
    spec.held_slots = held_[id] = std::make_shared<HeldSlots>();
    scheduler.Submit(std::move(spec));
  }
  StepPlan Plan(Scheduler& scheduler) {
    StepPlan plan;
    scheduler.Plan(now_, plan, events_);
    return plan;
  }
  void Commit(Scheduler& scheduler, const StepPlan& plan) {
    StepOutput output;
    output.ids.assign(plan.table.samples.size(), 5);
    output.finite.assign(plan.table.samples.size(), 1);
    scheduler.Commit(output, events_);
    events_.clear();
  }
  StepPlan Step(Scheduler& scheduler) {
    StepPlan plan = Plan(scheduler);
    if (!plan.empty()) Commit(scheduler, plan);
    return plan;
  }
  void End(Scheduler& scheduler, RequestId id) {
    scheduler.Cancel(id, absl::CancelledError("done"), events_);
    events_.clear();
  }
  // The request's tokens in the step.
  int32_t RowsOf(const StepPlan& plan, RequestId id) {
    const std::vector<int32_t> slots = held_.at(id)->List();
    int32_t rows = 0;
    for (const Span& span : plan.table.spans) {
      if (std::find(slots.begin(), slots.end(), span.slot) != slots.end()) rows += span.length;
    }
    return rows;
  }
  // Requests first to last of batch work, all of them decoding.
  void StartBatch(Scheduler& scheduler, RequestId first, RequestId last) {
    for (RequestId id = first; id <= last; ++id) Submit(scheduler, id, true);
    for (RequestId id = first; id <= last; ++id) Step(scheduler);
  }

  Clock::time_point now_ = Clock::time_point(std::chrono::hours(1));
  std::map<RequestId, std::shared_ptr<HeldSlots>> held_;
  std::vector<SchedulerEvent> events_;
};

TEST_F(BatchRowsTest, AloneItHasEveryRow) {
  Scheduler scheduler({.slots = 8, .token_budget = 64, .batch_rows = 2});
  StartBatch(scheduler, 1, 8);
  const StepPlan plan = Step(scheduler);
  EXPECT_EQ(plan.decode_tokens, 8);
  EXPECT_EQ(plan.batch_rows, 8);
  EXPECT_EQ(plan.interactive_decodes, 0);
  EXPECT_EQ(plan.deferred_rows, 0);
}

TEST_F(BatchRowsTest, BesideInteractiveWorkItTakesTurnsInFewRows) {
  Scheduler scheduler({.slots = 8, .token_budget = 64, .batch_rows = 2});
  StartBatch(scheduler, 1, 7);
  Submit(scheduler, 9, false);
  std::map<RequestId, int32_t> rows, longest, since;
  for (int step = 0; step < 70; ++step) {
    const StepPlan plan = Step(scheduler);
    EXPECT_EQ(RowsOf(plan, 9), 1);
    EXPECT_EQ(plan.batch_rows, 2);
    EXPECT_EQ(plan.table.tokens.size(), 3u);
    EXPECT_EQ(plan.deferred_rows, 5);
    for (RequestId id = 1; id <= 7; ++id) {
      const int32_t own = RowsOf(plan, id);
      rows[id] += own;
      since[id] = own > 0 ? 0 : since[id] + 1;
      longest[id] = std::max(longest[id], since[id]);
    }
  }
  for (RequestId id = 1; id <= 7; ++id) {
    EXPECT_EQ(rows[id], 20) << id;
    EXPECT_LE(longest[id], 3) << id;
  }
}

TEST_F(BatchRowsTest, AsManyAsInteractiveRowsUnlessTold) {
  Scheduler scheduler({.slots = 12, .token_budget = 64});
  StartBatch(scheduler, 1, 8);
  for (RequestId id = 11; id <= 13; ++id) {
    Submit(scheduler, id, false);
    Step(scheduler);
    EXPECT_EQ(Step(scheduler).batch_rows, static_cast<int32_t>(id - 10));
  }
  scheduler.SetBatchRows(5);
  EXPECT_EQ(Step(scheduler).batch_rows, 5);
}

TEST_F(BatchRowsTest, TheLimitEndsAFewStepsAfterInteractiveWork) {
  Scheduler scheduler({.slots = 8, .token_budget = 64, .batch_rows = 2});
  StartBatch(scheduler, 1, 7);
  Submit(scheduler, 9, false);
  Step(scheduler);
  Step(scheduler);
  End(scheduler, 9);
  for (int step = 1; step < kCalmSteps; ++step) EXPECT_EQ(Step(scheduler).batch_rows, 2) << step;
  EXPECT_EQ(Step(scheduler).batch_rows, 7);
}

// A step without batch work teaches what that costs; there must be something else in it.
TEST_F(BatchRowsTest, NoRowsAtAllOnlyBesideInteractiveDecodes) {
  Scheduler scheduler({.slots = 8, .token_budget = 64});
  StartBatch(scheduler, 1, 7);
  scheduler.SetBatchRows(0);
  Submit(scheduler, 9, false);
  EXPECT_EQ(Step(scheduler).batch_rows, 1);  // beside its prompt
  EXPECT_EQ(Step(scheduler).batch_rows, 0);
  EXPECT_EQ(Step(scheduler).batch_rows, 0);
  End(scheduler, 9);
  EXPECT_EQ(Step(scheduler).batch_rows, 1);
}

TEST_F(BatchRowsTest, AnInteractivePromptHasTheStepThoughBatchWorkDecodes) {
  Scheduler scheduler(
      {.slots = 10, .token_budget = 64, .mixed_prefill_tokens = 6, .batch_rows = 2});
  StartBatch(scheduler, 1, 7);
  Submit(scheduler, 9, false, 1000);
  EXPECT_EQ(RowsOf(Step(scheduler), 9), 62);
  // Beside an interactive decode it is held to its limit.
  End(scheduler, 9);
  Submit(scheduler, 10, false);
  Step(scheduler);
  Submit(scheduler, 11, false, 1000);
  const StepPlan plan = Step(scheduler);
  EXPECT_EQ(RowsOf(plan, 10), 1);
  EXPECT_EQ(RowsOf(plan, 11), 6);
}

TEST_F(BatchRowsTest, PromptsOfBatchWorkTakeEverySecondStep) {
  Scheduler scheduler({.slots = 8, .token_budget = 64, .batch_rows = 4});
  StartBatch(scheduler, 1, 6);
  Submit(scheduler, 9, false);
  Step(scheduler);
  Submit(scheduler, 10, true, 11);
  int32_t fed = 0, decoded = 0;
  for (int step = 0; step < 6; ++step) {
    const StepPlan plan = Step(scheduler);
    EXPECT_EQ(RowsOf(plan, 9), 1);
    EXPECT_EQ(plan.batch_rows, 4);
    EXPECT_TRUE(RowsOf(plan, 10) == 0 || RowsOf(plan, 10) >= 3);
    fed += RowsOf(plan, 10);
    decoded += plan.batch_rows - RowsOf(plan, 10);
  }
  EXPECT_GE(fed, 11);
  EXPECT_GE(decoded, 12);
}

TEST_F(BatchRowsTest, OrMoreRarely) {
  Scheduler scheduler({.slots = 8, .token_budget = 64});
  StartBatch(scheduler, 1, 6);
  Submit(scheduler, 9, false);
  Step(scheduler);
  Submit(scheduler, 10, true, 1000);
  scheduler.SetBatchRows(4, /*prompts_every=*/3);
  std::vector<int32_t> fed;
  for (int step = 0; step < 9; ++step) fed.push_back(RowsOf(Step(scheduler), 10));
  EXPECT_EQ(std::count(fed.begin(), fed.end(), 4), 3);
  EXPECT_EQ(std::count(fed.begin(), fed.end(), 0), 6);
}

// What waits for a slot waits the less the sooner batch work ends.
TEST_F(BatchRowsTest, WaitingInteractiveWorkLimitsNothing) {
  Scheduler scheduler({.slots = 4, .token_budget = 64});
  StartBatch(scheduler, 1, 4);
  Submit(scheduler, 9, false);
  EXPECT_EQ(Step(scheduler).batch_rows, 4);
}

TEST_F(BatchRowsTest, WhatWaitedForTooLongIsNotLimited) {
  Scheduler scheduler({.slots = 4,
                       .token_budget = 64,
                       .batch_rows = 1,
                       .batch_patience = std::chrono::seconds(10)});
  StartBatch(scheduler, 1, 3);
  Submit(scheduler, 9, false);
  for (int step = 0; step < 5; ++step) {
    now_ += std::chrono::seconds(3);
    EXPECT_EQ(Step(scheduler).table.spans.size(), 2u);  // each has a row every 9 s
  }
  now_ += std::chrono::seconds(10);
  EXPECT_EQ(Step(scheduler).table.spans.size(), 4u);
}

// With a step in flight, a sequence that sits out takes its input from the host when it is back.
TEST_F(BatchRowsTest, StepsThatArePlannedAheadSkipSequencesToo) {
  Scheduler scheduler({.slots = 4, .token_budget = 64, .batch_rows = 1});
  StartBatch(scheduler, 1, 3);
  Submit(scheduler, 9, false);
  Step(scheduler);
  StepPlan first = Plan(scheduler);
  std::map<RequestId, int32_t> rows;
  for (int step = 0; step < 30; ++step) {
    const StepPlan ahead = Plan(scheduler);
    ASSERT_EQ(ahead.table.spans.size(), 2u);
    EXPECT_EQ(ahead.table.tokens[0], kTokenFromPrevious);
    EXPECT_EQ(ahead.table.tokens[1], 5);
    for (const RequestId id : {1, 2, 3}) rows[id] += RowsOf(ahead, id);
    Commit(scheduler, first);
    first = ahead;
  }
  for (const RequestId id : {1, 2, 3}) EXPECT_EQ(rows[id], 10) << id;
}

// Draws of interactive work that must be awaited are, however much batch work could go on.
TEST_F(BatchRowsTest, BatchWorkDoesNotMakeInteractiveWorkSitOut) {
  auto penalized = std::make_shared<RuleSpec>();
  penalized->rules.frequency_penalty = 1;
  Scheduler scheduler({.slots = 8, .token_budget = 64, .batch_rows = 2});
  StartBatch(scheduler, 1, 7);
  SequenceSpec spec;
  spec.id = 9;
  spec.prompt = {1};
  spec.max_tokens = 100;
  spec.rules = penalized;
  scheduler.Submit(std::move(spec));
  for (int step = 0; step < 3; ++step) {
    const StepPlan first = Plan(scheduler);
    EXPECT_EQ(first.table.spans.size(), 3u);
    EXPECT_TRUE(Plan(scheduler).empty());
    Commit(scheduler, first);
  }
}

}  // namespace
}  // namespace based
