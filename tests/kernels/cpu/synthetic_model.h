// A BASED model of any shape with random weights, as a Program: for tests and benchmarks of the CPU
// backend that need no checkpoint.
#ifndef BASED_TESTS_KERNELS_CPU_SYNTHETIC_MODEL_H_
#define BASED_TESTS_KERNELS_CPU_SYNTHETIC_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <random>
#include <string>
#include <vector>

#include "kernels/program.h"

namespace based {

struct ModelShape {
  std::string layers = "clw";  // mixers: c convolution, l linear attention, w window
  int32_t width = 64;          // D
  int32_t heads = 4;
  int32_t feature_dim = 16;
  int32_t window_left = 8;
  int32_t vocab = 61;
  int32_t padded_vocab = 64;
  DType dtype = DType::kF32;
  uint32_t seed = 1;
};

class SyntheticModel {
 public:
  explicit SyntheticModel(const ModelShape& shape);

  // Points into this object.
  const Program& program() const { return program_; }
  int64_t parameters() const { return parameters_; }

 private:
  WeightId AddWeight(const std::string& name, int64_t rows, int64_t cols, float spread,
                     float middle = 0);
  void AddMixer(char kind, const std::string& prefix);
  void AddConv(const std::string& prefix);
  void AddLinearAttention(const std::string& prefix);
  void AddWindow(const std::string& prefix);
  void AddMlp(const std::string& prefix);
  void AddNorm(const std::string& name);
  void AddLinear(BufferId in, std::vector<WeightId> weights, WeightId bias, Epilogue epilogue,
                 BufferId out);
  BufferId AddBuffer(int32_t width);

  ModelShape shape_;
  Program program_;
  int64_t parameters_ = 0;
  std::mt19937 random_;
  std::deque<std::vector<std::byte>> storage_;
  BufferId residual_ = kNone;
  BufferId normed_ = kNone;
};

}  // namespace based

#endif  // BASED_TESTS_KERNELS_CPU_SYNTHETIC_MODEL_H_
