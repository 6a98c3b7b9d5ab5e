// Thousands of simulated days. BASED_SIM_SEED=N replays one, BASED_SIM_SEEDS=N changes how many
// run.
#include <cstdlib>
#include <iostream>
#include <string>

#include "gtest/gtest.h"
#include "tests/sim/simulation.h"

namespace based {
namespace {

uint64_t FromEnvironment(const char* name, uint64_t fallback) {
  const char* text = std::getenv(name);
  return text == nullptr ? fallback : std::stoull(text);
}

TEST(SchedulerSim, EverySeedKeepsEveryRule) {
  const char* one = std::getenv("BASED_SIM_SEED");
  const uint64_t first = FromEnvironment("BASED_SIM_SEED", 1);
  const uint64_t count = one != nullptr ? 1 : FromEnvironment("BASED_SIM_SEEDS", 10'000);
  SimulationResult total;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    const SimulationResult result = Simulate(seed);
    ASSERT_EQ(result.error, "") << "replay with: BASED_SIM_SEED=" << seed
                                << " build/cpu/tests/scheduler_sim_test";
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
  std::cout << count << " seeds: " << total.steps << " steps, " << total.requests << " requests, "
            << total.finished << " finished, " << total.cancelled << " cut, " << total.tokens
            << " tokens, " << total.parks << " parks, " << total.resumes << " resumes, "
            << total.late_draws << " late draws, " << total.void_draws << " of them void\n";
  EXPECT_GT(total.finished, 0);
  if (count > 100) {
    EXPECT_GT(total.resumes, 0);
    EXPECT_GT(total.void_draws, 0);
    EXPECT_GT(total.late_draws, total.void_draws);
  }
}

// Two requests of n above half the slots never fit side by side: their forks wait for slots one by
// one, and all end with every token that they are to have.
TEST(SchedulerSim, ForksThatWaitForSlotsNeverDeadlock) {
  for (uint64_t seed = 1; seed <= 500; ++seed) {
    const SimulationResult result = SimulateForks(seed);
    ASSERT_EQ(result.error, "") << "seed " << seed;
    ASSERT_EQ(result.finished, 30) << "seed " << seed;
  }
}

TEST(SchedulerSim, ASeedGivesOneTrace) {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    const SimulationResult first = Simulate(seed);
    const SimulationResult again = Simulate(seed);
    ASSERT_EQ(first.trace, again.trace) << "seed " << seed;
    ASSERT_NE(first.trace, Simulate(seed + 1).trace) << "seed " << seed;
  }
}

}  // namespace
}  // namespace based
