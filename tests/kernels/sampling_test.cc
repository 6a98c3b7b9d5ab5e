// The rules of sampling.h against a naive implementation, and the draw against its distribution.
#include "kernels/sampling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/philox.h"

namespace based {
namespace {

// Known answers published with the authors' Random123 library (philox4x32, 10 rounds).
TEST(PhiloxTest, KnownAnswers) {
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(PhiloxTest, UniformIsTheTopBitsOfWordZero) {
  EXPECT_EQ(PhiloxUniform(0, 0), static_cast<float>(0x6627e8d5 >> 8) / 16777216.0f);
  const auto words = Philox4x32({0x89abcdef, 0x01234567, 0, 0}, {0x55667788, 0x11223344});
  EXPECT_EQ(PhiloxUniform(0x1122334455667788, 0x0123456789abcdef),
            static_cast<float>(words[0] >> 8) / 16777216.0f);
}

// Probabilities after every rule, in the order of sampling.h, each rule a plain loop over all ids.
template <typename T>
std::vector<double> NaiveDistribution(const std::vector<T>& logits, const SampleParams& params,
                                      double typical_p = 1) {
  const size_t n = logits.size();
  const double max = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  std::vector<double> p(n);
  for (size_t i = 0; i < n; ++i) {
    p[i] =
        std::exp((static_cast<double>(logits[i]) - max) / static_cast<double>(params.temperature));
  }
  const auto normalise = [&p] {
    double sum = 0;
    for (const double value : p) sum += value;
    for (double& value : p) value /= sum;
  };
  // Number of ids that come before id i when the largest logits, then the lowest ids, come first.
  const auto rank = [&logits, n](size_t i) {
    size_t before = 0;
    for (size_t j = 0; j < n; ++j) {
      before += logits[j] > logits[i] || (logits[j] == logits[i] && j < i) ? 1 : 0;
    }
    return before;
  };
  std::vector<size_t> order(n);
  for (size_t i = 0; i < n; ++i) order[rank(i)] = i;

  if (params.top_k > 0) {
    for (size_t r = static_cast<size_t>(params.top_k); r < n; ++r) p[order[r]] = 0;
  }
  normalise();
  if (typical_p < 1) {
    double entropy = 0;
    for (const double value : p) entropy -= value > 0 ? value * std::log(value) : 0;
    // Passes over all ids: each keeps the most typical of those that are left.
    std::vector<double> kept(n);
    for (double sum = 0; sum < typical_p - 1e-12;) {
      size_t best = n;
      double least = std::numeric_limits<double>::infinity();
      for (size_t i = 0; i < n; ++i) {
        if (p[i] == 0) continue;
        const double distance = std::abs(-std::log(p[i]) - entropy);
        if (distance < least) best = i, least = distance;
      }
      if (best == n) break;
      sum += p[best];
      kept[best] = std::exchange(p[best], 0);
    }
    p = kept;
    normalise();
  }
  if (params.top_p < 1) {
    double sum = 0;
    for (const size_t i : order) {
      const bool reached = sum >= static_cast<double>(params.top_p);
      sum += p[i];
      if (reached) p[i] = 0;
    }
    normalise();
  }
  const double largest = *std::max_element(p.begin(), p.end());
  for (double& value : p) {
    if (value < static_cast<double>(params.min_p) * largest) value = 0;
  }
  normalise();
  return p;
}

int32_t NaiveDraw(const std::vector<double>& p, double u) {
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    sum += p[i];
    if (sum > u) return static_cast<int32_t>(i);
  }
  ADD_FAILURE() << "nothing drawn at " << u;
  return -1;
}

// Logits in steps of 1/4, so that ties are everywhere, the cut of top_k and top_p included.
template <typename T>
std::vector<T> TiedLogits(std::mt19937_64& engine, size_t count) {
  std::normal_distribution<double> normal(0, 2);
  std::vector<T> logits(count);
  for (T& logit : logits) logit = static_cast<T>(std::nearbyint(4 * normal(engine)) / 4);
  return logits;
}

// The penalties, biases and masks of sampling.h by the book, in the order documented.
template <typename T>
std::vector<T> NaiveRules(std::vector<T> logits, const SampleRules& rules) {
  for (size_t i = 0; i < logits.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    for (const TokenCount& seen : rules.counts) {
      if (seen.id != id) continue;
      const T penalty = static_cast<T>(rules.repetition_penalty);
      logits[i] = logits[i] > 0 ? logits[i] / penalty : logits[i] * penalty;
      logits[i] -= static_cast<T>(rules.frequency_penalty) * static_cast<T>(seen.output_count);
      if (seen.output_count > 0) logits[i] -= static_cast<T>(rules.presence_penalty);
    }
    for (const TokenBias& bias : rules.biases) {
      if (bias.id == id) logits[i] += static_cast<T>(bias.bias);
    }
    const auto among = [id](const std::vector<int32_t>& ids) {
      return std::find(ids.begin(), ids.end(), id) != ids.end();
    };
    const bool allowed = rules.allowed.empty() || among(rules.allowed);
    const bool in_mask = rules.mask.empty() || (rules.mask[i / 32] & uint32_t{1} << i % 32) != 0;
    if (!allowed || !in_mask || among(rules.banned)) {
      logits[i] = -std::numeric_limits<T>::infinity();
    }
  }
  return logits;
}

SampleRules RandomRules(std::mt19937_64& engine, size_t vocab) {
  SampleRules rules;
  const auto chance = [&engine] { return engine() % 2 == 0; };
  const auto number = [&engine](double low, double high) {
    return static_cast<float>(std::uniform_real_distribution<double>(low, high)(engine));
  };
  if (chance()) rules.repetition_penalty = number(0.2, 3);
  if (chance()) rules.presence_penalty = number(-3, 3);
  if (chance()) rules.frequency_penalty = number(-2, 2);
  if (chance()) rules.typical_p = number(0.05, 1);
  for (size_t i = 0; i < vocab; ++i) {
    const auto id = static_cast<int32_t>(i);
    if (engine() % 4 == 0) rules.counts.push_back({id, static_cast<int32_t>(engine() % 4)});
    if (engine() % 6 == 0) rules.biases.push_back({id, number(-5, 5)});
    if (engine() % 5 == 0) rules.banned.push_back(id);
  }
  if (chance()) {
    for (size_t i = 0; i < vocab; i += 1 + engine() % 3) {
      rules.allowed.push_back(static_cast<int32_t>(i));
    }
  }
  return rules;
}

template <typename T>
class SamplingTest : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(SamplingTest, Types);

TYPED_TEST(SamplingTest, EqualsNaiveRulesOnLogitsWithTies) {
  std::mt19937_64 engine(71);
  std::uniform_int_distribution<int> pick(0, 3);
  constexpr std::array<float, 4> kTemperatures = {1.0f, 0.3f, 1.7f, 20.0f};
  constexpr std::array<int32_t, 4> kTopK = {0, 1, 7, 1000};
  constexpr std::array<float, 4> kTopP = {1.0f, 0.013f, 0.57f, 0.971f};
  constexpr std::array<float, 4> kMinP = {0.0f, 0.013f, 0.31f, 1.0f};
  for (int trial = 0; trial < 1500; ++trial) {
    const std::vector<TypeParam> logits = TiedLogits<TypeParam>(engine, 1 + engine() % 400);
    const SampleParams params{.temperature = kTemperatures[pick(engine)],
                              .top_k = kTopK[pick(engine)],
                              .top_p = kTopP[pick(engine)],
                              .min_p = kMinP[pick(engine)],
                              .seed = engine(),
                              .position = trial};
    const double u = static_cast<double>(PhiloxUniform(params.seed, params.position));
    ASSERT_EQ(SampleFromLogits<TypeParam>(logits, params),
              NaiveDraw(NaiveDistribution(logits, params), u))
        << "trial " << trial << ": temperature " << params.temperature << ", top_k " << params.top_k
        << ", top_p " << params.top_p << ", min_p " << params.min_p;
  }
}

TYPED_TEST(SamplingTest, EveryRuleEqualsTheNaiveOne) {
  std::mt19937_64 engine(74);
  int drawn = 0;
  for (int trial = 0; trial < 1500; ++trial) {
    std::vector<TypeParam> logits(1 + engine() % 120);
    // Without ties: those of |-ln p - H| would be decided by rounding.
    for (TypeParam& l : logits) {
      l = static_cast<TypeParam>(std::normal_distribution<double>(0, 3)(engine));
    }
    SampleRules rules = RandomRules(engine, logits.size());
    std::vector<uint32_t> mask((logits.size() + 31) / 32);
    for (uint32_t& word : mask) word = static_cast<uint32_t>(engine());
    if (trial % 4 == 0) rules.mask = mask;
    const SampleParams params{.temperature = trial % 7 == 0 ? 0.0f : 1.3f,
                              .top_k = trial % 3 == 0 ? 20 : 0,
                              .top_p = trial % 2 == 0 ? 0.8f : 1.0f,
                              .min_p = trial % 5 == 0 ? 0.05f : 0.0f,
                              .seed = engine(),
                              .position = trial};
    const std::vector<TypeParam> ruled = NaiveRules(logits, rules);
    const auto best = std::max_element(ruled.begin(), ruled.end());
    int32_t expected = -1;
    if (std::isfinite(*best)) {
      const double u = static_cast<double>(PhiloxUniform(params.seed, params.position));
      const auto typical = static_cast<double>(rules.typical_p);
      expected = params.temperature == 0 ? static_cast<int32_t>(best - ruled.begin())
                                         : NaiveDraw(NaiveDistribution(ruled, params, typical), u);
      ++drawn;
    }
    ASSERT_EQ(SampleFromLogits<TypeParam>(logits, params, &rules), expected) << "trial " << trial;
  }
  EXPECT_GT(drawn, 1350);
}

TYPED_TEST(SamplingTest, MasksThatLeaveNothingDrawNothing) {
  const std::vector<TypeParam> logits = {1, 2, 3};
  const SampleRules rules{.allowed = {1}, .banned = {1}};
  EXPECT_EQ(SampleFromLogits<TypeParam>(logits, {}, &rules), -1);
  EXPECT_EQ(SampleFromLogits<TypeParam>(logits, {.temperature = 0}, &rules), -1);
}

TYPED_TEST(SamplingTest, TopScoresAreTheMostLikelyWithTheirLogProbabilities) {
  std::mt19937_64 engine(75);
  const std::vector<TypeParam> logits = TiedLogits<TypeParam>(engine, 50);
  std::vector<TokenScore> scores = {{99, 1.0}};
  TopScores<TypeParam>(logits, 20, scores);
  ASSERT_EQ(scores.size(), 21u);
  EXPECT_EQ(scores[0].id, 99);
  for (size_t i = 1; i < scores.size(); ++i) {
    int before = 0;
    const TypeParam own = logits[static_cast<size_t>(scores[i].id)];
    for (size_t j = 0; j < logits.size(); ++j) {
      before += logits[j] > own || (logits[j] == own && static_cast<int32_t>(j) < scores[i].id);
    }
    EXPECT_EQ(before, static_cast<int>(i) - 1);
    EXPECT_EQ(scores[i].logprob, LogProbability<TypeParam>(logits, scores[i].id));
  }
  scores.clear();
  TopScores<TypeParam>({1, 2}, 20, scores);
  EXPECT_EQ(scores.size(), 2u);
}

TYPED_TEST(SamplingTest, GreedyTakesTheLowestOfTheLargest) {
  std::mt19937_64 engine(72);
  for (int trial = 0; trial < 50; ++trial) {
    const std::vector<TypeParam> logits = TiedLogits<TypeParam>(engine, 300);
    // The other rules do not matter.
    const SampleParams params{.temperature = 0, .top_k = 3, .top_p = 0.5f, .seed = engine()};
    EXPECT_EQ(SampleFromLogits<TypeParam>(logits, params),
              std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
}

// Equal logits at the cut of top_k and of top_p: the lower ids stay.
TYPED_TEST(SamplingTest, TiesAtTheCutKeepTheLowerIds) {
  const std::vector<TypeParam> logits = {0, 1, 1, 0, 1, 1};
  for (int64_t position = 0; position < 200; ++position) {
    EXPECT_LE(SampleFromLogits<TypeParam>(logits, {.top_k = 2, .position = position}), 2);
    EXPECT_LE(SampleFromLogits<TypeParam>(logits, {.top_p = 0.3f, .position = position}), 2);
  }
}

TYPED_TEST(SamplingTest, TinyTemperatureIsGreedy) {
  const std::vector<TypeParam> logits = {3, 5, 4, 5};
  for (int64_t position = 0; position < 100; ++position) {
    const SampleParams params{
        .temperature = std::numeric_limits<float>::denorm_min(), .top_k = 1, .position = position};
    EXPECT_EQ(SampleFromLogits<TypeParam>(logits, params), 1);
  }
}

// The sum must exceed u, not reach it; the two positions have u = 1/2 and u = 0 under seed 0.
TYPED_TEST(SamplingTest, DrawsTheFirstIdWhoseSumExceedsU) {
  ASSERT_EQ(PhiloxUniform(0, 9297664), 0.5f);
  ASSERT_EQ(PhiloxUniform(0, 14883995), 0.0f);
  EXPECT_EQ(SampleFromLogits<TypeParam>({1, 1}, {.position = 9297664}), 1);
  EXPECT_EQ(SampleFromLogits<TypeParam>({1, 1}, {.position = 14883995}), 0);
  EXPECT_EQ(SampleFromLogits<TypeParam>({-5000, 0}, {.position = 14883995}), 1);
}

TYPED_TEST(SamplingTest, NothingIsDrawnFromNanOrInf) {
  for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
    const std::vector<TypeParam> logits = {1, 2, static_cast<TypeParam>(bad), 0};
    for (const SampleParams& params :
         {SampleParams{.temperature = 0}, SampleParams{}, SampleParams{.top_k = 1},
          SampleParams{.top_p = 0.5f}, SampleParams{.min_p = 0.5f}}) {
      EXPECT_EQ(SampleFromLogits<TypeParam>(logits, params), -1);
    }
  }
}

TYPED_TEST(SamplingTest, LogProbabilitiesOfLargeLogits) {
  const std::vector<TypeParam> logits = {1000, 999, 1001};
  const double sum = std::exp(-1.0) + std::exp(-2.0) + 1;
  EXPECT_NEAR(LogProbability<TypeParam>(logits, 0), -1 - std::log(sum), 1e-14);
  EXPECT_NEAR(LogProbability<TypeParam>(logits, 2), -std::log(sum), 1e-14);
}

// Pearson's chi-square over a million draws at consecutive positions against the plain rules. It
// has mean k and variance 2k with k degrees of freedom: beyond five standard deviations the draw is
// not of this distribution.
void ExpectDrawsFollow(const std::vector<double>& logits, SampleParams params,
                       const SampleRules& rules, const std::string& name) {
  constexpr int64_t kDraws = 1'000'000;
  const std::vector<double> p =
      NaiveDistribution(NaiveRules(logits, rules), params, static_cast<double>(rules.typical_p));
  std::vector<int64_t> drawn(p.size());
  for (params.position = 0; params.position < kDraws; ++params.position) {
    ++drawn[static_cast<size_t>(SampleFromLogits<double>(logits, params, &rules))];
  }
  double chi_square = 0;
  double degrees = -1;
  for (size_t i = 0; i < p.size(); ++i) {
    if (p[i] == 0) {
      EXPECT_EQ(drawn[i], 0) << name << ": id " << i << " of probability 0 was drawn";
      continue;
    }
    const double expected = p[i] * static_cast<double>(kDraws);
    const double excess = static_cast<double>(drawn[i]) - expected;
    chi_square += excess * excess / expected;
    ++degrees;
  }
  EXPECT_GE(degrees, 3) << name << " leaves too little to compare";
  EXPECT_LT(std::abs(chi_square - degrees), 5 * std::sqrt(2 * degrees))
      << name << ", " << degrees << " degrees of freedom";
}

TEST(SamplingDistributionTest, DrawsUnderEachRuleFollowTheProbabilities) {
  std::mt19937_64 engine(73);
  const std::vector<double> logits = TiedLogits<double>(engine, 20);
  const std::vector<TokenCount> counts = {{1, 0}, {3, 1}, {4, 5}, {9, 2}, {12, 0}};
  struct Case {
    std::string name;
    SampleParams params;
    SampleRules rules;
  };
  const std::vector<Case> cases = {
      {"nothing", {.seed = 1}, {}},
      {"temperature", {.temperature = 2.0f, .seed = 0x123456789abcdef}, {}},
      {"top_k", {.top_k = 9, .seed = 3}, {}},
      {"top_p", {.temperature = 1.5f, .top_p = 0.9f, .seed = 4}, {}},
      {"min_p", {.temperature = 1.5f, .min_p = 0.1f, .seed = 5}, {}},
      {"typical_p", {.seed = 6}, {.typical_p = 0.7f}},
      {"repetition_penalty", {.seed = 7}, {.repetition_penalty = 1.7f, .counts = counts}},
      {"presence_penalty", {.seed = 8}, {.presence_penalty = 1.1f, .counts = counts}},
      {"frequency_penalty", {.seed = 9}, {.frequency_penalty = -0.3f, .counts = counts}},
      {"logit_bias", {.seed = 10}, {.biases = {{2, 1.5f}, {7, -2.0f}}}},
      {"allowed_token_ids", {.seed = 11}, {.allowed = {1, 2, 3, 7, 9, 11, 18}}},
      {"bad_words and min_tokens", {.seed = 12}, {.banned = {0, 5, 6, 13}}}};
  for (const Case& c : cases) ExpectDrawsFollow(logits, c.params, c.rules, c.name);
}

TEST(SamplingDistributionTest, DrawsUnderAllRulesFollowTheProbabilities) {
  std::mt19937_64 engine(76);
  std::vector<double> logits(24);
  for (double& l : logits) l = std::normal_distribution<double>(0, 1.5)(engine);
  const SampleRules rules{.repetition_penalty = 0.6f,
                          .presence_penalty = 0.4f,
                          .frequency_penalty = -0.2f,
                          .typical_p = 0.95f,
                          .counts = {{1, 0}, {3, 1}, {4, 5}, {9, 2}},
                          .biases = {{2, 1.5f}, {7, -2.0f}},
                          .allowed = {1, 2, 3, 4, 5, 7, 9, 11, 13, 14, 15, 16, 17, 20, 21},
                          .banned = {3, 20}};
  const SampleParams params{
      .temperature = 1.6f, .top_k = 12, .top_p = 0.98f, .min_p = 0.02f, .seed = 100};
  ExpectDrawsFollow(logits, params, rules, "all rules");
}

}  // namespace
}  // namespace based
