// What a completion must be: the same request run by itself, token by token, without a scheduler.
#ifndef BASED_TESTS_SIM_ALONE_H_
#define BASED_TESTS_SIM_ALONE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/scheduler.h"
#include "tests/sim/sim_executable.h"

namespace based {

// What was heard of one.
struct Completion {
  std::vector<int32_t> tokens;
  std::vector<std::vector<TokenLogprob>> logprobs;  // of each token
  std::vector<TokenLogprob> scores;                 // of the prompt
};

// Empty where `heard` is what completion `index` must be, with this end; else the first difference.
std::string CompareWithAlone(const SimModel& model, const SequenceSpec& spec, int32_t index,
                             const Completion& heard, FinishReason reason);

// The same for the scores of prompt and continuation: every token from score_from on, once and in
// order.
std::string CompareScores(const SequenceSpec& spec, int32_t index,
                          const std::vector<TokenLogprob>& scores);

}  // namespace based

#endif  // BASED_TESTS_SIM_ALONE_H_
