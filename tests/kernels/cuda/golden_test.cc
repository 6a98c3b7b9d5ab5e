// The golden logits of the published modules on the GPU, with fp32 weights and with weights rounded
// to bf16, however a sequence is cut into spans.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <tuple>
#include <vector>

#include "engine/checkpoint.h"
#include "engine/model_config.h"
#include "engine/safetensors.h"
#include "kernels/cuda/cuda_backend.h"

namespace based {
namespace {

template <typename T>
std::vector<T> Values(const SafetensorsFile& file, const std::string& name) {
  const Tensor& tensor = file.tensors().at(name);
  std::vector<T> values(tensor.bytes.size() / sizeof(T));
  std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

class CudaGoldenTest
    : public ::testing::TestWithParam<std::tuple<const char*, CudaPrecision, int32_t>> {};

TEST_P(CudaGoldenTest, LogitsEqualTheGoldenOnes) {
  const auto& [fixture, precision, span] = GetParam();
  const auto backend = NewCudaBackend({.precision = precision});
  if (absl::IsUnavailable(backend.status())) GTEST_SKIP() << backend.status();
  ASSERT_TRUE(backend.ok()) << backend.status();
  const std::string dir = std::string(BASED_SOURCE_DIR "/tests/golden/") + fixture;
  const auto config = LoadModelConfig(dir + "/config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  const auto checkpoint = LoadCheckpoint(dir, *config);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto executable =
      (*backend)->Compile(checkpoint->program, {.max_rows = 256, .max_samples = 256});
  ASSERT_TRUE(executable.ok()) << executable.status();
  ASSERT_TRUE((*executable)->CreateSlots(2).ok());
  const auto golden = SafetensorsFile::Open(dir + "/golden.safetensors");
  ASSERT_TRUE(golden.ok()) << golden.status();
  const auto ids = Values<int32_t>(*golden, "input_ids");
  const auto logits = Values<float>(*golden, "logits");
  const int32_t length = static_cast<int32_t>(golden->tensors().at("input_ids").shape[1]);

  double error = 0;
  double norm = 0;
  size_t next = 0;
  for (size_t sequence = 0; sequence < ids.size(); sequence += static_cast<size_t>(length)) {
    ASSERT_TRUE((*executable)->ClearSlots({1}).ok());
    for (int32_t start = 0; start < length; start += span) {
      const int32_t rows = std::min(span, length - start);
      StepTable table;
      table.spans = {{.slot = 1, .row = 0, .length = rows, .position = start}};
      for (int32_t row = 0; row < rows; ++row) {
        table.tokens.push_back(ids[sequence + static_cast<size_t>(start + row)]);
        table.samples.push_back({.row = row, .params = {}, .sample = false, .logits = true});
      }
      StepOutput output;
      ASSERT_TRUE((*executable)->Launch(table).ok());
      ASSERT_TRUE((*executable)->Collect(output).ok());
      for (const double value : output.logits) {
        const double expected = static_cast<double>(logits.at(next++));
        error += (value - expected) * (value - expected);
        norm += expected * expected;
      }
    }
  }
  ASSERT_EQ(next, logits.size());
  const double rel_err = std::sqrt(error / norm);
  RecordProperty("rel_err", std::to_string(rel_err * 1e9) + "e-9");
  EXPECT_LE(rel_err, precision == CudaPrecision::kF32 ? 1e-4 : 2e-2);
}

INSTANTIATE_TEST_SUITE_P(Fixtures, CudaGoldenTest,
                         ::testing::Combine(::testing::Values("tiny-a", "tiny-b"),
                                            ::testing::Values(CudaPrecision::kF32,
                                                              CudaPrecision::kBF16),
                                            ::testing::Values(1, 7, 37, 256)),
                         [](const auto& test) {
                           const bool fp32 = std::get<1>(test.param) == CudaPrecision::kF32;
                           return std::string(std::get<0>(test.param)).substr(5) +
                                  (fp32 ? "_fp32" : "_bf16") + "_spans" +
                                  std::to_string(std::get<2>(test.param));
                         });

}  // namespace
}  // namespace based
