// Predicted waits where the answer is known.
#include "engine/wait_model.h"

#include "gtest/gtest.h"

namespace based {
namespace {

// A step takes 1 ms whatever is in it, a prompt token 0.1 ms more.
EngineLoad LoadOf(std::vector<SequenceLoad> running) {
  EngineLoad load;
  load.slots = static_cast<int32_t>(running.size());
  load.running = std::move(running);
  load.step_seconds = load.one_row_seconds = 1e-3;
  load.prompt_seconds = 1e-4;
  load.row_budget = 512;
  return load;
}

EngineLoad Equal(int32_t slots, int64_t left) {
  return LoadOf(std::vector<SequenceLoad>(static_cast<size_t>(slots), {.output_tokens = left}));
}

QueueLoad Request(int64_t prompt, int64_t output, int32_t completions = 1) {
  return {.requests = 1,
          .prompt_tokens = prompt,
          .output_tokens = output * completions,
          .completions = completions};
}

// Milliseconds.
double Predict(const EngineLoad& load, int32_t tenant = 0, bool batch = false) {
  WaitModel model;
  model.SetLoad(load);
  return 1e3 * model.Predict(tenant, 1, batch).value_or(-1);
}

void Queue(EngineLoad& load, int32_t requests, const QueueLoad& each, int32_t tenant = 0,
           bool batch = false) {
  for (int32_t i = 0; i < requests; ++i) load.Queue(tenant, 1, batch, each);
}

TEST(WaitModel, IsNothingWhileSlotsAreFree) {
  EngineLoad load = Equal(4, 100);
  load.slots = 5;
  load.free_slots = 1;
  EXPECT_EQ(Predict(load), 0);
  Queue(load, 1, Request(0, 10));
  EXPECT_NEAR(Predict(load), 10, 0.01);
}

TEST(WaitModel, SaysNothingBeforeTheFirstStep) {
  EngineLoad load = Equal(4, 100);
  load.step_seconds = 0;
  EXPECT_EQ(Predict(load), -1000);
  load.free_slots = 1;
  EXPECT_EQ(Predict(load), 0);
}

// What was admitted together ends together, and those that wait are whole generations.
TEST(WaitModel, EqualLengthsAreGenerations) {
  EngineLoad load = Equal(8, 100);
  for (int32_t waiting = 0; waiting < 40; ++waiting) {
    EXPECT_NEAR(Predict(load), 100 + 50 * (waiting / 8), 0.01) << waiting;
    Queue(load, 1, Request(0, 50));
  }
}

TEST(WaitModel, UniformEndsComeOneByOne) {
  std::vector<SequenceLoad> running;
  for (int i = 1; i <= 10; ++i)
    running.push_back({.output_tokens = 100, .drawn_tokens = 100 - 10 * i});
  EngineLoad load = LoadOf(running);
  for (int32_t waiting = 0; waiting < 10; ++waiting) {
    EXPECT_NEAR(Predict(load), 10 * (waiting + 1), 0.01);
    Queue(load, 1, Request(0, 1000));
  }
}

TEST(WaitModel, OneLongSequenceHoldsUpNobodyElse) {
  EngineLoad load = LoadOf({{.output_tokens = 1'000'000}, {.output_tokens = 20}});
  EXPECT_NEAR(Predict(load), 20, 0.01);
  Queue(load, 3, Request(0, 20));
  EXPECT_NEAR(Predict(load), 80, 0.01);
}

TEST(WaitModel, PromptsTakeTheirTimeBesideDecodes) {
  // 20 steps until a slot is free, and in them a prompt of 1,000 tokens: 8 a step.
  EngineLoad load = LoadOf({{.output_tokens = 20},
                            {.output_tokens = 100},
                            {.prompt_tokens = 1000, .output_tokens = 100}});
  EXPECT_NEAR(Predict(load), 20 * 1.8, 0.01);
  // With nothing beside them: 200 ms for the two and their steps, then 10 steps.
  load = LoadOf({{.prompt_tokens = 1024, .output_tokens = 10}});
  EXPECT_NEAR(Predict(load), 102.4 + 2 + 10, 0.01);
  Queue(load, 1, Request(512, 10));
  EXPECT_NEAR(Predict(load), 114.4 + 51.2 + 1 + 10, 0.01);
}

TEST(WaitModel, StepsOfFewRowsTakeLess) {
  EngineLoad load = Equal(10, 100);
  load.running.resize(1);
  load.slots = 10;
  load.step_seconds = 10e-3;
  Queue(load, 9, Request(0, 1000));
  // All slots are taken at once: steps of ten.
  EXPECT_NEAR(Predict(load), 1000, 0.01);
  load.slots = 1;
  load.waiting.clear();
  load.tenants.clear();
  load.step_seconds = 1e-3;
  EXPECT_NEAR(Predict(load), 100, 0.01);
}

TEST(WaitModel, EarlyEndsComeAsTheyDid) {
  EngineLoad load = Equal(100, 1000);
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 50; ++i) load.drawn.Add(1 + 2 * (i * 19 % 50), 100);
  }
  // The first of a hundred ends soon, half of them when half is drawn.
  EXPECT_LT(Predict(load), 25);
  Queue(load, 50, Request(0, 1'000'000));
  EXPECT_NEAR(Predict(load), 500, 60);
}

TEST(WaitModel, ForksTakeSlotsOneAfterAnother) {
  std::vector<SequenceLoad> running;
  for (int i = 1; i <= 4; ++i) running.push_back({.output_tokens = 10 * i});
  EngineLoad load = LoadOf(running);
  Queue(load, 1, Request(0, 100, 3));
  // It takes the slots of 10, 20 and 30 ms; the first of these is its source.
  EXPECT_NEAR(Predict(load), 40, 0.01);
  Queue(load, 1, Request(0, 100));
  EXPECT_NEAR(Predict(load), 120, 0.01);
  Queue(load, 1, Request(0, 100));
  EXPECT_NEAR(Predict(load), 130, 0.01) << "the source and the last of its forks begin together";
  // One that runs and waits for slots for its forks goes before the queue.
  load = LoadOf({{.output_tokens = 10}, {.output_tokens = 50, .completions = 2}});
  EXPECT_NEAR(Predict(load), 60, 0.01);
}

TEST(WaitModel, BatchWorkMakesRoomWhereItMayBeParked) {
  std::vector<SequenceLoad> running(4, {.output_tokens = 100});
  running[1].batch = running[3].batch = true;
  EngineLoad load = LoadOf(running);
  EXPECT_NEAR(Predict(load), 100, 0.01);
  load.parkable = 2;
  EXPECT_EQ(Predict(load), 0);
  Queue(load, 1, Request(0, 30));
  EXPECT_EQ(Predict(load), 0);
  Queue(load, 1, Request(0, 40));
  EXPECT_NEAR(Predict(load), 30, 0.01);
  // Batch work waits for interactive work, and for what was parked for it: that takes the slots of
  // 30 and 40 ms, and the interactive sequences end at 100.
  EXPECT_NEAR(Predict(load, 0, true), 100, 0.01);
  Queue(load, 2, Request(0, 5), 0, true);
  EXPECT_NEAR(Predict(load, 0, true), 105, 0.01);
  EXPECT_NEAR(Predict(load), 30, 0.01);
}

TEST(WaitModel, BatchWorkLeavesReservedSlots) {
  EngineLoad load = LoadOf({{.output_tokens = 10}, {.output_tokens = 20}, {.output_tokens = 30}});
  load.slots = 4;
  load.free_slots = load.reserved_slots = 1;
  EXPECT_EQ(Predict(load), 0);
  EXPECT_NEAR(Predict(load, 0, true), 10, 0.01);
}

TEST(WaitModel, BatchSequencesThatTakeTurnsEndLater) {
  EngineLoad load =
      LoadOf({{.output_tokens = 100}, {.output_tokens = 40, .pace = 3, .batch = true}});
  EXPECT_NEAR(Predict(load), 100, 0.01);
  load.running[1].pace = 2;
  EXPECT_NEAR(Predict(load), 80, 0.01);
}

TEST(WaitModel, WhatIsParkedGoesOnFirst) {
  EngineLoad load = Equal(1, 10);
  load.parked = {{.output_tokens = 50}, {.output_tokens = 70, .batch = true}};
  EXPECT_NEAR(Predict(load), 60, 0.01);
  EXPECT_NEAR(Predict(load, 0, true), 130, 0.01);
}

TEST(WaitModel, ATenantWithLittleWaitingPassesTheOthers) {
  EngineLoad load = Equal(1, 10);
  Queue(load, 50, Request(0, 20), 1);
  Queue(load, 1, Request(0, 20), 2);
  EXPECT_NEAR(Predict(load, 1), 10 + 51 * 20, 0.01);
  // Those of tenant 1 and 2 take turns; behind the second of either.
  EXPECT_NEAR(Predict(load, 2), 10 + 3 * 20, 21);
  EXPECT_NEAR(Predict(load, 3), 10 + 2 * 20, 21);
  // By weight: one that has half the weight waits for twice as much.
  WaitModel model;
  model.SetLoad(load);
  model.Queue(4, 0.1, false, Request(0, 20));
  EXPECT_NEAR(*model.Predict(4, 0.1, false), 1e-3 * (10 + 12 * 20), 25e-3);
}

TEST(WaitModel, ATenantBehindItsShareDisplacesOthers) {
  EngineLoad load = Equal(4, 100);
  load.tenants.resize(2);
  load.tenants[0] = {.is_live = true, .slots = 4};
  load.now[0] = 1000;
  load.burst_tokens = 100;
  EXPECT_NEAR(Predict(load, 1), 100, 0.01) << "where nothing may be parked";
  load.park_room = 1;
  EXPECT_EQ(Predict(load, 1), 0);
  WaitModel model;
  model.SetLoad(load);
  EXPECT_NEAR(*model.PredictLast(), 0.1, 1e-5) << "who has no claim to slots of others waits";
  EXPECT_NEAR(Predict(load, 0), 100, 0.01);
  Queue(load, 1, Request(0, 100), 1);
  EXPECT_NEAR(Predict(load, 1), 100, 0.01);
}

// What is admitted is added to what was simulated: it must be as if all had been known.
TEST(WaitModel, GoesOnWithWhatIsAdmitted) {
  EngineLoad load = Equal(3, 10);
  WaitModel model;
  model.SetLoad(load);
  for (int i = 0; i < 30; ++i) {
    const QueueLoad request = Request(i % 7, 5 + i * 13 % 40, 1 + i % 3);
    const bool batch = i % 4 == 3;
    EXPECT_NEAR(1e3 * *model.Predict(0, 1, batch), Predict(load, 0, batch), 1e-6) << i;
    model.Queue(0, 1, batch, request);
    load.Queue(0, 1, batch, request);
  }
}

TEST(WaitModel, OfManyAFewStandForAll) {
  EngineLoad load;
  load.slots = 4096;
  load.every = EngineLoad::EveryOf(load.slots, 5000);
  EXPECT_EQ(load.every, 32);
  for (int i = 0; i < 128; ++i)
    load.running.push_back({.output_tokens = 1000, .drawn_tokens = 2 * i});
  load.step_seconds = load.one_row_seconds = 1e-3;
  load.prompt_seconds = 1e-9;
  load.row_budget = 8192;
  Queue(load, 5000, Request(100, 1000));
  EXPECT_EQ(load.waiting.size(), 157u);
  // 4096 slots end within 746 to 1000 steps; a fifth of them ends once more before.
  EXPECT_NEAR(Predict(load), 1000 + 746 + 254 * 904 / 4096, 10);
}

TEST(WaitModel, TheLargestLoadHasAnAnswer) {
  EngineLoad load = Equal(EngineLoad::kMostSlots, 1000);
  for (size_t i = 0; i < load.running.size(); ++i)
    load.running[i].drawn_tokens = static_cast<int64_t>(i);
  for (int i = 0; i < 200; ++i) load.drawn.Add(i, 200);
  Queue(load, EngineLoad::kMostWaiting, Request(100, 1000));
  const double prompts = 0.1 * EngineLoad::kMostWaiting * 100;
  EXPECT_GT(Predict(load), prompts);
  // Whole generations, which they seldom are.
  const int generations = 2 + EngineLoad::kMostWaiting / EngineLoad::kMostSlots;
  EXPECT_LT(Predict(load), prompts + 1000 * generations);
}

}  // namespace
}  // namespace based
