// TaylorMix on every backend against its quadratic form.
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
  int32_t heads;
  int32_t feature_dim;
  int32_t head_dim;
  int32_t length = 70;
};

constexpr int32_t kInputRows = 41;

// out_t = sum_u p(t, u) v_u / (sum_u p(t, u) + eps) over all u <= t, p = 1 + s + s^2 / 2.
// Magnitude: p over the absolute values of its products bounds phi(q) . phi(k) feature by feature.
Oracle QuadraticForm(const Shape& shape, double eps, const Rows& in) {
  const size_t heads = static_cast<size_t>(shape.heads);
  const size_t features = static_cast<size_t>(shape.feature_dim);
  const size_t head_dim = static_cast<size_t>(shape.head_dim);
  const Rows zeros(in.size(), std::vector<double>(heads * head_dim, 0.0));
  Oracle oracle{zeros, zeros};
  for (size_t t = 0; t < in.size(); ++t) {
    for (size_t h = 0; h < heads; ++h) {
      double* value = &oracle.values[t][h * head_dim];
      double* magnitude = &oracle.magnitudes[t][h * head_dim];
      double denominator = eps;
      double denominator_magnitude = eps;
      for (size_t u = 0; u <= t; ++u) {
        double s = 0;
        double s_magnitude = 0;
        for (size_t i = 0; i < features; ++i) {
          const double product = in[t][h * features + i] * in[u][(heads + h) * features + i];
          s += product / std::sqrt(static_cast<double>(features));
          s_magnitude += std::abs(product) / std::sqrt(static_cast<double>(features));
        }
        const double p = 1 + s + s * s / 2;
        const double p_magnitude = 1 + s_magnitude + s_magnitude * s_magnitude / 2;
        denominator += p;
        denominator_magnitude += p_magnitude;
        const double* v = &in[u][2 * heads * features + h * head_dim];
        for (size_t e = 0; e < head_dim; ++e) {
          value[e] += p * v[e];
          magnitude[e] += p_magnitude * std::abs(v[e]);
        }
      }
      for (size_t e = 0; e < head_dim; ++e) {
        value[e] /= denominator;
        magnitude[e] = (magnitude[e] + std::abs(value[e]) * denominator_magnitude) / denominator;
      }
    }
  }
  return oracle;
}

class TaylorMixTest : public ::testing::TestWithParam<std::tuple<std::string, Shape>> {};

TEST_P(TaylorMixTest, EqualsQuadraticFormHoweverCut) {
  const auto& [backend, shape] = GetParam();
  const int32_t width = shape.heads * (2 * shape.feature_dim + shape.head_dim);
  RandomData random(11);
  TestModel model;
  const BufferId in = model.AddInput(random, kInputRows, width);
  const BufferId out = model.AddBuffer(shape.heads * shape.head_dim);
  const TaylorMixOp op{.in = in,
                       .heads = shape.heads,
                       .feature_dim = shape.feature_dim,
                       .head_dim = shape.head_dim,
                       .out = out};
  model.AddOp(op);
  model.AddIdentityLogits(out);
  BASED_MAKE_RUNNER(runner, backend, model.program());

  const std::vector<int32_t> tokens = random.Ids(shape.length, kInputRows);
  const Oracle expected = QuadraticForm(shape, op.eps, model.Inputs(tokens));
  const int64_t features = 1 + shape.feature_dim + shape.feature_dim * (shape.feature_dim + 1) / 2;
  ExpectSequence(runner, backend, tokens, expected, Tolerance(backend, features + shape.length));
}

// eps is an input of the op: a large one must show.
TEST_P(TaylorMixTest, AddsEpsToTheDenominator) {
  const auto& [backend, shape] = GetParam();
  const int32_t width = shape.heads * (2 * shape.feature_dim + shape.head_dim);
  RandomData random(12);
  TestModel model;
  const BufferId in = model.AddInput(random, kInputRows, width);
  const BufferId out = model.AddBuffer(shape.heads * shape.head_dim);
  const TaylorMixOp op{.in = in,
                       .heads = shape.heads,
                       .feature_dim = shape.feature_dim,
                       .head_dim = shape.head_dim,
                       .eps = 0.75,
                       .out = out};
  model.AddOp(op);
  model.AddIdentityLogits(out);
  BASED_MAKE_RUNNER(runner, backend, model.program());

  const std::vector<int32_t> tokens = random.Ids(3, kInputRows);
  const Oracle expected = QuadraticForm(shape, op.eps, model.Inputs(tokens));
  ExpectClose(runner.Sequence(tokens, 3), expected, Tolerance(backend, 200));
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, TaylorMixTest,
    ::testing::Combine(::testing::ValuesIn(TestBackends()),
                       ::testing::Values(Shape{1, 16, 64, 600}, Shape{1, 16, 16}, Shape{2, 16, 28},
                                         Shape{3, 16, 112}, Shape{5, 8, 16}, Shape{4, 8, 64},
                                         Shape{2, 5, 13}, Shape{3, 1, 1}, Shape{1, 11, 7, 130})),
    [](const auto& test) {
      const Shape& shape = std::get<1>(test.param);
      return absl::StrCat(std::get<0>(test.param), "_h", shape.heads, "_f", shape.feature_dim, "_e",
                          shape.head_dim, "_t", shape.length);
    });

}  // namespace
}  // namespace based
