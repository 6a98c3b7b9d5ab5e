#include "kernels/sampling.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "kernels/base/check.h"
#include "kernels/philox.h"

namespace based {
namespace {

// An id that may still be drawn. `weight` is exp((logit - max logit) / temperature): its
// probability up to a common factor, and 1 for the largest logit.
template <typename T>
struct Candidate {
  T logit;
  int32_t id;
  double weight;
};

// Largest logit first, the lower id first among equal ones.
template <typename T>
bool Precedes(const Candidate<T>& a, const Candidate<T>& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

template <typename T>
double TotalWeight(const std::vector<Candidate<T>>& candidates) {
  double total = 0;
  for (const Candidate<T>& candidate : candidates) total += candidate.weight;
  return total;
}

// Index of the largest logit, the lowest on a tie; -1 when a logit is NaN or Inf.
template <typename T>
int32_t ArgMax(absl::Span<const T> logits) {
  size_t best = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!std::isfinite(logits[i])) return -1;
    if (logits[i] > logits[best]) best = i;
  }
  return static_cast<int32_t>(best);
}

template <typename T>
constexpr T kMasked = -std::numeric_limits<T>::infinity();

// Masks the ids whose bit is not set.
template <typename T>
void ApplyMask(absl::Span<const uint32_t> mask, std::vector<T>& logits) {
  for (size_t word = 0, first = 0; first < logits.size(); ++word, first += 32) {
    const size_t count = std::min<size_t>(32, logits.size() - first);
    if (mask[word] == 0) {
      std::fill_n(logits.begin() + static_cast<ptrdiff_t>(first), count, kMasked<T>);
      continue;
    }
    for (uint32_t gone = ~mask[word]; gone != 0; gone &= gone - 1) {
      const auto bit = static_cast<size_t>(__builtin_ctz(gone));
      if (bit < count) logits[first + bit] = kMasked<T>;
    }
  }
}

// Logit after penalties and bias, in the type of the logits; -infinity marks an id that is masked.
template <typename T>
void ApplyRules(absl::Span<const T> logits, const SampleRules& rules, std::vector<T>& out) {
  out.assign(logits.begin(), logits.end());
  for (const TokenCount& count : rules.counts) {
    T& logit = out[static_cast<size_t>(count.id)];
    const T repetition = static_cast<T>(rules.repetition_penalty);
    logit = logit > 0 ? logit / repetition : logit * repetition;
    logit -= static_cast<T>(rules.frequency_penalty) * static_cast<T>(count.output_count);
    if (count.output_count > 0) logit -= static_cast<T>(rules.presence_penalty);
  }
  for (const TokenBias& bias : rules.biases) {
    out[static_cast<size_t>(bias.id)] += static_cast<T>(bias.bias);
  }
  if (!rules.allowed.empty()) {
    std::vector<T> kept(out.size(), kMasked<T>);
    for (const int32_t id : rules.allowed) {
      kept[static_cast<size_t>(id)] = out[static_cast<size_t>(id)];
    }
    out = std::move(kept);
  }
  for (const int32_t id : rules.banned) out[static_cast<size_t>(id)] = kMasked<T>;
  if (!rules.mask.empty()) ApplyMask(rules.mask, out);
}

template <typename T>
void KeepTopK(int32_t top_k, std::vector<Candidate<T>>& candidates) {
  if (static_cast<size_t>(top_k) >= candidates.size()) return;
  std::nth_element(candidates.begin(), candidates.begin() + top_k, candidates.end(), Precedes<T>);
  candidates.resize(static_cast<size_t>(top_k));
}

// Sorts only as many of the largest candidates as the sum needs, in blocks of growing size: a
// nucleus is mostly a few dozen ids of a vocabulary of 50,000.
template <typename T>
void KeepTopP(double top_p, std::vector<Candidate<T>>& candidates) {
  const double wanted = top_p * TotalWeight(candidates);
  double sum = 0;
  size_t sorted = 0;
  for (size_t block = 64; sorted < candidates.size(); block *= 4) {
    const size_t end = std::min(sorted + block, candidates.size());
    const auto first = candidates.begin() + static_cast<ptrdiff_t>(sorted);
    const auto last = candidates.begin() + static_cast<ptrdiff_t>(end);
    if (last != candidates.end()) std::nth_element(first, last, candidates.end(), Precedes<T>);
    std::sort(first, last, Precedes<T>);
    for (size_t i = sorted; i < end; ++i) {
      sum += candidates[i].weight;
      if (sum >= wanted) {
        candidates.resize(i + 1);
        return;
      }
    }
    sorted = end;
  }
}

// Keeps the ids whose surprise -ln p is nearest to its mean, the entropy.
template <typename T>
void KeepTypical(double typical_p, std::vector<Candidate<T>>& candidates) {
  const double total = TotalWeight(candidates);
  const auto surprise = [total](const Candidate<T>& c) { return -std::log(c.weight / total); };
  double entropy = 0;
  for (const Candidate<T>& c : candidates) {
    if (c.weight > 0) entropy += c.weight / total * surprise(c);
  }
  struct Ranked {
    double distance;
    Candidate<T> candidate;
  };
  std::vector<Ranked> ranked;
  ranked.reserve(candidates.size());
  for (const Candidate<T>& c : candidates) ranked.push_back({std::abs(surprise(c) - entropy), c});
  std::sort(ranked.begin(), ranked.end(), [](const Ranked& a, const Ranked& b) {
    return a.distance != b.distance ? a.distance < b.distance : a.candidate.id < b.candidate.id;
  });
  candidates.clear();
  double sum = 0;
  for (const Ranked& r : ranked) {
    candidates.push_back(r.candidate);
    sum += r.candidate.weight;
    if (sum >= typical_p * total) break;
  }
}

// The first weight, in order, at which the running sum exceeds `u` of the total.
template <typename Weights, typename WeightOf>
size_t DrawIndex(const Weights& weights, double u, WeightOf weight_of) {
  double total = 0;
  for (const auto& item : weights) total += weight_of(item);
  const double threshold = u * total;
  double sum = 0;
  size_t last_possible = 0;  // the answer should rounding keep the sum at the threshold
  for (size_t i = 0; i < weights.size(); ++i) {
    const double weight = weight_of(weights[i]);
    sum += weight;
    if (sum > threshold) return i;
    if (weight > 0) last_possible = i;
  }
  return last_possible;
}

}  // namespace

float PhiloxUniform(uint64_t seed, int64_t position) {
  const uint64_t counter = static_cast<uint64_t>(position);
  const auto words =
      Philox4x32({static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), 0, 0},
                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return static_cast<float>(words[0] >> 8) * 0x1p-24f;
}

namespace {

// Draws from logits of which some may be masked; `best` is the largest.
template <typename T>
int32_t Draw(absl::Span<const T> logits, int32_t best, const SampleParams& params,
             double typical_p) {
  const double max = static_cast<double>(logits[static_cast<size_t>(best)]);
  const double temperature = static_cast<double>(params.temperature);
  const double u = static_cast<double>(PhiloxUniform(params.seed, params.position));
  // Of a masked id 0, without asking: masks often leave a hundredth of the vocabulary.
  const auto weight_of_logit = [=](T logit) {
    return logit == kMasked<T> ? 0 : std::exp((static_cast<double>(logit) - max) / temperature);
  };
  if (params.top_k == 0 && params.top_p >= 1 && params.min_p == 0 && typical_p >= 1) {
    thread_local std::vector<double> weights;  // kept, as in SampleFromLogits
    weights.resize(logits.size());
    std::transform(logits.begin(), logits.end(), weights.begin(), weight_of_logit);
    return static_cast<int32_t>(DrawIndex(weights, u, [](double weight) { return weight; }));
  }

  std::vector<Candidate<T>> candidates;
  candidates.reserve(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isfinite(logits[i])) candidates.push_back({logits[i], static_cast<int32_t>(i), 0});
  }
  if (params.top_k > 0) KeepTopK(params.top_k, candidates);
  for (Candidate<T>& candidate : candidates) candidate.weight = weight_of_logit(candidate.logit);
  if (typical_p < 1) KeepTypical(typical_p, candidates);
  if (params.top_p < 1) KeepTopP(static_cast<double>(params.top_p), candidates);
  double largest = 0;
  for (const Candidate<T>& c : candidates) largest = std::max(largest, c.weight);
  const double min_weight = static_cast<double>(params.min_p) * largest;
  std::erase_if(candidates, [=](const Candidate<T>& c) { return c.weight < min_weight; });
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate<T>& a, const Candidate<T>& b) { return a.id < b.id; });
  const size_t drawn = DrawIndex(candidates, u, [](const Candidate<T>& c) { return c.weight; });
  return candidates[drawn].id;
}

}  // namespace

template <typename T>
int32_t SampleFromLogits(absl::Span<const T> logits, const SampleParams& params,
                         const SampleRules* rules) {
  BASED_CHECK(!logits.empty());
  int32_t best = ArgMax(logits);
  if (best < 0) return best;
  if (rules == nullptr) return params.temperature == 0 ? best : Draw(logits, best, params, 1.0);

  // Kept: memory of this size comes in fresh pages each time.
  thread_local std::vector<T> ruled;
  ApplyRules(logits, *rules, ruled);
  // Masks alone leave the largest logit where it is, unless they take it.
  const bool only_masks = rules->counts.empty() && rules->biases.empty();
  if (!only_masks || ruled[static_cast<size_t>(best)] == kMasked<T>) {
    best = static_cast<int32_t>(std::max_element(ruled.begin(), ruled.end()) - ruled.begin());
  }
  if (!std::isfinite(ruled[static_cast<size_t>(best)])) return -1;
  if (params.temperature == 0) return best;
  return Draw<T>(ruled, best, params, static_cast<double>(rules->typical_p));
}

template <typename T>
double LogProbability(absl::Span<const T> logits, int32_t id) {
  BASED_CHECK(id >= 0 && static_cast<size_t>(id) < logits.size());
  const double max = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  double sum = 0;
  for (const T logit : logits) sum += std::exp(static_cast<double>(logit) - max);
  return static_cast<double>(logits[static_cast<size_t>(id)]) - max - std::log(sum);
}

template <typename T>
void TopScores(absl::Span<const T> logits, int32_t count, std::vector<TokenScore>& scores) {
  BASED_CHECK(!logits.empty());
  const size_t kept = std::min(static_cast<size_t>(count), logits.size());
  std::vector<Candidate<T>> candidates(logits.size());
  double sum = 0;
  const double max = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  for (size_t i = 0; i < logits.size(); ++i) {
    candidates[i] = {logits[i], static_cast<int32_t>(i), 0};
    sum += std::exp(static_cast<double>(logits[i]) - max);
  }
  const auto end = candidates.begin() + static_cast<ptrdiff_t>(kept);
  std::partial_sort(candidates.begin(), end, candidates.end(), Precedes<T>);
  candidates.resize(kept);
  for (const Candidate<T>& c : candidates) {
    scores.push_back({c.id, static_cast<double>(c.logit) - max - std::log(sum)});
  }
}

template int32_t SampleFromLogits(absl::Span<const float>, const SampleParams&, const SampleRules*);
template int32_t SampleFromLogits(absl::Span<const double>, const SampleParams&,
                                  const SampleRules*);
template double LogProbability(absl::Span<const float>, int32_t);
template double LogProbability(absl::Span<const double>, int32_t);
template void TopScores(absl::Span<const float>, int32_t, std::vector<TokenScore>&);
template void TopScores(absl::Span<const double>, int32_t, std::vector<TokenScore>&);

}  // namespace based
