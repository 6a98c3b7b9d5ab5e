#include "engine/step_cost.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace based {
namespace {

// A machine: seconds of a step.
struct Machine {
  double fixed, decode, prefill;
  double mixed = 0;  // more for any prefill
  double Seconds(int32_t decodes, int32_t prefills) const {
    return fixed + decode * decodes + prefill * prefills + (prefills > 0 ? mixed : 0);
  }
};

// Runs `steps` steps with batch work that takes all it may; returns the rows of each.
std::vector<int32_t> RunBeside(const Machine& machine, int32_t decodes, int steps, StepCost& cost,
                               int32_t available = 1000) {
  std::vector<int32_t> rows;
  for (int i = 0; i < steps; ++i) {
    rows.push_back(std::min(available, cost.BatchBeside(decodes, 0)));
    cost.Observe(decodes + rows.back(), 0, machine.Seconds(decodes + rows.back(), 0));
    cost.ObserveBatch(decodes, rows.back());
  }
  return rows;
}

// Runs `steps` steps as the engine would: what prefill it may have, a prompt always takes.
void RunMixed(const Machine& machine, int32_t decodes, int steps, StepCost& cost,
              int32_t waiting = 1) {
  for (int i = 0; i < steps; ++i) {
    const int32_t prefill = cost.PrefillBeside(decodes, waiting);
    cost.Observe(decodes, prefill, machine.Seconds(decodes, prefill));
  }
}

TEST(StepCost, KnowsNothingAtFirst) {
  StepCost cost;
  EXPECT_EQ(cost.DecodeSeconds(5), 0);
  EXPECT_EQ(cost.PrefillBeside(5, 1), 32);
  EXPECT_EQ(cost.PrefillBeside(100, 1), 100);
  EXPECT_EQ(cost.PrefillBeside(5, 700), 700);
  // Mixed steps say nothing while decodes alone are unknown: one of those is wanted.
  for (int i = 0; i < 50; ++i) cost.Observe(8, 32, 5e-3);
  EXPECT_EQ(cost.PrefillBeside(8, 1), 0);
  cost.Observe(8, 0, 2e-3);
  EXPECT_EQ(cost.PrefillBeside(8, 1), 32);
}

TEST(StepCost, FitsTheLineThroughDecodeSteps) {
  const Machine machine = {2e-3, 5e-5, 0};
  StepCost cost;
  for (int i = 0; i < 200; ++i) cost.Observe(1 + i % 32, 0, machine.Seconds(1 + i % 32, 0));
  EXPECT_NEAR(cost.DecodeSeconds(1), machine.Seconds(1, 0), 1e-6);
  EXPECT_NEAR(cost.DecodeSeconds(32), machine.Seconds(32, 0), 1e-6);
}

TEST(StepCost, OneNumberOfDecodesIsEnough) {
  StepCost cost;
  for (int i = 0; i < 200; ++i) cost.Observe(32, 0, 4e-3);
  EXPECT_NEAR(cost.DecodeSeconds(32), 4e-3, 1e-9);
}

TEST(StepCost, MixedStepsStayWithinTheStretchOnAnyMachine) {
  for (const Machine& machine : {Machine{5e-4, 1e-4, 8e-5}, Machine{2e-3, 1e-5, 1e-6},
                                 Machine{1e-5, 2e-3, 1e-3}, Machine{1e-3, 1e-4, 4e-4}}) {
    StepCost cost;
    const int32_t decodes = 32;
    for (int i = 0; i < 50; ++i) cost.Observe(decodes, 0, machine.Seconds(decodes, 0));
    RunMixed(machine, decodes, 300, cost);
    const int32_t prefill = cost.PrefillBeside(decodes, 1);
    const double alone = machine.Seconds(decodes, 0);
    EXPECT_LE(machine.Seconds(decodes, prefill), 1.01 * StepCost::kStretch * alone);
    // And uses what it may.
    EXPECT_GE(machine.Seconds(decodes, prefill + 1), 0.99 * StepCost::kStretch * alone);
  }
}

TEST(StepCost, PromptsThatNeverStopAreLearntFromAllTheSame) {
  const Machine machine = {8e-3, 1e-4, 2e-5};
  StepCost cost;
  int without = 0;
  for (int i = 0; i < 1000; ++i) {
    const int32_t prefill = cost.PrefillBeside(32, 1);
    without += prefill == 0;
    cost.Observe(32, prefill, machine.Seconds(32, prefill));
  }
  EXPECT_GE(without, 4);
  EXPECT_LE(without, 20);
  const double alone = machine.Seconds(32, 0);
  EXPECT_NEAR(machine.Seconds(32, cost.PrefillBeside(32, 1)), StepCost::kStretch * alone,
              0.01 * alone);
}

TEST(StepCost, StepsAreFilledUpToATarget) {
  const int32_t decodes = 32;
  for (const Machine& machine : {Machine{5e-4, 1e-4, 8e-5}, Machine{2e-3, 1e-5, 1e-5}}) {
    for (const double target : {6e-3, 20e-3}) {
      StepCost cost;
      cost.SetTarget(target);
      for (int i = 0; i < 50; ++i) cost.Observe(decodes, 0, machine.Seconds(decodes, 0));
      RunMixed(machine, decodes, 300, cost);
      const int32_t prefill = cost.PrefillBeside(decodes, 1);
      EXPECT_LE(machine.Seconds(decodes, prefill), 1.01 * target);
      EXPECT_GE(machine.Seconds(decodes, prefill + 1), 0.99 * target);
    }
  }
}

TEST(StepCost, ATargetBelowADecodeStepStarvesNoPrompt) {
  StepCost cost;
  cost.SetTarget(1e-3);
  for (int i = 0; i < 50; ++i) cost.Observe(32, 0, 4e-3);
  RunMixed({4e-3, 0, 1e-4}, 32, 50, cost);
  EXPECT_EQ(cost.PrefillBeside(32, 1), StepCost::kLeastPrefill);
}

TEST(StepCost, KnowsWhatAPromptTokenCosts) {
  StepCost cost;
  EXPECT_EQ(cost.PrefillSeconds(), 0);
  for (int i = 0; i < 50; ++i) cost.Observe(0, 512, 10e-3);
  EXPECT_NEAR(cost.PrefillSeconds(), 10e-3 / 512, 1e-9);
  const Machine machine = {1e-3, 1e-4, 5e-5};
  for (int i = 0; i < 50; ++i) cost.Observe(8, 0, machine.Seconds(8, 0));
  RunMixed(machine, 8, 100, cost);
  EXPECT_NEAR(cost.PrefillSeconds(), 5e-5, 1e-6);
}

TEST(StepCost, ShortPromptsSayNothingAboutLongOnes) {
  StepCost cost;
  for (int i = 0; i < 50; ++i) cost.Observe(0, 3, 6e-3);
  EXPECT_EQ(cost.PrefillSeconds(), 0);
  for (int i = 0; i < 50; ++i) cost.Observe(8, 0, 2e-3);
  for (int i = 0; i < 50; ++i) cost.Observe(8, 1, 4e-3);
  EXPECT_EQ(cost.PrefillSeconds(), 0);
  cost.Observe(0, 512, 10e-3);
  EXPECT_NEAR(cost.PrefillSeconds(), 10e-3 / 512, 1e-9);
}

// Decodes at 1 ms + 10 us each, prefill at 2 ms + 5 us each: about an H100 and 1.3B parameters.
TEST(StepCost, AFixedCostIsToldFromTheTokens) {
  const Machine machine = {1e-3, 1e-5, 5e-6, 2e-3};
  StepCost cost;
  for (int i = 0; i < 200; ++i) cost.Observe(1 + i * 5, 0, machine.Seconds(1 + i * 5, 0));
  for (int i = 0; i < 200; ++i) {
    const int32_t prefill = 100 + i * 37 % 900;
    cost.Observe(1000, prefill, machine.Seconds(1000, prefill));
  }
  cost.Observe(1000, 0, machine.Seconds(1000, 0));  // the step without prefill that is now due
  // 0.75 * 11 ms hold 2 ms and 1,250 tokens.
  EXPECT_NEAR(cost.PrefillBeside(1000, 1), 1250, 15);
  // 0.75 * 1.1 ms do not hold the fixed part, which 400 tokens outweigh; nor does the guess.
  EXPECT_EQ(cost.PrefillBeside(10, 1), 32);
  EXPECT_NEAR(cost.PrefillBeside(300, 1), 300, 1);
}

TEST(StepCost, ManyPromptsShareTheTimeByNumbers) {
  const Machine machine = {1e-3, 1e-4, 5e-5};
  StepCost cost;
  for (int i = 0; i < 50; ++i) cost.Observe(1 + i, 0, machine.Seconds(1 + i, 0));
  RunMixed(machine, 10, 300, cost, 60);
  const double alone = machine.Seconds(10, 0);
  EXPECT_NEAR(machine.Seconds(10, cost.PrefillBeside(10, 60)), 7 * alone, 0.1 * alone);
  EXPECT_LE(machine.Seconds(10, cost.PrefillBeside(10, 7)), 1.76 * alone);
}

TEST(StepCost, FreePrefillGrowsStepByStep) {
  StepCost cost;
  for (int i = 0; i < 50; ++i) cost.Observe(4, 0, 1e-3);
  int32_t last = cost.PrefillBeside(4, 1);
  for (int i = 0; i < 300; ++i) {
    cost.Observe(4, last, 1e-3);
    int32_t next = cost.PrefillBeside(4, 1);
    if (next == 0) {
      cost.Observe(4, 0, 1e-3);
      next = cost.PrefillBeside(4, 1);
    }
    ASSERT_LE(next, 2 * last);
    last = std::min(next, 4096);  // the token budget's part
  }
  EXPECT_EQ(last, 4096);
}

// An H100 with 1.3B parameters, a CPU, and what has no cost but that of rows.
constexpr Machine kMachines[] = {{1e-3, 1e-5, 5e-6}, {9e-5, 6e-5, 6e-5}, {0, 1e-3, 1e-3}};

TEST(StepCost, BatchWorkBesideOthersTakesAsLongAsThey) {
  for (const Machine& machine : kMachines) {
    for (const int32_t decodes : {1, 4, 40}) {
      StepCost cost;
      for (int i = 0; i < 200; ++i) cost.Observe(decodes, 0, machine.Seconds(decodes, 0));
      std::vector<int32_t> rows = RunBeside(machine, decodes, 1000, cost);
      rows.erase(rows.begin(), rows.begin() + 200);
      const double alone = machine.Seconds(decodes, 0);
      double all = 0;
      for (const int32_t batch : rows) all += machine.Seconds(decodes + batch, 0) / alone;
      // And uses nearly all of it.
      EXPECT_LE(all / 800, 2.05) << machine.fixed << " " << decodes;
      const double ideal = (machine.fixed + decodes * machine.decode) / machine.decode;
      std::sort(rows.begin(), rows.end());
      EXPECT_GE(rows[rows.size() / 2], std::floor(0.85 * ideal)) << machine.fixed << " " << decodes;
      EXPECT_EQ(rows.front(), 0);  // to learn from
      EXPECT_EQ(std::count(rows.begin(), rows.end(), 0), 800 / (StepCost::kBatchProbes + 1));
    }
  }
}

// Steps of one number of rows tell nothing about fewer: twice what they take is no bound.
TEST(StepCost, AfterBatchWorkAloneItBeginsWithFewRows) {
  for (const Machine& machine : kMachines) {
    StepCost cost;
    for (int i = 0; i < 200; ++i) {
      cost.Observe(1024, 0, machine.Seconds(1024, 0));
      cost.ObserveBatch(0, 1024);
    }
    const std::vector<int32_t> rows = RunBeside(machine, 1, 60, cost);
    EXPECT_EQ(rows[0], 1);
    for (size_t i = 0; i < rows.size(); ++i) {
      const int32_t before = i > 0 ? rows[i - 1] : 1;
      EXPECT_LE(rows[i], 2 * std::max(1, before));
      EXPECT_LE(machine.Seconds(1 + rows[i], 0), 2.1 * machine.Seconds(1, 0)) << rows[i];
    }
  }
}

TEST(StepCost, BatchWorkLeavesInteractivePromptsTheirTime) {
  const Machine machine = {1e-3, 1e-5, 5e-6};
  StepCost cost;
  for (int i = 0; i < 200; ++i) cost.Observe(1 + i % 64, 0, machine.Seconds(1 + i % 64, 0));
  RunBeside(machine, 10, 100, cost);
  EXPECT_NEAR(cost.BatchBeside(10, 0), 110, 10);
  EXPECT_NEAR(cost.BatchBeside(10, 1), 27, 4);
}

TEST(StepCost, BatchWorkFillsStepsUpToATarget) {
  const Machine machine = {1e-3, 1e-5, 5e-6};
  for (const auto& [target, rows] : {std::pair(4e-3, 290), std::pair(1e-3, 1)}) {
    StepCost cost;
    cost.SetTarget(target);
    for (int i = 0; i < 200; ++i) cost.Observe(1 + i % 64, 0, machine.Seconds(1 + i % 64, 0));
    RunBeside(machine, 10, 200, cost);
    EXPECT_NEAR(cost.BatchBeside(10, 0), rows, 0.1 * rows) << target;
  }
}

TEST(StepCost, PromptsOfBatchWorkComeAsOftenAsTheirStepsAllow) {
  StepCost cost;
  EXPECT_EQ(cost.BatchPromptsEvery(1, 100), 2);
  const auto learn = [&](const Machine& machine) {
    for (int i = 0; i < 200; ++i) cost.Observe(1 + i % 128, 0, machine.Seconds(1 + i % 128, 0));
    for (int i = 0; i < 200; ++i) {
      const int32_t prefill = 50 + i * 37 % 900;
      cost.Observe(100, prefill, machine.Seconds(100, prefill));
    }
  };
  // Beside a decode of 1.01 ms, 100 tokens take 0.5 ms; or 2.5 ms, which is that of three steps.
  learn({1e-3, 1e-5, 5e-6});
  EXPECT_EQ(cost.BatchPromptsEvery(1, 100), 2);
  learn({1e-3, 1e-5, 5e-6, 2e-3});
  EXPECT_EQ(cost.BatchPromptsEvery(1, 100), 4);
  EXPECT_EQ(cost.BatchPromptsEvery(500, 500), 2);
  // Nothing fits a target that the decodes exceed, and they come all the same.
  cost.SetTarget(1e-3);
  EXPECT_EQ(cost.BatchPromptsEvery(1, 100), StepCost::kMostBatchTurns);
}

// Whatever it once took a row to cost more than, a machine is learnt anew.
TEST(StepCost, BatchWorkFollowsAMachineThatChanges) {
  StepCost cost;
  RunBeside({0, 1e-3, 1e-3}, 1, 500, cost);
  EXPECT_LE(cost.BatchBeside(1, 0), 1);
  std::vector<int32_t> rows = RunBeside({1e-3, 1e-5, 1e-5}, 1, 2000, cost);
  EXPECT_GE(rows.back(), 70);
  rows = RunBeside({0, 1e-3, 1e-3}, 1, 500, cost);
  EXPECT_LE(rows.back(), 2);
}

TEST(StepCost, PrefillNeverStarves) {
  StepCost cost;
  for (int i = 0; i < 50; ++i) cost.Observe(1, 0, 1e-5);
  RunMixed({1e-5, 0, 1}, 1, 50, cost);
  EXPECT_EQ(cost.PrefillBeside(1, 1), StepCost::kLeastPrefill);
}

TEST(StepCost, StepsThatLostTheirCoreChangeLittle) {
  const Machine machine = {5e-4, 1e-4, 8e-5};
  std::mt19937 random(7);
  StepCost calm, disturbed;
  for (int i = 0; i < 400; ++i) {
    const int32_t prefill = i % 2 == 0 ? 0 : 24;
    const double seconds = machine.Seconds(32, prefill);
    calm.Observe(32, prefill, seconds);
    disturbed.Observe(32, prefill, random() % 20 == 0 ? seconds + 1 : seconds);
  }
  EXPECT_NEAR(disturbed.PrefillBeside(32, 1), calm.PrefillBeside(32, 1), 10);
}

TEST(StepCost, FollowsAMachineThatChanges) {
  StepCost cost;
  for (int i = 0; i < 100; ++i) cost.Observe(32, 0, 4e-3);
  for (int i = 0; i < 200; ++i) cost.Observe(32, 0, 8e-3);
  EXPECT_NEAR(cost.DecodeSeconds(32), 8e-3, 1e-4);
  for (int i = 0; i < 200; ++i) cost.Observe(32, 0, 1e-3);
  EXPECT_NEAR(cost.DecodeSeconds(32), 1e-3, 1e-4);
}

}  // namespace
}  // namespace based
