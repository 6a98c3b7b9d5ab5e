// What tests of the sampling kernel compare it with: the rules of kernels/sampling.h by the book,
// in double, with sorts of the whole vocabulary; independent of the host's sampler.
#ifndef BASED_TESTS_KERNELS_CUDA_SAMPLE_ORACLE_H_
#define BASED_TESTS_KERNELS_CUDA_SAMPLE_ORACLE_H_

#include <cstdint>
#include <vector>

#include "kernels/sampling.h"

namespace based {

// Penalties, biases and masks, rounded as fp32; a masked logit is -infinity.
std::vector<float> OracleRules(std::vector<float> logits, const SampleRules& rules);

// Probabilities after temperature and every selection. `nudge` moves the sums that typical_p and
// top_p must reach by that fraction of them. REQUIRES: temperature > 0, an id that is not masked.
std::vector<double> OracleDistribution(const std::vector<float>& ruled, const SampleParams& params,
                                       double typical_p, double nudge = 0);

// Whether sums in fp32 could draw `id`: within 2e-6 of the draw's bounds, under sums for typical_p
// and top_p that are exact or 2e-6 off.
bool RoundingMayDraw(const std::vector<float>& ruled, const SampleParams& params, double typical_p,
                     int32_t id);

}  // namespace based

#endif  // BASED_TESTS_KERNELS_CUDA_SAMPLE_ORACLE_H_
