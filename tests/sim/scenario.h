// What a simulated day is made of.
#ifndef BASED_TESTS_SIM_SCENARIO_H_
#define BASED_TESTS_SIM_SCENARIO_H_

#include <algorithm>
#include <cstdint>

#include "engine/scheduler.h"
#include "tests/sim/sim_executable.h"

namespace based {

// Drawn per seed, some features off ("swarm"), so that seeds differ in
// kind.
struct Scenario {
  SchedulerOptions scheduler;
  SimModel model;
  int64_t requests = 0;
  double arrivals_per_step = 0;
  int32_t burst = 1;
  int64_t max_prompt = 1;
  int64_t max_tokens = 1;
  double cancel_share = 0;  // of requests, each at a random later step
  double deadline_share = 0;
  double slow_share = 0;   // readers that give up after a few tokens
  double eos_share = 0;    // requests that honour eos
  double fork_share = 0;   // requests for several completions
  int32_t least_completions = 1;
  double score_share = 0;  // requests that score their prompt, some of them nothing else
  double rules_share = 0;  // requests whose draws depend on what they drew
};

inline Scenario AsDrawn(Scenario s) { return s; }

// Requests that come at once, each for more completions than there are free slots, none of which
// ends before its time.
inline Scenario OnlyForks(Scenario s) {
  s.scheduler.slots = std::max(2, s.scheduler.slots);
  s.model.nonfinite_every = 0;
  s.requests = s.burst = 30;
  s.arrivals_per_step = s.burst;
  s.cancel_share = s.deadline_share = s.slow_share = 0;
  s.fork_share = 1;
  s.least_completions = s.scheduler.slots / 2 + 1;
  return s;
}

// A fuzzer learns more from many short days: its bytes choose all of one, not its morning.
inline Scenario ShortDay(Scenario s) {
  s.requests = std::min<int64_t>(s.requests, 8);
  s.max_prompt = std::min<int64_t>(s.max_prompt, 20);
  s.max_tokens = std::min<int64_t>(s.max_tokens, 12);
  return s;
}

}  // namespace based

#endif  // BASED_TESTS_SIM_SCENARIO_H_
