// Embed, Norm and Linear on every backend against their formulas.
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

constexpr int32_t kInputRows = 41;

std::string DTypeSuffix(DType dtype) {
  return dtype == DType::kF32 ? "fp32" : dtype == DType::kF16 ? "fp16" : "bf16";
}

Rows Absolute(Rows rows) {
  for (auto& row : rows) {
    for (double& value : row) value = std::abs(value);
  }
  return rows;
}

using DTypeParam = std::tuple<std::string, DType>;
class EmbedTest : public ::testing::TestWithParam<DTypeParam> {};

TEST_P(EmbedTest, CopiesTheTokensRow) {
  const auto& [backend, dtype] = GetParam();
  RandomData random(41);
  TestModel model;
  const WeightId table = model.AddWeight(dtype, random.Normal(kInputRows, 37));
  const BufferId out = model.AddBuffer(37);
  model.AddOp(EmbedOp{.table = table, .out = out});
  model.AddIdentityLogits(out);
  BASED_MAKE_RUNNER(runner, backend, model.program());

  const std::vector<int32_t> tokens = random.Ids(50, kInputRows);
  const Rows expected = model.Inputs(tokens);
  const Rows actual = runner.Sequence(tokens, 50);
  if (backend == "cuda") {
    ExpectClose(actual, {expected, Absolute(expected)}, Tolerance(backend, 1));
  } else {
    EXPECT_EQ(actual, expected);  // fp32 and wider hold all three types exactly
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, EmbedTest,
                         ::testing::Combine(::testing::ValuesIn(TestBackends()),
                                            ::testing::Values(DType::kF32, DType::kF16,
                                                              DType::kBF16)),
                         [](const auto& test) {
                           return absl::StrCat(std::get<0>(test.param), "_",
                                               DTypeSuffix(std::get<1>(test.param)));
                         });

class NormTest : public ::testing::TestWithParam<std::tuple<std::string, int32_t>> {};

TEST_P(NormTest, DividesByTheRootMeanSquare) {
  const auto& [backend, width] = GetParam();
  RandomData random(42);
  TestModel model;
  const BufferId in = model.AddInput(random, kInputRows, width);
  const WeightId weight = model.AddWeight(DType::kF32, random.Normal(1, width));
  const BufferId out = model.AddBuffer(width);
  const double eps = 0.3;  // as large as the mean square, so that it shows
  model.AddOp(NormOp{.in = in, .weight = weight, .eps = eps, .out = out});
  model.AddIdentityLogits(out);
  BASED_MAKE_RUNNER(runner, backend, model.program());

  const std::vector<int32_t> tokens = random.Ids(30, kInputRows);
  Rows expected = model.Inputs(tokens);
  for (auto& row : expected) {
    double mean = 0;
    for (const double x : row) mean += x * x / width;
    for (size_t i = 0; i < row.size(); ++i) {
      row[i] *= model.values(weight)[0][i] / std::sqrt(mean + eps);
    }
  }
  ExpectClose(runner.Sequence(tokens, 30), {expected, Absolute(expected)},
              Tolerance(backend, width));
}

INSTANTIATE_TEST_SUITE_P(Widths, NormTest,
                         ::testing::Combine(::testing::ValuesIn(TestBackends()),
                                            ::testing::Values(1, 17, 64, 200)),
                         [](const auto& test) {
                           return absl::StrCat(std::get<0>(test.param), "_d",
                                               std::get<1>(test.param));
                         });

struct LinearShape {
  const char* name;
  int32_t in;
  std::vector<int32_t> stack;  // rows of each stacked weight
  Epilogue epilogue = Epilogue::kStore;
  DType dtype = DType::kF32;
  bool bias = false;
};

class LinearTest : public ::testing::TestWithParam<std::tuple<std::string, LinearShape>> {};

// y and sum |w||x| + |b| for every row of W.
Oracle Multiply(const TestModel& model, const LinearOp& op, const Rows& in) {
  Oracle y{Rows(in.size()), Rows(in.size())};
  for (size_t t = 0; t < in.size(); ++t) {
    for (const WeightId id : op.weights) {
      for (const auto& weights : model.values(id)) {
        const size_t n = y.values[t].size();
        double sum = op.bias == kNone ? 0 : model.values(op.bias)[0][n];
        double magnitude = std::abs(sum);
        for (size_t i = 0; i < weights.size(); ++i) {
          sum += weights[i] * in[t][i];
          magnitude += std::abs(weights[i] * in[t][i]);
        }
        y.values[t].push_back(sum);
        y.magnitudes[t].push_back(magnitude);
      }
    }
  }
  return y;
}

// What the epilogue makes of y; `before` is what the output buffer held.
Oracle Finish(Epilogue epilogue, Oracle y, const Rows& before) {
  if (epilogue == Epilogue::kStore) return y;
  for (size_t t = 0; t < before.size(); ++t) {
    auto& values = y.values[t];
    auto& magnitudes = y.magnitudes[t];
    if (epilogue == Epilogue::kAdd) {
      for (size_t n = 0; n < values.size(); ++n) {
        values[n] += before[t][n];
        magnitudes[n] += std::abs(before[t][n]);
      }
      continue;
    }
    const size_t half = values.size() / 2;
    for (size_t n = 0; n < half; ++n) {
      const double gate = values[half + n];
      const double silu = gate / (1 + std::exp(-gate));
      // The slope of silu is at most 1.1.
      magnitudes[n] = magnitudes[n] * std::abs(silu) +
                      std::abs(values[n]) * 1.1 * magnitudes[half + n] + std::abs(values[n] * silu);
      values[n] *= silu;
    }
    values.resize(half);
    magnitudes.resize(half);
  }
  return y;
}

TEST_P(LinearTest, MultipliesStackAndAppliesEpilogue) {
  const auto& [backend, shape] = GetParam();
  RandomData random(43);
  TestModel model;
  LinearOp op;
  op.in = model.AddInput(random, kInputRows, shape.in);
  op.epilogue = shape.epilogue;
  int32_t rows = 0;
  for (const int32_t n : shape.stack) {
    op.weights.push_back(model.AddWeight(shape.dtype, random.Normal(n, shape.in, 0.2)));
    rows += n;
  }
  if (shape.bias) op.bias = model.AddWeight(shape.dtype, random.Normal(1, rows));
  op.out = model.AddBuffer(shape.epilogue == Epilogue::kSwiGlu ? rows / 2 : rows,
                           shape.epilogue == Epilogue::kAdd);
  WeightId residual = kNone;
  if (shape.epilogue == Epilogue::kAdd) {
    residual = model.AddWeight(DType::kBF16, random.Normal(kInputRows, rows));
    model.AddOp(EmbedOp{.table = residual, .out = op.out});
  }
  model.AddOp(op);
  model.AddIdentityLogits(op.out);
  BASED_MAKE_RUNNER(runner, backend, model.program());

  const std::vector<int32_t> tokens = random.Ids(29, kInputRows);
  Rows before(tokens.size());
  for (size_t t = 0; residual != kNone && t < tokens.size(); ++t) {
    before[t] = model.values(residual)[static_cast<size_t>(tokens[t])];
  }
  const Oracle expected = Finish(shape.epilogue, Multiply(model, op, model.Inputs(tokens)), before);
  ExpectSequence(runner, backend, tokens, expected, Tolerance(backend, shape.in));
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, LinearTest,
    ::testing::Combine(
        ::testing::ValuesIn(TestBackends()),
        ::testing::Values(
            LinearShape{"store", 64, {96}}, LinearShape{"odd", 37, {53}},
            LinearShape{"tiny", 1, {1}},
            LinearShape{"stacked_bias", 48, {16, 16, 31}, Epilogue::kStore, DType::kBF16, true},
            LinearShape{"add", 33, {40}, Epilogue::kAdd, DType::kF16},
            LinearShape{"add_bias", 128, {64}, Epilogue::kAdd, DType::kBF16, true},
            LinearShape{"swiglu", 64, {128}, Epilogue::kSwiGlu, DType::kBF16},
            LinearShape{"swiglu_stacked_bias", 29, {30, 12}, Epilogue::kSwiGlu, DType::kF32, true},
            LinearShape{"swiglu_odd_half", 45, {10}, Epilogue::kSwiGlu, DType::kF16})),
    [](const auto& test) {
      return absl::StrCat(std::get<0>(test.param), "_", std::get<1>(test.param).name);
    });

}  // namespace
}  // namespace based
