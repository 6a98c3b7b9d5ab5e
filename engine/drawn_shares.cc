#include "engine/drawn_shares.h"

#include <algorithm>
#include <cmath>

namespace based {
namespace {

constexpr double kKeep = 0.99;  // weight of the past per completion
// Less of it says nothing.
constexpr double kLeastWeight = 1e-6;
constexpr int kBinsPerOctave = 4;

}  // namespace

double DrawnShares::Begin(size_t bin) {
  static const auto* const kBegins = [] {
    auto* begins = new std::array<double, kBins + 1>{};
    for (size_t i = 1; i <= kBins; ++i) {
      (*begins)[i] = std::exp2((static_cast<double>(i) - kBins) / kBinsPerOctave);
    }
    return begins;
  }();
  return (*kBegins)[bin];
}

size_t DrawnShares::BinOf(double share) {
  if (share < Begin(1)) return 0;
  const double bin = static_cast<double>(kBins) + kBinsPerOctave * std::log2(share);
  return std::clamp<size_t>(static_cast<size_t>(bin), 1, kBins);
}

void DrawnShares::Add(int64_t drawn, int64_t most) {
  for (double& weight : weights_) weight *= kKeep;
  weights_[BinOf(static_cast<double>(drawn) / static_cast<double>(most))] += 1;
  for (size_t i = 0; i <= kBins; ++i) before_[i + 1] = before_[i] + weights_[i];
}

double DrawnShares::Left(int64_t drawn, int64_t most, double quantile) const {
  const auto all = static_cast<double>(most - drawn);
  if (before_.back() <= 0 || all <= 0) return std::max(0.0, all);
  const auto tokens = static_cast<double>(most);
  const double now = static_cast<double>(drawn) / tokens;
  const size_t first = BinOf(now);
  const auto width = [](size_t bin) { return Begin(bin + 1) - Begin(bin); };
  double gone = before_[first];
  if (first < kBins) gone += std::max(0.0, now - Begin(first)) / width(first) * weights_[first];
  const double outlive = before_.back() - gone;
  if (outlive < kLeastWeight) return quantile * all;
  const double target = gone + quantile * outlive;
  const auto bin = static_cast<size_t>(
      std::upper_bound(before_.begin() + 1, before_.end() - 1, target) - before_.begin() - 1);
  if (bin == kBins) return all;
  const double end = Begin(bin) + (target - before_[bin]) / weights_[bin] * width(bin);
  return std::clamp((end - now) * tokens, 0.0, all);
}

}  // namespace based
