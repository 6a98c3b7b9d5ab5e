// ConvMix on every backend against the sum over taps.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/kernels/op_fixture.h"

namespace based {
namespace {

struct Shape {
  int32_t channels;
  int32_t kernel;
  DType dtype = DType::kBF16;
};

constexpr int32_t kInputRows = 41;
constexpr int32_t kLength = 70;

// Magnitude: silu has a slope of at most 1.1, so an error of c moves the product by 1.1 |g|.
Oracle GatedConvolution(const Shape& shape, const Rows& taps, const Rows& in) {
  const size_t channels = static_cast<size_t>(shape.channels);
  const size_t kernel = static_cast<size_t>(shape.kernel);
  const Rows zeros(in.size(), std::vector<double>(channels, 0.0));
  Oracle oracle{zeros, zeros};
  for (size_t t = 0; t < in.size(); ++t) {
    for (size_t j = 0; j < channels; ++j) {
      double c = 0;
      double c_magnitude = 0;
      for (size_t i = 0; i < kernel; ++i) {
        if (t + 1 + i < kernel) continue;  // before the sequence's start
        const double product = taps[j][i] * in[t + 1 + i - kernel][j];
        c += product;
        c_magnitude += std::abs(product);
      }
      const double gate = in[t][channels + j];
      const double value = c / (1 + std::exp(-c)) * gate;
      oracle.values[t][j] = value;
      oracle.magnitudes[t][j] = 1.1 * c_magnitude * std::abs(gate) + std::abs(value);
    }
  }
  return oracle;
}

class ConvMixTest : public ::testing::TestWithParam<std::tuple<std::string, Shape>> {};

TEST_P(ConvMixTest, EqualsSumOverTapsHoweverCut) {
  const auto& [backend, shape] = GetParam();
  RandomData random(31);
  TestModel model;
  const BufferId in = model.AddInput(random, kInputRows, 2 * shape.channels);
  const WeightId taps = model.AddWeight(shape.dtype, random.Normal(shape.channels, shape.kernel));
  const BufferId out = model.AddBuffer(shape.channels);
  model.AddOp(ConvMixOp{
      .in = in, .taps = taps, .channels = shape.channels, .kernel = shape.kernel, .out = out});
  model.AddIdentityLogits(out);
  BASED_MAKE_RUNNER(runner, backend, model.program());

  const std::vector<int32_t> tokens = random.Ids(kLength, kInputRows);
  const Oracle expected = GatedConvolution(shape, model.values(taps), model.Inputs(tokens));
  ExpectSequence(runner, backend, tokens, expected, Tolerance(backend, shape.kernel));
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, ConvMixTest,
    ::testing::Combine(::testing::ValuesIn(TestBackends()),
                       ::testing::Values(Shape{64, 3}, Shape{5, 3, DType::kF32},
                                         Shape{130, 3, DType::kF16}, Shape{7, 1}, Shape{33, 2},
                                         Shape{16, 4, DType::kF32}, Shape{19, 40, DType::kF16})),
    [](const auto& test) {
      const Shape& shape = std::get<1>(test.param);
      return absl::StrCat(std::get<0>(test.param), "_c", shape.channels, "_k", shape.kernel);
    });

}  // namespace
}  // namespace based
