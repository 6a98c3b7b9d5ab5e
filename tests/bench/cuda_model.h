// The published 1.3B and 360M shapes as Programs whose weights the cuda backend makes itself.
#ifndef BASED_TESTS_BENCH_CUDA_MODEL_H_
#define BASED_TESTS_BENCH_CUDA_MODEL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/program.h"

namespace based {

struct BenchShape {
  int32_t width = 1792;
  int32_t layers = 36;
  std::vector<int32_t> linear_layers = {1, 6, 11, 16, 21, 27, 33};
  std::vector<int32_t> window_layers = {2, 7, 12, 17, 22, 28, 34};
  int32_t heads = 16;
  int32_t feature_dim = 16;
  int32_t window_left = 128;
  int32_t vocab = 50257;
  int32_t padded_vocab = 50264;
};

BenchShape Based1B();
BenchShape Based360M();

// Residual-stream model as the engine builds it, bf16 synthetic weights, one spare token.
Program BenchProgram(const BenchShape& shape);

int64_t Parameters(const Program& program);

}  // namespace based

#endif  // BASED_TESTS_BENCH_CUDA_MODEL_H_
