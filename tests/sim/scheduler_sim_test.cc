// Thousands of simulated days. BASED_SIM_SEED=N replays one, BASED_SIM_SEEDS=N changes how many
// run.
#include <cstdlib>
#include <iostream>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/sim/simulation.h"

namespace based {
namespace {

uint64_t FromEnvironment(const char* name, uint64_t fallback) {
  const char* text = std::getenv(name);
  return text == nullptr ? fallback : std::stoull(text);
}

struct Seeds {
  uint64_t first = 1;
  uint64_t count = 1;
  uint64_t end() const { return first + count; }
};

// From 1 on, or the one that is to be replayed.
Seeds SeedsOf(uint64_t count) {
  if (std::getenv("BASED_SIM_SEED") != nullptr) return {FromEnvironment("BASED_SIM_SEED", 1), 1};
  return {1, count};
}

// A command line.
std::string Replay(uint64_t seed) {
  return absl::StrCat("replay with: BASED_SIM_SEED=", seed,
                      " build/cpu/tests/scheduler_sim_test --gtest_filter=SchedulerSim.",
                      testing::UnitTest::GetInstance()->current_test_info()->name());
}

TEST(SchedulerSim, EverySeedKeepsEveryRule) {
  const Seeds seeds = SeedsOf(FromEnvironment("BASED_SIM_SEEDS", 10'000));
  SimulationResult total;
  for (uint64_t seed = seeds.first; seed < seeds.end(); ++seed) {
    const SimulationResult result = Simulate(seed);
    ASSERT_EQ(result.error, "") << Replay(seed);
    total.steps += result.steps;
    total.requests += result.requests;
    total.finished += result.finished;
    total.cancelled += result.cancelled;
    total.tokens += result.tokens;
    total.parks += result.parks;
    total.resumes += result.resumes;
    total.late_draws += result.late_draws;
    total.void_draws += result.void_draws;
  }
  std::cout << seeds.count << " seeds: " << total.steps << " steps, " << total.requests
            << " requests, " << total.finished << " finished, " << total.cancelled << " cut, "
            << total.tokens << " tokens, " << total.parks << " parks, " << total.resumes
            << " resumes, " << total.late_draws << " late draws, " << total.void_draws
            << " of them void\n";
  EXPECT_GT(total.finished, 0);
  if (seeds.count > 100) {
    EXPECT_GT(total.resumes, 0);
    EXPECT_GT(total.void_draws, 0);
    EXPECT_GT(total.late_draws, total.void_draws);
  }
}

// Two requests of n above half the slots never fit side by side: their forks wait for slots one by
// one, and all end with every token that they are to have.
TEST(SchedulerSim, ForksThatWaitForSlotsNeverDeadlock) {
  const Seeds seeds = SeedsOf(500);
  for (uint64_t seed = seeds.first; seed < seeds.end(); ++seed) {
    const SimulationResult result = SimulateForks(seed);
    ASSERT_EQ(result.error, "") << Replay(seed);
    ASSERT_EQ(result.finished, 30) << Replay(seed);
  }
}

TEST(SchedulerSim, ASeedGivesOneTrace) {
  const Seeds seeds = SeedsOf(100);
  for (uint64_t seed = seeds.first; seed < seeds.end(); ++seed) {
    const SimulationResult first = Simulate(seed);
    const SimulationResult again = Simulate(seed);
    ASSERT_EQ(first.trace, again.trace) << Replay(seed);
    ASSERT_NE(first.trace, Simulate(seed + 1).trace) << Replay(seed);
  }
}

}  // namespace
}  // namespace based
