// Runs the sampling kernel on logits of the test's own, staged as a step stages them.
#ifndef BASED_TESTS_KERNELS_CUDA_SAMPLE_ROWS_H_
#define BASED_TESTS_KERNELS_CUDA_SAMPLE_ROWS_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/device_buffer.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/sample_staging.h"

namespace based::cuda {

struct DrawnRows {
  std::vector<SampleResult> results;
  std::vector<TokenScore> top;
};

// Draws samples[i] from logits[i]; SampleRow::row is ignored. Rows lie `stride` apart.
DrawnRows DrawRows(const std::vector<std::vector<float>>& logits, std::vector<SampleRow> samples,
                   int32_t stride);

// The same, with late samples among them: `supply` is called when the kernel has been launched.
DrawnRows DrawLateRows(const std::vector<std::vector<float>>& logits,
                       std::vector<SampleRow> samples, int32_t stride,
                       const std::function<void(SampleStaging&)>& supply,
                       int64_t limit_ns = kLateLimitNs);

// How often each id is drawn from `logits` at positions [0, draws), a multiple of 2^17. -1 is not
// counted.
std::vector<int64_t> CountDraws(const std::vector<float>& logits, const SampleRow& sample,
                                int64_t draws);

}  // namespace based::cuda

#endif  // BASED_TESTS_KERNELS_CUDA_SAMPLE_ROWS_H_
