// The sampling kernel against the host's sampler on the same logits, rule by rule and all at once;
// its distributions; what it does where nothing can be drawn.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/sampling.h"
#include "tests/kernels/cuda/sample_oracle.h"
#include "tests/kernels/cuda/sample_rows.h"

namespace based {
namespace {

using cuda::CountDraws;
using cuda::DrawLateRows;
using cuda::DrawnRows;
using cuda::DrawRows;
using cuda::SampleStaging;

enum class Rules { kNone, kAtLaunch, kLate };

RuleSizes SizesOf(const SampleRules& rules) {
  return {.counts = static_cast<int32_t>(rules.counts.size()),
          .biases = static_cast<int32_t>(rules.biases.size()),
          .banned = static_cast<int32_t>(rules.banned.size()),
          .mask = !rules.allowed.empty() || !rules.mask.empty()};
}

// Draws with the rules of every second sample supplied when the kernel waits for them.
DrawnRows DrawSomeLate(const std::vector<std::vector<float>>& logits,
                       std::vector<SampleRow> samples, int32_t stride) {
  std::vector<const SampleRules*> late;
  for (size_t i = 0; i < samples.size(); i += 2) {
    if (samples[i].rules == nullptr) continue;
    late.push_back(samples[i].rules);
    samples[i].late = SizesOf(*samples[i].rules);
    samples[i].rules = nullptr;
  }
  return DrawLateRows(logits, samples, stride, [&late](SampleStaging& staging) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    EXPECT_TRUE(staging.Supply(late).ok());
  });
}

class CudaSampleTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto backend = NewCudaBackend({});
    if (absl::IsUnavailable(backend.status())) GTEST_SKIP() << backend.status();
    ASSERT_TRUE(backend.ok()) << backend.status();
  }

  bool Chance(uint64_t of) { return random_() % of == 0; }
  float Number(double low, double high) {
    return static_cast<float>(std::uniform_real_distribution<double>(low, high)(random_));
  }

  // With `tied`, in steps of 1/4: equal ones everywhere, at the cuts too.
  std::vector<float> Logits(size_t vocab, bool tied) {
    std::normal_distribution<double> normal(0, 2.5);
    std::vector<float> logits(vocab);
    for (float& logit : logits) {
      logit = static_cast<float>(tied ? std::nearbyint(4 * normal(random_)) / 4 : normal(random_));
    }
    return logits;
  }

  SampleParams Params() {
    constexpr std::array<float, 4> kTemperatures = {1.0f, 0.3f, 1.7f, 20.0f};
    constexpr std::array<int32_t, 5> kTopK = {0, 0, 1, 40, 3000};
    constexpr std::array<float, 4> kTopP = {1.0f, 0.03f, 0.57f, 0.971f};
    constexpr std::array<float, 4> kMinP = {0.0f, 0.0f, 0.03f, 0.9f};
    return {.temperature = Chance(6) ? 0.0f : kTemperatures[random_() % 4],
            .top_k = kTopK[random_() % 5],
            .top_p = kTopP[random_() % 4],
            .min_p = kMinP[random_() % 4],
            .seed = random_(),
            .position = static_cast<int64_t>(random_() >> 20)};
  }

  // `mask` must outlive the rules.
  SampleRules RandomRules(size_t vocab, std::vector<uint32_t>& mask) {
    SampleRules rules;
    if (Chance(2)) rules.repetition_penalty = Number(0.2, 3);
    if (Chance(2)) rules.presence_penalty = Number(-3, 3);
    if (Chance(2)) rules.frequency_penalty = Number(-2, 2);
    if (Chance(2)) rules.typical_p = Number(0.05, 1);
    const uint64_t sparse = 1 + random_() % 9;
    for (size_t i = 0; i < vocab; ++i) {
      const auto id = static_cast<int32_t>(i);
      if (Chance(4 * sparse)) rules.counts.push_back({id, static_cast<int32_t>(random_() % 4)});
      if (Chance(6 * sparse)) rules.biases.push_back({id, Number(-5, 5)});
      if (Chance(5 * sparse)) rules.banned.push_back(id);
    }
    std::shuffle(rules.counts.begin(), rules.counts.end(), random_);
    if (Chance(2)) {
      for (size_t i = 0; i < vocab; i += 1 + random_() % 3) {
        rules.allowed.push_back(static_cast<int32_t>(i));
      }
    }
    if (Chance(2)) {
      mask.resize((vocab + 31) / 32);
      for (uint32_t& word : mask) word = static_cast<uint32_t>(random_());
      rules.mask = mask;
    }
    return rules;
  }

  // Rows of random logits and rules. The id is the host's; the rare other one is as good to fp32.
  void ExpectHostIds(size_t vocab, int32_t stride, size_t rows, Rules kind) {
    std::vector<std::vector<float>> logits;
    std::vector<SampleRow> samples(rows);
    std::vector<SampleRules> rules(rows);
    std::vector<std::vector<uint32_t>> masks(rows);
    for (size_t i = 0; i < rows; ++i) {
      logits.push_back(Logits(vocab, i % 2 == 0));
      samples[i].params = Params();
      if (kind == Rules::kNone || i % 7 == 0) continue;
      rules[i] = RandomRules(vocab, masks[i]);
      samples[i].rules = &rules[i];
    }
    const DrawnRows drawn = kind == Rules::kLate ? DrawSomeLate(logits, samples, stride)
                                                 : DrawRows(logits, samples, stride);
    size_t others = 0;
    for (size_t i = 0; i < rows; ++i) {
      SCOPED_TRACE(testing::Message() << "row " << i << " of " << vocab << " ids");
      const int32_t id = drawn.results[i].id;
      EXPECT_EQ(drawn.results[i].finite, 1);
      const SampleParams& params = samples[i].params;
      const int32_t expected = SampleFromLogits<float>(logits[i], params, samples[i].rules);
      if (id == expected) continue;
      ++others;
      ASSERT_GE(expected, 0);
      ASSERT_GT(params.temperature, 0);
      const std::vector<float> ruled = OracleRules(logits[i], rules[i]);
      EXPECT_TRUE(RoundingMayDraw(ruled, params, static_cast<double>(rules[i].typical_p), id))
          << "drew " << id << ", expected " << expected << ": temperature " << params.temperature
          << ", top_k " << params.top_k << ", top_p " << params.top_p << ", min_p " << params.min_p
          << ", typical_p " << rules[i].typical_p;
    }
    others_ += others;
    rows_ += rows;
    RecordProperty("rounding_decided", std::to_string(others_) + " of " + std::to_string(rows_));
    EXPECT_LE(others, 1 + rows / 100);
  }

  std::mt19937_64 random_{4711};
  size_t others_ = 0;
  size_t rows_ = 0;
};

TEST_F(CudaSampleTest, PlainDrawsAreTheHosts) {
  ExpectHostIds(50257, 50264, 150, Rules::kNone);
  ExpectHostIds(1000, 1003, 1000, Rules::kNone);
  ExpectHostIds(61, 64, 2000, Rules::kNone);
  ExpectHostIds(1, 8, 20, Rules::kNone);
}

TEST_F(CudaSampleTest, DrawsUnderRulesAreTheHosts) {
  ExpectHostIds(50257, 50264, 150, Rules::kAtLaunch);
  ExpectHostIds(1000, 1003, 1000, Rules::kAtLaunch);
  ExpectHostIds(61, 64, 2000, Rules::kAtLaunch);
  ExpectHostIds(1, 8, 20, Rules::kAtLaunch);
}

TEST_F(CudaSampleTest, DrawsUnderLateRulesAreTheHosts) {
  ExpectHostIds(50257, 50264, 150, Rules::kLate);
  ExpectHostIds(1000, 1003, 1000, Rules::kLate);
  ExpectHostIds(61, 64, 2000, Rules::kLate);
  ExpectHostIds(1, 8, 20, Rules::kLate);
}

// More blocks than the device holds at a time; nothing is drawn for a void sample, but what was
// asked for beside the draw is there. Rules that are too large make all that are left void.
TEST_F(CudaSampleTest, VoidSamplesDrawNothing) {
  const SampleRules only_3{.allowed = {3}};
  const SampleRules large{.banned = {1, 2}};
  for (const bool fails : {false, true}) {
    std::vector<std::vector<float>> logits(3000, Logits(100, false));
    std::vector<SampleRow> samples(logits.size());
    std::vector<const SampleRules*> late(logits.size());
    for (size_t i = 0; i < samples.size(); ++i) {
      samples[i].late = RuleSizes{.banned = 1, .mask = true};
      samples[i].logprob = true;
      samples[i].top_logprobs = 1;
      late[i] = i % 3 == 0 ? &only_3 : nullptr;
      if (fails && i == 1500) late[i] = &large;
    }
    const DrawnRows drawn = DrawLateRows(logits, samples, 104, [&](SampleStaging& staging) {
      EXPECT_TRUE(staging.awaits_rules());
      EXPECT_EQ(staging.Supply(late).ok(), !fails);
      EXPECT_FALSE(staging.awaits_rules());
    });
    for (size_t i = 0; i < samples.size(); ++i) {
      SCOPED_TRACE(i);
      const bool has_draw = i % 3 == 0 && (!fails || i < 1500);
      EXPECT_EQ(drawn.results[i].id, has_draw ? 3 : -1);
      EXPECT_EQ(drawn.results[i].finite, 1);
      EXPECT_EQ(drawn.results[i].logprob != 0, has_draw);
      EXPECT_GE(drawn.top.at(i).id, 0);
    }
  }
}

TEST_F(CudaSampleTest, RulesThatNeverComeAreWaitedForOnlySoLong) {
  std::vector<std::vector<float>> logits(8, Logits(100, false));
  logits[5][7] = std::nanf("");
  std::vector<SampleRow> samples(logits.size());
  for (size_t i = 0; i < samples.size(); i += 2) samples[i].late = RuleSizes();
  samples[5].late = RuleSizes();
  const auto begin = std::chrono::steady_clock::now();
  const DrawnRows drawn = DrawLateRows(
      logits, samples, 104, [](SampleStaging&) {}, /*limit_ns=*/50'000'000);
  const auto waited = std::chrono::steady_clock::now() - begin;
  EXPECT_GE(waited, std::chrono::milliseconds(50));
  EXPECT_LT(waited, std::chrono::seconds(10));
  for (size_t i = 0; i < samples.size(); ++i) {
    EXPECT_EQ(drawn.results[i].id >= 0, i % 2 == 1 && i != 5) << i;
    EXPECT_EQ(drawn.results[i].finite, i == 5 ? 0 : i % 2 == 1 ? 1 : cuda::kRulesNeverCame) << i;
  }
}

// One selection at a time, where the boundary holds more equal ids than a list does.
TEST_F(CudaSampleTest, SelectionsAmongManyEqualLogits) {
  std::vector<std::vector<float>> logits(40, std::vector<float>(20000, 1.5f));
  std::vector<SampleRow> samples(logits.size());
  const SampleRules typical{.typical_p = 0.3f};
  for (size_t i = 0; i < samples.size(); ++i) {
    samples[i].params = {.seed = i, .position = 3};
    if (i % 4 == 0) samples[i].params.top_k = 5000;
    if (i % 4 == 1) samples[i].params.top_p = 0.25f;
    if (i % 4 == 2) samples[i].rules = &typical;
    if (i % 2 == 0) logits[i][i] = 4;
  }
  const DrawnRows drawn = DrawRows(logits, samples, 20000);
  for (size_t i = 0; i < samples.size(); ++i) {
    EXPECT_EQ(drawn.results[i].id,
              SampleFromLogits<float>(logits[i], samples[i].params, samples[i].rules))
        << "row " << i;
  }
}

TEST_F(CudaSampleTest, TopScoresAndLogProbabilitiesAreOfTheRawLogits) {
  for (const size_t vocab : {size_t{50257}, size_t{1500}, size_t{3}}) {
    std::vector<std::vector<float>> logits;
    std::vector<SampleRow> samples(44);
    std::vector<SampleRules> rules(samples.size());
    std::vector<std::vector<uint32_t>> masks(samples.size());
    for (size_t i = 0; i < samples.size(); ++i) {
      logits.push_back(Logits(vocab, i % 2 == 0));
      samples[i] = {.row = 0, .params = Params(), .sample = i % 5 != 1, .logprob = i % 3 != 1};
      samples[i].top_logprobs = i == 43 ? 1000 : static_cast<int32_t>(i % 21);
      if (i % 4 == 0 || !samples[i].sample) samples[i].target = static_cast<int32_t>(i % vocab);
      rules[i] = RandomRules(vocab, masks[i]);
      if (i % 3 != 2) samples[i].rules = &rules[i];
    }
    const DrawnRows drawn = DrawRows(logits, samples, static_cast<int32_t>(vocab) + 7);
    size_t next = 0;
    for (size_t i = 0; i < samples.size(); ++i) {
      SCOPED_TRACE(testing::Message() << "row " << i << " of " << vocab << " ids");
      const int32_t id = drawn.results[i].id;
      const int32_t scored = samples[i].target == kNone ? id : samples[i].target;
      EXPECT_EQ(id == -1,
                !samples[i].sample ||
                    SampleFromLogits<float>(logits[i], samples[i].params, samples[i].rules) == -1);
      const bool has = samples[i].logprob && scored != kNone;
      EXPECT_NEAR(drawn.results[i].logprob, has ? LogProbability<float>(logits[i], scored) : 0.0,
                  1e-5);
      std::vector<TokenScore> expected;
      TopScores<float>(logits[i], samples[i].top_logprobs, expected);
      for (const TokenScore& score : expected) {
        ASSERT_LT(next, drawn.top.size());
        EXPECT_EQ(drawn.top[next].id, score.id);
        EXPECT_NEAR(drawn.top[next].logprob, score.logprob, 1e-5);
        ++next;
      }
    }
    EXPECT_EQ(next, drawn.top.size());
  }
}

TEST_F(CudaSampleTest, NothingIsDrawnWhereNothingCanBe) {
  const std::vector<uint32_t> empty(4);
  std::vector<uint32_t> bit_3 = empty;
  bit_3[0] = 8;
  const SampleRules masked{.mask = empty};
  const SampleRules contradiction{.allowed = {7}, .banned = {7}};
  const SampleRules disjoint{.allowed = {7}, .mask = bit_3};
  const SampleRules overflow{.biases = {{5, std::numeric_limits<float>::max()}}};
  const SampleRules penalised{.repetition_penalty = 2, .counts = {{3, 1}}, .mask = bit_3};
  std::vector<float> huge = Logits(100, false);
  huge[5] = std::numeric_limits<float>::max();
  for (const float temperature : {0.0f, 1.0f}) {
    std::vector<std::vector<float>> logits(10, Logits(100, false));
    logits[0][99] = std::nanf("");
    logits[1][0] = HUGE_VALF;
    logits[2][31] = -HUGE_VALF;
    logits[3][64] = std::nanf("");
    logits[8] = huge;
    std::vector<SampleRow> samples(logits.size());
    for (SampleRow& sample : samples) {
      sample.params.temperature = temperature;
      sample.logprob = true;
      sample.top_logprobs = 2;
    }
    samples[3].rules = &penalised;
    samples[4].rules = &masked;
    samples[5].rules = &contradiction;
    samples[6].rules = &disjoint;
    samples[7].rules = &penalised;
    samples[8].rules = &overflow;
    samples[9].sample = false;
    samples[9].rules = &masked;
    const DrawnRows drawn = DrawRows(logits, samples, 104);
    for (size_t i = 0; i < samples.size(); ++i) {
      SCOPED_TRACE(i);
      EXPECT_EQ(drawn.results[i].id, i == 7 ? 3 : -1);
      EXPECT_EQ(drawn.results[i].finite, i < 4 ? 0 : 1);
      EXPECT_EQ(drawn.results[i].logprob != 0, i == 7);
      for (size_t j = 2 * i; j < 2 * i + 2; ++j) {
        EXPECT_EQ(drawn.top.at(j).id >= 0, i >= 4);
        EXPECT_EQ(drawn.top.at(j).logprob != 0 || i == 8, i >= 4);
      }
    }
  }
}

struct Setting {
  std::string name;
  SampleParams params;
  SampleRules rules;
};

class CudaDistributionTest : public CudaSampleTest,
                             public ::testing::WithParamInterface<Setting> {};

// Pearson's chi-square over a million draws. With k degrees of freedom it has mean k and variance
// 2k: beyond five standard deviations the draw is not of this distribution.
TEST_P(CudaDistributionTest, AMillionDrawsFollowIt) {
  constexpr int64_t kDraws = 1 << 20;
  const std::vector<float> logits = Logits(24, false);
  SampleRow sample{.row = 0, .params = GetParam().params, .rules = &GetParam().rules};
  sample.params.seed = 77;
  const SampleRules& rules = GetParam().rules;
  const std::vector<double> p = OracleDistribution(OracleRules(logits, rules), sample.params,
                                                   static_cast<double>(rules.typical_p));
  const std::vector<int64_t> counts = CountDraws(logits, sample, kDraws);
  double chi_square = 0;
  double degrees = -1;
  int64_t total = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    total += counts[i];
    if (p[i] == 0) {
      EXPECT_EQ(counts[i], 0) << "id " << i;
      continue;
    }
    const double expected = p[i] * static_cast<double>(kDraws);
    const double excess = static_cast<double>(counts[i]) - expected;
    chi_square += excess * excess / expected;
    ++degrees;
  }
  EXPECT_EQ(total, kDraws);
  ASSERT_GE(degrees, 2);
  EXPECT_LT(std::abs(chi_square - degrees), 5 * std::sqrt(2 * degrees));
}

const std::vector<Setting>& Settings() {
  static const auto* mask = new std::vector<uint32_t>{0x00F5A5C3};
  static const std::vector<TokenCount> counts = {{1, 0}, {3, 1}, {4, 5}, {9, 2}};
  static const auto* settings = new std::vector<Setting>{
      {"temperature", {.temperature = 1.7f}, {}},
      {"top_k", {.temperature = 1.2f, .top_k = 9}, {}},
      {"top_p", {.temperature = 1.5f, .top_p = 0.9f}, {}},
      {"min_p", {.temperature = 1.5f, .min_p = 0.05f}, {}},
      {"repetition", {.temperature = 1.3f}, {.repetition_penalty = 1.7f, .counts = counts}},
      {"presence", {.temperature = 1.3f}, {.presence_penalty = 1.1f, .counts = counts}},
      {"frequency", {.temperature = 1.3f}, {.frequency_penalty = -0.3f, .counts = counts}},
      {"bias", {.temperature = 1.3f}, {.biases = {{2, 1.5f}, {7, -2.0f}}}},
      {"banned", {.temperature = 1.3f}, {.banned = {0, 3, 23}}},
      {"allowed", {.temperature = 1.3f}, {.allowed = {1, 2, 3, 7, 9, 11, 20}}},
      {"mask", {.temperature = 1.3f}, {.mask = *mask}},
      {"typical", {.temperature = 1.3f}, {.typical_p = 0.7f}},
      {"all",
       {.temperature = 2.5f, .top_k = 16, .top_p = 0.95f, .min_p = 0.02f},
       {.repetition_penalty = 0.6f,
        .presence_penalty = -0.5f,
        .frequency_penalty = 0.2f,
        .typical_p = 0.9f,
        .counts = counts,
        .biases = {{2, 1.5f}},
        .banned = {5},
        .mask = *mask}}};
  return *settings;
}

INSTANTIATE_TEST_SUITE_P(Settings, CudaDistributionTest, ::testing::ValuesIn(Settings()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace based
