#include "engine/step_cost.h"

#include <algorithm>
#include <limits>

namespace based {
namespace {

constexpr double kKeep = 0.97;  // weight of the past per step: half is forgotten in 23 steps
constexpr double kOutlier = 2;
// Less variance of the number of decodes than this says nothing about the cost of one.
constexpr double kLeastVariance = 0.25;
// The line is only known near what has been seen.
constexpr double kMostGrowth = 2;

}  // namespace

int32_t StepCost::FirstGuess(int32_t decodes) { return std::max(32, decodes); }

void StepCost::Observe(int32_t decodes, int32_t prefill, double seconds) {
  if (seconds <= 0) return;
  if (decodes <= 0) {
    alone_ = kKeep * alone_ + prefill;
    alone_seconds_ = kKeep * alone_seconds_ + seconds;
    return;
  }
  mixed_in_a_row_ = prefill == 0 ? 0 : mixed_in_a_row_ + 1;
  if (prefill == 0) return ObserveDecode(decodes, seconds);
  const double decode = DecodeSeconds(decodes);
  if (decode <= 0) return;
  double extra = std::max(0.0, seconds - decode);
  if (mixed_steps_ >= kLeastSteps) {
    const double expected = decode + prefill * extra_ / prefill_;
    extra = std::min(extra, kOutlier * expected - decode);
  }
  mixed_steps_ = kKeep * mixed_steps_ + 1;
  prefill_ = kKeep * prefill_ + prefill;
  extra_ = kKeep * extra_ + extra;
}

void StepCost::ObserveDecode(double decodes, double seconds) {
  if (steps_ >= kLeastSteps) {
    seconds = std::min(seconds, kOutlier * DecodeSeconds(static_cast<int32_t>(decodes)));
  }
  steps_ = kKeep * steps_ + 1;
  decodes_ = kKeep * decodes_ + decodes;
  seconds_ = kKeep * seconds_ + seconds;
  decodes2_ = kKeep * decodes2_ + decodes * decodes;
  decodes_seconds_ = kKeep * decodes_seconds_ + decodes * seconds;
}

double StepCost::DecodeSeconds(int32_t decodes) const {
  if (steps_ <= 0) return 0;
  const double mean_decodes = decodes_ / steps_;
  const double mean_seconds = seconds_ / steps_;
  const double variance = decodes2_ / steps_ - mean_decodes * mean_decodes;
  double slope = 0;
  if (variance > kLeastVariance) {
    slope = (decodes_seconds_ / steps_ - mean_decodes * mean_seconds) / variance;
  }
  // No step gets cheaper by another row, and none costs less than nothing.
  slope = std::clamp(slope, 0.0, mean_seconds / mean_decodes);
  return mean_seconds + slope * (decodes - mean_decodes);
}

int32_t StepCost::PrefillBeside(int32_t decodes) const {
  if (mixed_in_a_row_ >= (steps_ < kLeastSteps ? kFirstProbes : kProbes)) return 0;
  if (steps_ < kLeastSteps || mixed_steps_ < kLeastSteps) return FirstGuess(decodes);
  const double seen = prefill_ / mixed_steps_;
  const double decode = DecodeSeconds(decodes);
  const double room = target_ > 0 ? target_ - decode : (kStretch - 1) * decode;
  const double most = kMostGrowth * std::max<double>(seen, FirstGuess(decodes));
  const double each = extra_ / prefill_;
  const double fits = each > 0 ? std::min(most, room / each) : most;
  return static_cast<int32_t>(
      std::clamp<double>(fits, kLeastPrefill, std::numeric_limits<int32_t>::max()));
}

double StepCost::PrefillSeconds() const {
  if (prefill_ > 0) return extra_ / prefill_;
  return alone_ > 0 ? alone_seconds_ / alone_ : 0;
}

}  // namespace based
