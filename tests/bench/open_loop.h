// Open-loop load: requests arrive as a Poisson process, whether or not earlier ones have ended.
#ifndef BASED_TESTS_BENCH_OPEN_LOOP_H_
#define BASED_TESTS_BENCH_OPEN_LOOP_H_

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "tests/bench/serve_load.h"

namespace based {

struct OpenLoopOptions {
  double rate = 1;  // requests a second
  // Requests at the start, with prompts of one token and outputs of any length up to the full one:
  // what a load that has run for long finds under way.
  int32_t live = 0;
  double warmup = 1;  // seconds
  double seconds = 5;
  int32_t server_pid = 0;
};

// Loads `target` with requests of `make_ask` (called with 0, 1, ...) and prints one line of
// figures.
// `measured` is called when the measurement begins. Requests refused with RESOURCE_EXHAUSTED are
// counted; another error ends the load.
absl::Status RunOpenLoop(Target& target, const OpenLoopOptions& options,
                         const std::function<Ask(int32_t)>& make_ask,
                         const std::function<void()>& measured);

}  // namespace based

#endif  // BASED_TESTS_BENCH_OPEN_LOOP_H_
