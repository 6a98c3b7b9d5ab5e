#include "engine/step_cost.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace based {
namespace {

constexpr double kKeep = 0.97;  // weight of the past per step: half is forgotten in 23 steps
constexpr double kOutlier = 2;
// What was known of the cost of a decode counts as a number of decodes with this variance: so it is
// kept while their number stays the same.
constexpr double kKnownVariance = 0.25;
// Nor does less than this of the number of prefill tokens, as a share of their mean's square.
constexpr double kLeastPrefillVariance = 0.01;
// The line is only known near what has been seen.
constexpr double kMostGrowth = 2;

}  // namespace

int32_t StepCost::FirstGuess(int32_t decodes, int32_t waiting) {
  return std::max({32, decodes, waiting});
}

void StepCost::Observe(int32_t decodes, int32_t prefill, double seconds) {
  if (seconds <= 0) return;
  if (decodes <= 0) {
    if (prefill < kTellingPrefill) return;
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
    const Prefill cost = PrefillCost();
    const double expected = decode + cost.fixed + prefill * cost.each;
    extra = std::min(extra, kOutlier * expected - decode);
  }
  mixed_steps_ = kKeep * mixed_steps_ + 1;
  prefill_ = kKeep * prefill_ + prefill;
  extra_ = kKeep * extra_ + extra;
  prefill2_ = kKeep * prefill2_ + static_cast<double>(prefill) * prefill;
  prefill_extra_ = kKeep * prefill_extra_ + prefill * extra;
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
  const double mean_decodes = decodes_ / steps_;
  const double mean_seconds = seconds_ / steps_;
  const double variance = decodes2_ / steps_ - mean_decodes * mean_decodes;
  const double covariance = decodes_seconds_ / steps_ - mean_decodes * mean_seconds;
  slope_ = (covariance + kKnownVariance * slope_) / (variance + kKnownVariance);
  // No step gets cheaper by another row, and none costs less than nothing.
  slope_ = std::clamp(slope_, 0.0, mean_seconds / mean_decodes);
}

double StepCost::DecodeSeconds(int32_t decodes) const {
  if (steps_ <= 0) return 0;
  const double mean_decodes = decodes_ / steps_;
  const double mean_seconds = seconds_ / steps_;
  return mean_seconds + slope_ * (decodes - mean_decodes);
}

StepCost::Prefill StepCost::PrefillCost() const {
  const double mean_prefill = prefill_ / mixed_steps_;
  const double mean_extra = extra_ / mixed_steps_;
  const double variance = prefill2_ / mixed_steps_ - mean_prefill * mean_prefill;
  Prefill cost{.fixed = 0, .each = mean_extra / mean_prefill};
  if (variance <= kLeastPrefillVariance * mean_prefill * mean_prefill) return cost;
  const double slope = (prefill_extra_ / mixed_steps_ - mean_prefill * mean_extra) / variance;
  // No token costs less than nothing, nor does the rest of the step.
  cost.each = std::clamp(slope, 0.0, cost.each);
  cost.fixed = mean_extra - cost.each * mean_prefill;
  return cost;
}

int32_t StepCost::PrefillBeside(int32_t decodes, int32_t waiting) const {
  if (mixed_in_a_row_ >= (steps_ < kLeastSteps ? kFirstProbes : kProbes)) return 0;
  const int32_t guess = FirstGuess(decodes, waiting);
  if (steps_ < kLeastSteps || mixed_steps_ < kLeastSteps) return guess;
  const double decode = DecodeSeconds(decodes);
  const double share = std::max(kStretch - 1, static_cast<double>(waiting) / decodes);
  const double room = target_ > 0 ? target_ - decode : share * decode;
  const double most = kMostGrowth * std::max<double>(prefill_ / mixed_steps_, guess);
  const Prefill cost = PrefillCost();
  double fits = most;
  if (cost.each > 0) {
    // Where the fixed part takes most of the room, at least as much time goes to tokens; but a
    // target is kept.
    const double least = target_ > 0 ? 0 : std::min<double>(guess, cost.fixed / cost.each);
    fits = std::min(most, std::max(least, (room - cost.fixed) / cost.each));
  }
  return static_cast<int32_t>(
      std::clamp<double>(fits, kLeastPrefill, std::numeric_limits<int32_t>::max()));
}

void StepCost::ObserveBatch(int32_t interactive, int32_t batch_rows) {
  if (interactive > 0 && batch_rows == 0) {
    batch_in_a_row_ = 0;
    return;
  }
  batch_rows_ = interactive > 0 ? batch_rows : 0;
  batch_in_a_row_ = interactive > 0 ? batch_in_a_row_ + 1 : 0;
}

// Seconds of batch work in a step.
double StepCost::BatchRoom(int32_t decodes, int32_t waiting) const {
  const double decode = DecodeSeconds(decodes);
  if (target_ > 0) return target_ - decode;
  return (kBatchStretch - (waiting > 0 ? kStretch : 1)) * decode;
}

int32_t StepCost::BatchBeside(int32_t decodes, int32_t waiting) const {
  if (batch_in_a_row_ >= kBatchProbes) return 0;
  if (steps_ < kLeastSteps) return decodes;
  const double room = BatchRoom(decodes, waiting);
  const double most = std::max<double>(decodes, kMostGrowth * batch_rows_);
  const double fits = slope_ > 0 ? std::min(most, room / slope_) : most;
  const double least = target_ > 0 || waiting > 0 ? 1 : decodes;
  return static_cast<int32_t>(std::max(least, fits));
}

int32_t StepCost::BatchPromptsEvery(int32_t decodes, int32_t rows) const {
  if (steps_ < kLeastSteps || mixed_steps_ < kLeastSteps) return 2;
  const Prefill cost = PrefillCost();
  const double room = BatchRoom(decodes, 0);
  const double takes = cost.fixed + cost.each * rows;
  if (takes >= (kMostBatchTurns - 1) * room) return kMostBatchTurns;
  return 1 + std::max(1, static_cast<int32_t>(std::ceil(takes / room)));
}

double StepCost::PrefillSeconds() const {
  if (prefill_ >= kLeastPrefill * mixed_steps_ && prefill_ > 0) return extra_ / prefill_;
  return alone_ > 0 ? alone_seconds_ / alone_ : 0;
}

}  // namespace based
