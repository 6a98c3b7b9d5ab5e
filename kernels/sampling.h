// What drawing a token means: the rules, their order, and the random numbers. Host backends call
// SampleFromLogits; device kernels implement the same and are compared with it.
//
// Order, fixed (ids at or above vocab_size never take part):
//   1. temperature   l_i / temperature; temperature 0 is argmax (lowest id on a tie) and ends here
//   2. top_k         keep the k largest; of equal logits the lower id
//   3. top_p         of what is left, renormalised, keep the smallest set of largest probabilities
//                    (equal ones: lower id first) whose sum reaches top_p; at least one
//   4. min_p         of what is left, keep p_i >= min_p * max p
//   5. draw          u in [0, 1) from Philox; the first kept id, in ascending id order, whose
//                    cumulative renormalised probability exceeds u
// The draw depends on (seed, position) and the logits alone, never on the batch.
#ifndef BASED_KERNELS_SAMPLING_H_
#define BASED_KERNELS_SAMPLING_H_

#include <cstdint>

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

// Uniform number in [0, 1), a multiple of 2^-24: the top 24 bits of word 0 of Philox4x32-10
// (Salmon et al. 2011) with key (seed low, seed high) and counter (position low, position high, 0,
// 0).
float PhiloxUniform(uint64_t seed, int64_t position);

// Returns the drawn id, or -1 when a logit is NaN or Inf. `logits` holds ids [0, vocab_size).
template <typename T>  // float or double
int32_t SampleFromLogits(absl::Span<const T> logits, const SampleParams& params);

// log p(id) under softmax(logits), in double.
template <typename T>
double LogProbability(absl::Span<const T> logits, int32_t id);

}  // namespace based

#endif  // BASED_KERNELS_SAMPLING_H_
