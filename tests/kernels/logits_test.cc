// Logits on every backend: raw logits, the ids and log probabilities that follow from them, and the
// padded part of the vocabulary.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "kernels/sampling.h"
#include "tests/kernels/op_fixture.h"

namespace based {
namespace {

constexpr int32_t kInputRows = 300;
constexpr int32_t kWidth = 45;
constexpr int32_t kPadded = 205;
constexpr int32_t kVocabSize = 197;

class LogitsTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const BufferId in = model_.AddInput(random_, kInputRows, kWidth);
    norm_ = model_.AddWeight(DType::kF32, random_.Normal(1, kWidth));
    table_ = model_.AddWeight(DType::kBF16, random_.Normal(kPadded, kWidth, 0.3));
    model_.AddOp(LogitsOp{
        .in = in, .norm_weight = norm_, .eps = kEps, .table = table_, .vocab_size = kVocabSize});
  }

  LogitsOp& op() { return std::get<LogitsOp>(model_.program().ops.back()); }

  Oracle Expected(const std::vector<int32_t>& tokens) const {
    Oracle oracle;
    for (std::vector<double> x : model_.Inputs(tokens)) {
      double mean = 0;
      for (const double value : x) mean += value * value / kWidth;
      for (size_t i = 0; i < x.size(); ++i) {
        x[i] *= model_.values(norm_)[0][i] / std::sqrt(mean + kEps);
      }
      auto& values = oracle.values.emplace_back();
      auto& magnitudes = oracle.magnitudes.emplace_back();
      for (const auto& row : model_.values(table_)) {
        values.push_back(0);
        magnitudes.push_back(0);
        for (size_t i = 0; i < x.size(); ++i) {
          values.back() += row[i] * x[i];
          magnitudes.back() += std::abs(row[i] * x[i]);
        }
      }
    }
    return oracle;
  }

  // Rows of logits that came back with the samples, cut to the true vocabulary.
  static std::vector<double> TrueLogits(const StepOutput& output, size_t sample) {
    const auto first = output.logits.begin() + static_cast<ptrdiff_t>(sample * kPadded);
    return {first, first + kVocabSize};
  }

  static constexpr double kEps = 1e-5;
  RandomData random_{51};
  TestModel model_;
  WeightId norm_ = kNone;
  WeightId table_ = kNone;
};

TEST_P(LogitsTest, MultipliesTheNormedRowPaddingIncluded) {
  BASED_MAKE_RUNNER(runner, GetParam(), model_.program());
  EXPECT_EQ(runner.executable().info().vocab_size, kVocabSize);
  EXPECT_EQ(runner.executable().info().padded_vocab_size, kPadded);
  const std::vector<int32_t> tokens = random_.Ids(20, kInputRows);
  ExpectClose(runner.Sequence(tokens, 20), Expected(tokens), Tolerance(GetParam(), 2 * kWidth));
}

// Rules and alternatives are those of sampling.h on the logits that came back; a sample without
// them stands between.
TEST_P(LogitsTest, FollowsRulesAndReportsTheMostLikely) {
  BASED_MAKE_RUNNER(runner, GetParam(), model_.program());
  const ExecutableInfo& info = runner.executable().info();
  if (!info.sampling_rules || !info.top_logprobs) {
    GTEST_SKIP() << GetParam() << " says that it follows no rules";
  }
  std::vector<uint32_t> mask((kVocabSize + 31) / 32, 0x7BDEF7BD);
  const std::vector<uint32_t> nothing(mask.size(), 0);
  const SampleRules all{.repetition_penalty = 1.5f,
                        .presence_penalty = -0.25f,
                        .frequency_penalty = 0.5f,
                        .typical_p = 0.9f,
                        .counts = {{3, 2}, {4, 0}, {90, 1}},
                        .biases = {{7, 3.0f}, {90, -1.0f}},
                        .banned = {0, 1, 2}};
  const SampleRules masked{.counts = {}, .mask = mask};
  const SampleRules allowed{.allowed = {5, 64, 100, 196}, .mask = mask};
  const SampleRules none{.counts = {}, .mask = nothing};
  const std::vector<const SampleRules*> rules = {nullptr, &all, &masked, &allowed, &none};
  StepTable table = MakeStep({{.slot = 0, .tokens = random_.Ids(60, kInputRows)}});
  for (size_t i = 0; i < table.samples.size(); ++i) {
    SampleRow& sample = table.samples[i];
    sample.sample = true;
    sample.logprob = true;
    sample.params = {.temperature = i % 4 == 0 ? 0.0f : 1.0f,
                     .top_k = i % 3 == 2 ? 9 : 0,
                     .top_p = i % 7 == 3 ? 0.8f : 1.0f,
                     .seed = i};
    sample.rules = rules[i % rules.size()];
    sample.top_logprobs = static_cast<int32_t>(i % 21);
  }
  runner.Clear(0);
  const StepOutput output = runner.Run(table);
  size_t top = 0;
  for (size_t i = 0; i < table.samples.size(); ++i) {
    const std::vector<double> logits = TrueLogits(output, i);
    const SampleRow& sample = table.samples[i];
    // Penalties are computed in the type of the backend's logits.
    const std::vector<float> narrow(logits.begin(), logits.end());
    const bool exact = GetParam() == "reference";
    EXPECT_EQ(output.ids[i],
              exact ? SampleFromLogits<double>(logits, sample.params, sample.rules)
                    : SampleFromLogits<float>(narrow, sample.params, sample.rules))
        << "sample " << i;
    EXPECT_EQ(output.ids[i] == kNone, sample.rules == &none);
    EXPECT_EQ(output.finite[i], 1);
    EXPECT_NEAR(output.logprobs[i],
                output.ids[i] == kNone ? 0 : LogProbability<double>(logits, output.ids[i]), 1e-5);
    std::vector<TokenScore> expected;
    TopScores<double>(logits, sample.top_logprobs, expected);
    for (const TokenScore& score : expected) {
      ASSERT_LT(top, output.top.size());
      EXPECT_EQ(output.top[top].id, score.id);
      EXPECT_NEAR(output.top[top].logprob, score.logprob, 1e-5);
      ++top;
    }
  }
  EXPECT_EQ(top, output.top.size());
}

// Ids agree with sampling.h applied to the very logits that came back; so does log p.
TEST_P(LogitsTest, SamplesFromTheLogitsItHandsBack) {
  BASED_MAKE_RUNNER(runner, GetParam(), model_.program());
  const std::vector<SampleParams> settings = {
      {.temperature = 0},
      {.seed = 1},
      {.temperature = 0.7f, .top_k = 5, .seed = 2},
      {.temperature = 1.3f, .top_p = 0.8f, .seed = 3},
      {.temperature = 2.0f, .min_p = 0.05f, .seed = 0xFFFFFFFFFFFFFFFF},
      {.temperature = 0.9f, .top_k = 50, .top_p = 0.9f, .min_p = 0.02f, .seed = 5}};
  StepTable table = MakeStep({{.slot = 0, .tokens = random_.Ids(60, kInputRows)}});
  for (size_t i = 0; i < table.samples.size(); ++i) {
    SampleRow& sample = table.samples[i];
    sample.params = settings[i % settings.size()];
    sample.params.position = static_cast<int64_t>(i) * 1'000'000'007;
    sample.sample = true;
    sample.logprob = true;
    if (i % 3 == 0) sample.target = static_cast<int32_t>(i);
  }
  runner.Clear(0);
  const StepOutput output = runner.Run(table);
  ASSERT_EQ(output.ids.size(), table.samples.size());
  ASSERT_EQ(output.logprobs.size(), table.samples.size());
  for (size_t i = 0; i < table.samples.size(); ++i) {
    const std::vector<double> logits = TrueLogits(output, i);
    const SampleRow& sample = table.samples[i];
    EXPECT_EQ(output.finite[i], 1);
    EXPECT_EQ(output.ids[i], SampleFromLogits<double>(logits, sample.params)) << "sample " << i;
    const int32_t scored = sample.target == kNone ? output.ids[i] : sample.target;
    // Softmax sums are kept in at least fp32 on every backend.
    EXPECT_NEAR(output.logprobs[i], LogProbability<double>(logits, scored), 1e-5) << "sample " << i;
  }
}

// Rows not asked for cost nothing: samples may name any rows, in any order, more than once.
TEST_P(LogitsTest, AnswersSamplesInTheOrderAsked) {
  BASED_MAKE_RUNNER(runner, GetParam(), model_.program());
  const std::vector<int32_t> tokens = random_.Ids(9, kInputRows);
  StepTable table = MakeStep({{.slot = 1, .tokens = tokens}});
  table.samples = {{.row = 7, .params = {}, .sample = false, .logits = true},
                   {.row = 2, .params = {.temperature = 0}},
                   {.row = 7, .params = {.temperature = 0}},
                   {.row = 0, .params = {}, .sample = false, .logprob = true, .target = 3},
                   {.row = 2, .params = {}, .sample = false, .logits = true}};
  runner.Clear(1);
  const StepOutput output = runner.Run(table);
  ASSERT_EQ(output.logits.size(), size_t{2 * kPadded});
  const Oracle expected = Expected({tokens[7], tokens[2]});
  ExpectClose({{output.logits.begin(), output.logits.begin() + kPadded},
               {output.logits.begin() + kPadded, output.logits.end()}},
              expected, Tolerance(GetParam(), 2 * kWidth));
  const auto argmax = [](const std::vector<double>& logits) {
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  };
  EXPECT_EQ(output.ids, (std::vector<int32_t>{kNone, argmax(TrueLogits(output, 1)),
                                              argmax(TrueLogits(output, 0)), kNone, kNone}));
  EXPECT_NE(output.logprobs[3], 0);
  EXPECT_EQ(output.logprobs[1], 0);
}

// The padded ids have by far the largest logits and are still never drawn nor counted.
TEST_P(LogitsTest, NeverDrawsNorCountsPadding) {
  Rows table = random_.Normal(kPadded, kWidth, 0.3);
  const std::vector<double> input = model_.values(0)[17];
  for (size_t id = kVocabSize; id < kPadded; ++id) {
    for (size_t i = 0; i < input.size(); ++i) {
      table[id][i] = 10 * std::copysign(1.0, input[i] * model_.values(norm_)[0][i]);
    }
  }
  op().table = model_.AddWeight(DType::kBF16, table);
  BASED_MAKE_RUNNER(runner, GetParam(), model_.program());
  StepTable step = MakeStep({{.slot = 0, .tokens = std::vector<int32_t>(40, 17)}});
  for (size_t i = 0; i < step.samples.size(); ++i) {
    step.samples[i].sample = true;
    step.samples[i].logprob = true;
    step.samples[i].params = {.temperature = i == 0 ? 0.0f : 5.0f, .seed = i};
  }
  runner.Clear(0);
  const StepOutput output = runner.Run(step);
  const std::vector<double> logits = TrueLogits(output, 0);
  ASSERT_GT(output.logits[kVocabSize], 50 + *std::max_element(logits.begin(), logits.end()));
  for (size_t i = 0; i < step.samples.size(); ++i) {
    ASSERT_GE(output.ids[i], 0);
    ASSERT_LT(output.ids[i], kVocabSize);
    EXPECT_NEAR(output.logprobs[i], LogProbability<double>(logits, output.ids[i]), 1e-5);
  }
}

// NaN or Inf among the true ids is reported and draws nothing; among the padded ones it is ignored.
TEST_P(LogitsTest, ReportsLogitsThatAreNotFinite) {
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    for (const size_t id : {size_t{60}, size_t{kPadded - 1}}) {
      SCOPED_TRACE(testing::Message() << bad << " in row " << id);
      Rows table = random_.Normal(kPadded, kWidth, 0.3);
      table[id][3] = bad;
      op().table = model_.AddWeight(DType::kF32, table);
      BASED_MAKE_RUNNER(runner, GetParam(), model_.program());
      StepTable step = MakeStep({{.slot = 0, .tokens = {17, 18}}});
      for (SampleRow& sample : step.samples) sample.sample = true;
      step.samples[1].params.temperature = 0;
      runner.Clear(0);
      const StepOutput output = runner.Run(step);
      const bool finite = id >= kVocabSize;
      for (size_t i = 0; i < 2; ++i) {
        EXPECT_EQ(output.finite[i], finite ? 1 : 0);
        EXPECT_EQ(output.ids[i] != kNone, finite);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, LogitsTest, ::testing::ValuesIn(TestBackends()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace based
