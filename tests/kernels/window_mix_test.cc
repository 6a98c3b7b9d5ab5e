// WindowMix on every backend against softmax attention under a mask.
#include <gtest/gtest.h>

#include <algorithm>
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
  int32_t heads;
  int32_t head_dim;
  int32_t window_left;
  int32_t length = 90;
};

constexpr int32_t kInputRows = 41;
constexpr double kBase = 10000;

// q . rot(k, -distance): what rot(q, t) . rot(k, t - distance) is at every t. Also the same over
// absolute values.
std::pair<double, double> RotatedProduct(const double* q, const double* k, size_t head_dim,
                                         size_t distance) {
  const size_t half = head_dim / 2;
  double product = 0;
  double magnitude = 0;
  for (size_t i = 0; i < half; ++i) {
    const double angle =
        -static_cast<double>(distance) *
        std::pow(kBase, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    const double first = k[i] * std::cos(angle) - k[i + half] * std::sin(angle);
    const double second = k[i + half] * std::cos(angle) + k[i] * std::sin(angle);
    product += q[i] * first + q[i + half] * second;
    magnitude += std::hypot(q[i], q[i + half]) * std::hypot(k[i], k[i + half]);
  }
  return {product, magnitude};
}

// Softmax over the keys u with t - W <= u <= t. Magnitude: an error d of the scores changes every
// probability by at most a factor exp(2 d).
Oracle MaskedAttention(const Shape& shape, const Rows& in) {
  const size_t heads = static_cast<size_t>(shape.heads);
  const size_t head_dim = static_cast<size_t>(shape.head_dim);
  const size_t width = heads * head_dim;
  const Rows zeros(in.size(), std::vector<double>(width, 0.0));
  Oracle oracle{zeros, zeros};
  for (size_t t = 0; t < in.size(); ++t) {
    const size_t first = t - std::min(t, static_cast<size_t>(shape.window_left));
    for (size_t h = 0; h < heads; ++h) {
      std::vector<double> weights;
      double sum = 0;
      double score_magnitude = 0;
      for (size_t u = first; u <= t; ++u) {
        const auto [product, magnitude] =
            RotatedProduct(&in[t][h * head_dim], &in[u][width + h * head_dim], head_dim, t - u);
        weights.push_back(std::exp(product / std::sqrt(static_cast<double>(head_dim))));
        sum += weights.back();
        score_magnitude =
            std::max(score_magnitude, magnitude / std::sqrt(static_cast<double>(head_dim)));
      }
      for (size_t u = first; u <= t; ++u) {
        const double* v = &in[u][2 * width + h * head_dim];
        for (size_t e = 0; e < head_dim; ++e) {
          const double part = weights[u - first] / sum * v[e];
          oracle.values[t][h * head_dim + e] += part;
          oracle.magnitudes[t][h * head_dim + e] += std::abs(part) * (1 + 2 * score_magnitude);
        }
      }
    }
  }
  return oracle;
}

class WindowMixTest : public ::testing::TestWithParam<std::tuple<std::string, Shape>> {
 protected:
  void SetUp() override {
    const Shape& shape = std::get<1>(GetParam());
    const int32_t width = shape.heads * shape.head_dim;
    const BufferId in = model_.AddInput(random_, kInputRows, 3 * width);
    const BufferId out = model_.AddBuffer(width);
    model_.AddOp(WindowMixOp{.in = in,
                             .heads = shape.heads,
                             .head_dim = shape.head_dim,
                             .window_left = shape.window_left,
                             .rope_base = kBase,
                             .out = out});
    model_.AddIdentityLogits(out);
  }

  // Sums run over the head's columns and over the visible keys.
  double MixTolerance() const {
    const auto& [backend, shape] = GetParam();
    return Tolerance(backend, shape.head_dim + shape.window_left + 1);
  }

  RandomData random_{21};
  TestModel model_;
};

TEST_P(WindowMixTest, EqualsMaskedAttentionHoweverCut) {
  const auto& [backend, shape] = GetParam();
  BASED_MAKE_RUNNER(runner, backend, model_.program());
  const std::vector<int32_t> tokens = random_.Ids(shape.length, kInputRows);
  const Oracle expected = MaskedAttention(shape, model_.Inputs(tokens));
  ExpectSequence(runner, backend, tokens, expected, MixTolerance());
}

// Rotary angles depend on distances alone, so far out the same tokens give the same result once the
// window holds nothing from before them. An fp32 angle would err by 0.05 there.
TEST_P(WindowMixTest, KeepsItsPhaseFarOut) {
  const auto& [backend, shape] = GetParam();
  BASED_MAKE_RUNNER(runner, backend, model_.program());
  const std::vector<int32_t> tokens = random_.Ids(shape.window_left + 20, kInputRows);
  const auto after_window = [&shape = shape](const Rows& rows) {
    return Rows(rows.begin() + shape.window_left, rows.end());
  };
  Oracle expected = MaskedAttention(shape, model_.Inputs(tokens));
  expected = {after_window(expected.values), after_window(expected.magnitudes)};
  for (const int64_t position : {int64_t{1'000'000}, int64_t{5'000'000'017}}) {
    SCOPED_TRACE(position);
    ExpectClose(after_window(runner.Sequence(tokens, 9, position)), expected, MixTolerance());
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, WindowMixTest,
    ::testing::Combine(::testing::ValuesIn(TestBackends()),
                       ::testing::Values(Shape{1, 64, 65, 200}, Shape{2, 16, 0}, Shape{3, 28, 1},
                                         Shape{5, 16, 4}, Shape{4, 64, 5}, Shape{2, 112, 65},
                                         Shape{1, 2, 5}, Shape{3, 10, 33}, Shape{2, 16, 128, 300})),
    [](const auto& test) {
      const Shape& shape = std::get<1>(test.param);
      return absl::StrCat(std::get<0>(test.param), "_h", shape.heads, "_e", shape.head_dim, "_w",
                          shape.window_left);
    });

}  // namespace
}  // namespace based
