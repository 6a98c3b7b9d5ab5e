#include "tests/kernels/cuda/sample_oracle.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

namespace based {
namespace {

constexpr double kRounding = 2e-6;

void Normalise(std::vector<double>& p) {
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& value : p) value /= sum;
}

// Keeps the first of `order` whose sum reaches `wanted`, at least one.
void KeepFirst(const std::vector<size_t>& order, double wanted, std::vector<double>& p) {
  double sum = 0;
  for (size_t rank = 0; rank < order.size(); ++rank) {
    const bool reached = rank > 0 && sum >= wanted;
    sum += p[order[rank]];
    if (reached) p[order[rank]] = 0;
  }
  Normalise(p);
}

template <typename Key>
std::vector<size_t> SortedBy(size_t size, Key key) {
  std::vector<size_t> order(size);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&key](size_t a, size_t b) { return key(a) < key(b); });
  return order;
}

}  // namespace

std::vector<float> OracleRules(std::vector<float> logits, const SampleRules& rules) {
  for (const TokenCount& seen : rules.counts) {
    float& logit = logits[static_cast<size_t>(seen.id)];
    if (logit > 0) {
      logit /= rules.repetition_penalty;
    } else {
      logit *= rules.repetition_penalty;
    }
    logit -= rules.frequency_penalty * static_cast<float>(seen.output_count);
    if (seen.output_count > 0) logit -= rules.presence_penalty;
  }
  for (const TokenBias& bias : rules.biases) logits[static_cast<size_t>(bias.id)] += bias.bias;
  const std::set<int32_t> allowed(rules.allowed.begin(), rules.allowed.end());
  const std::set<int32_t> banned(rules.banned.begin(), rules.banned.end());
  for (size_t i = 0; i < logits.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    const bool in_mask = rules.mask.empty() || (rules.mask[i / 32] & uint32_t{1} << i % 32) != 0;
    if ((!allowed.empty() && !allowed.contains(id)) || banned.contains(id) || !in_mask) {
      logits[i] = -std::numeric_limits<float>::infinity();
    }
  }
  return logits;
}

std::vector<double> OracleDistribution(const std::vector<float>& ruled, const SampleParams& params,
                                       double typical_p, double nudge) {
  const double max = static_cast<double>(*std::max_element(ruled.begin(), ruled.end()));
  std::vector<double> p(ruled.size());
  for (size_t i = 0; i < p.size(); ++i) {
    p[i] =
        std::exp((static_cast<double>(ruled[i]) - max) / static_cast<double>(params.temperature));
  }
  const std::vector<size_t> by_logit = SortedBy(p.size(), [&ruled](size_t i) { return -ruled[i]; });
  for (size_t rank = 0; rank < p.size(); ++rank) {
    if (params.top_k > 0 && rank >= static_cast<size_t>(params.top_k)) p[by_logit[rank]] = 0;
  }
  Normalise(p);
  if (typical_p < 1) {
    double entropy = 0;
    for (const double value : p) entropy -= value > 0 ? value * std::log(value) : 0;
    std::vector<double> distance(p.size());
    for (size_t i = 0; i < p.size(); ++i) distance[i] = std::abs(-std::log(p[i]) - entropy);
    KeepFirst(SortedBy(p.size(), [&distance](size_t i) { return distance[i]; }),
              typical_p * (1 + nudge), p);
  }
  if (params.top_p < 1) KeepFirst(by_logit, static_cast<double>(params.top_p) * (1 + nudge), p);
  const double least =
      static_cast<double>(params.min_p) * *std::max_element(p.begin(), p.end()) * (1 + nudge);
  for (double& value : p) {
    if (value < least) value = 0;
  }
  Normalise(p);
  return p;
}

bool RoundingMayDraw(const std::vector<float>& ruled, const SampleParams& params, double typical_p,
                     int32_t id) {
  if (id < 0 || id >= static_cast<int32_t>(ruled.size())) return false;
  const double u = static_cast<double>(PhiloxUniform(params.seed, params.position));
  for (const double nudge : {0.0, -kRounding, kRounding}) {
    const std::vector<double> p = OracleDistribution(ruled, params, typical_p, nudge);
    const double before = std::accumulate(p.begin(), p.begin() + id, 0.0);
    const double own = p[static_cast<size_t>(id)];
    if (own > 0 && u >= before - kRounding && u <= before + own + kRounding) return true;
  }
  return false;
}

}  // namespace based
