// What one simulated day is made of, and the random choices in it.
#ifndef BASED_TESTS_SIM_SCENARIO_H_
#define BASED_TESTS_SIM_SCENARIO_H_

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "absl/types/span.h"
#include "engine/scheduler.h"
#include "tests/sim/sim_executable.h"

namespace based {

// Where choices come from: given bytes, two per choice, and then a generator.
class Choices {
 public:
  using result_type = uint64_t;
  Choices(uint64_t seed, absl::Span<const uint8_t> bytes) : generator_(seed), bytes_(bytes) {}

  static constexpr uint64_t min() { return 0; }
  static constexpr uint64_t max() { return UINT64_MAX; }
  uint64_t operator()() {
    if (bytes_.size() < 2) return generator_();
    const uint64_t high = static_cast<uint64_t>(bytes_[0]) << 8 | bytes_[1];
    bytes_.remove_prefix(2);
    // The distributions draw again where all low bits are zero.
    return high << 48 | uint64_t{1} << 47;
  }

  int64_t Uniform(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(*this);
  }
  bool Chance(double share) { return std::uniform_real_distribution<>(0, 1)(*this) < share; }

 private:
  std::mt19937_64 generator_;
  absl::Span<const uint8_t> bytes_;
};

// Drawn per seed, some features off ("swarm"), so that seeds differ in kind.
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
  double slow_share = 0;  // readers that give up after a few tokens
  double eos_share = 0;   // requests that honour eos
  double fork_share = 0;  // requests for several completions
  int32_t least_completions = 1;
  double score_share = 0;       // requests that score their prompt, some of them nothing else
  double logprob_share = 0;     // requests that ask for logprobs of what they draw
  double rules_share = 0;       // requests whose draws depend on what they drew
  double constraint_share = 0;  // requests whose text a grammar describes
  double batch_share = 0;       // requests of batch work
  double session_share = 0;     // requests that are a turn of a conversation
  std::vector<double> weights;  // of tenants, at least one

  // Nothing makes an interactive sequence wait once it has begun.
  bool steady() const { return scheduler.max_parked == 0 || weights.size() == 1; }
  // Slots that forks of batch work leave free: one may always be taken.
  int32_t reserved_of_forks() const {
    return std::clamp(scheduler.slots - 2, 0, scheduler.reserved_slots);
  }
  // Batch work may have waited for so long that it is interactive.
  bool ages() const { return scheduler.batch_patience < std::chrono::seconds(100); }
};

// Tokens in a row, at most, that a constrained request takes without a draw.
inline constexpr int64_t kLongestForced = 4;

Scenario DrawScenario(Choices& choices);
// `s` as nothing but requests for several completions, all at once.
Scenario OnlyForks(Scenario s);
inline Scenario AsDrawn(Scenario s) { return s; }
// A fuzzer learns more from many short days: its bytes choose all of one, not its morning.
Scenario ShortDay(Scenario s);
// A request as the scenario has them; deadlines are counted from `now`.
SequenceSpec DrawSpec(const Scenario& scenario, RequestId id, Clock::time_point now,
                      Choices& choices);

}  // namespace based

#endif  // BASED_TESTS_SIM_SCENARIO_H_
