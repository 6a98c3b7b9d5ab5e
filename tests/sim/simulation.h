// One simulated day of the scheduler: random arrivals, bursts, cancels, deadlines and slow readers
// against the real Scheduler, all from one seed. Every rule that the scheduler promises is checked
// after every step.
#ifndef BASED_TESTS_SIM_SIMULATION_H_
#define BASED_TESTS_SIM_SIMULATION_H_

#include <cstdint>
#include <string>

#include "absl/types/span.h"

namespace based {

struct SimulationResult {
  std::string error;   // empty when every rule held; else the first that broke, with its step
  uint64_t trace = 0;  // hash of everything that happened; equal for equal seeds
  int64_t steps = 0;
  int64_t requests = 0;
  int64_t finished = 0;   // ended by a finish reason, each with exactly the expected tokens
  int64_t cancelled = 0;  // by client, deadline or slow reader
  int64_t tokens = 0;     // drawn
  int64_t parks = 0;
  int64_t resumes = 0;
  int64_t late_draws = 0;  // whose rules came after their step was launched
  int64_t void_draws = 0;  // of these
};

SimulationResult Simulate(uint64_t seed);

// A day of requests that come at once, each for more completions than there are free slots, none of
// which ends before its time.
SimulationResult SimulateForks(uint64_t seed);

// A short day with the random choices taken from `choices` first: a fuzzer's way in.
SimulationResult SimulateChoices(absl::Span<const uint8_t> choices);

}  // namespace based

#endif  // BASED_TESTS_SIM_SIMULATION_H_
