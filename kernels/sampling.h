// What drawing a token means: the rules, their order, and the random numbers. Host backends call
// SampleFromLogits; device kernels implement the same and are compared with it.
//
// Order, fixed (ids at or above vocab_size never take part):
//   1. penalties     of ids with a TokenCount: first repetition, which divides a positive and
//                    multiplies any other logit; then l_i -= frequency * output_count; then, where
//                    output_count > 0, l_i -= presence
//   2. bias          l_i += bias_i
//   3. masks         ids that are banned, not among the allowed or not in the mask are gone
//   4. temperature   l_i / temperature; temperature 0 is argmax (lowest id on a tie) and ends here
//   5. top_k         keep the k largest; of equal logits the lower id
//   6. typical_p     of what is left, renormalised, with entropy H: keep the smallest set of those
//                    whose |-ln p_i - H| is smallest (equal ones: lower id first) whose sum
//                    reaches typical_p; at least one
//   7. top_p         of what is left, renormalised, keep the smallest set of largest probabilities
//                    (equal ones: lower id first) whose sum reaches top_p; at least one
//   8. min_p         of what is left, keep p_i >= min_p * max p
//   9. draw          u in [0, 1) from Philox; the first kept id, in ascending id order, whose
//                    cumulative renormalised probability exceeds u
// 1 to 3 and 6 are SampleRules, which most draws do without.
// The draw depends on (seed, position), the rules and the logits alone, never on the batch.
#ifndef BASED_KERNELS_SAMPLING_H_
#define BASED_KERNELS_SAMPLING_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace based {

struct SampleParams {
  float temperature = 1.0f;  // >= 0
  int32_t top_k = 0;         // 0: off
  float top_p = 1.0f;        // (0, 1]; 1: off
  float min_p = 0.0f;        // [0, 1]; 0: off
  uint64_t seed = 0;         // Philox key
  int64_t position = 0;      // Philox counter: position in the sequence of the token to be drawn
};

// An id that was seen, and how often it was drawn; 0: in the prompt only.
struct TokenCount {
  int32_t id = 0;
  int32_t output_count = 0;
};

struct TokenBias {
  int32_t id = 0;
  float bias = 0;
};

// The rules that few draws ask for. Ids are in [0, vocab_size); no id stands twice in one list.
struct SampleRules {
  float repetition_penalty = 1.0f;  // > 0; 1: off
  float presence_penalty = 0.0f;    // 0: off
  float frequency_penalty = 0.0f;   // 0: off
  float typical_p = 1.0f;           // (0, 1]; 1: off
  std::vector<TokenCount> counts;   // what the penalties count, as of this draw
  std::vector<TokenBias> biases;
  std::vector<int32_t> allowed;  // empty: all
  std::vector<int32_t> banned;   // in this draw
  // Bit id % 32 of word id / 32 is set where a constraint lets id follow; ceil(vocab_size / 32)
  // words, read by Launch only. Empty: all.
  absl::Span<const uint32_t> mask;
};

// A token and its natural log-probability.
struct TokenScore {
  int32_t id = -1;
  double logprob = 0;
};

// Uniform number in [0, 1), a multiple of 2^-24: the top 24 bits of word 0 of Philox4x32-10
// (Salmon et al. 2011) with key (seed low, seed high) and counter (position low, position high, 0,
// 0).
float PhiloxUniform(uint64_t seed, int64_t position);

// Returns the drawn id, or -1 when a logit is NaN or Inf or the masks leave no id. `logits` holds
// ids [0, vocab_size). `rules` may be null.
template <typename T>  // float or double
int32_t SampleFromLogits(absl::Span<const T> logits, const SampleParams& params,
                         const SampleRules* rules = nullptr);

// log p(id) under softmax(logits), in double.
template <typename T>
double LogProbability(absl::Span<const T> logits, int32_t id);

// Appends the min(count, logits.size()) most likely ids, the lower id first among equal ones, with
// log p as LogProbability gives it.
template <typename T>
void TopScores(absl::Span<const T> logits, int32_t count, std::vector<TokenScore>& scores);

}  // namespace based

#endif  // BASED_KERNELS_SAMPLING_H_
