#include "kernels/cpu/elementwise.h"

#include <cmath>
#include <cstdint>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/elementwise.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace based::HWY_NAMESPACE {

void RmsNormForTarget(const float* in, const float* weight, double eps, int64_t width, float* out) {
  const FloatTag d;
  FloatVec squares = hn::Zero(d);
  for (int64_t i = 0; i < width; i += kLanes) {
    const FloatVec x = LoadFirst(in + i, width - i);
    squares = hn::MulAdd(x, x, squares);
  }
  const double mean =
      static_cast<double>(hn::GetLane(hn::SumOfLanes(d, squares))) / static_cast<double>(width);
  const FloatVec scale = hn::Set(d, static_cast<float>(1.0 / std::sqrt(mean + eps)));
  for (int64_t i = 0; i < width; i += kLanes) {
    const FloatVec x = hn::Mul(LoadFirst(in + i, width - i), scale);
    StoreFirst(hn::Mul(x, LoadFirst(weight + i, width - i)), out + i, width - i);
  }
}

// Row `row` of a, which lies in the state when it is before the first row of this call.
HWY_INLINE const float* ConvRow(const ConvMixArgs& args, int64_t row) {
  return row >= 0 ? args.in + row * 2 * args.channels
                  : args.state + (row + args.kernel - 1) * args.channels;
}

void ConvMixForTarget(const ConvMixArgs& args, int64_t begin, int64_t end) {
  const FloatTag d;
  const int64_t channels = args.channels;
  for (int64_t row = 0; row < args.rows; ++row) {
    const float* gate = args.in + (row * 2 + 1) * channels;
    for (int64_t c = begin; c < end; c += kLanes) {
      FloatVec sum = hn::Zero(d);
      for (int64_t i = 0; i < args.kernel; ++i) {
        const FloatVec a = LoadFirst(ConvRow(args, row - args.kernel + 1 + i) + c, end - c);
        sum = hn::MulAdd(LoadFirst(args.taps + i * channels + c, end - c), a, sum);
      }
      const FloatVec y = hn::Mul(Silu(sum), LoadFirst(gate + c, end - c));
      StoreFirst(y, args.out + row * channels + c, end - c);
    }
  }
  for (int64_t i = 0; i + 1 < args.kernel; ++i) {
    const float* from = ConvRow(args, args.rows - args.kernel + 1 + i);
    std::memmove(args.state + i * channels + begin, from + begin,
                 static_cast<size_t>(end - begin) * sizeof(float));
  }
}

bool AllFiniteForTarget(const float* values, int64_t count) {
  const FloatTag d;
  // x - x is 0 for a finite x and NaN for any other, and NaN stays in a sum.
  FloatVec sum = hn::Zero(d);
  for (int64_t i = 0; i < count; i += kLanes) {
    const FloatVec x = LoadFirst(values + i, count - i);
    sum = hn::Add(sum, hn::Sub(x, x));
  }
  return hn::GetLane(hn::SumOfLanes(d, sum)) == 0.0f;
}

int32_t ArgMaxForTarget(const float* values, int64_t count) {
  const FloatTag d;
  FloatVec most = hn::Set(d, values[0]);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) most = hn::Max(most, hn::LoadU(d, values + i));
  float max = hn::GetLane(hn::MaxOfLanes(d, most));
  for (; i < count; ++i) max = values[i] > max ? values[i] : max;
  const FloatVec wanted = hn::Set(d, max);
  for (i = 0; i + kLanes <= count; i += kLanes) {
    if (!hn::AllFalse(d, hn::Eq(hn::LoadU(d, values + i), wanted))) break;
  }
  while (values[i] != max) ++i;
  return static_cast<int32_t>(i);
}

const char* TargetName() { return hwy::TargetName(HWY_TARGET); }

}  // namespace based::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace based {

HWY_EXPORT(RmsNormForTarget);
HWY_EXPORT(ConvMixForTarget);
HWY_EXPORT(AllFiniteForTarget);
HWY_EXPORT(ArgMaxForTarget);
HWY_EXPORT(TargetName);

void RmsNorm(const float* in, const float* weight, double eps, int64_t width, float* out) {
  HWY_DYNAMIC_DISPATCH(RmsNormForTarget)(in, weight, eps, width, out);
}

void ConvMix(const ConvMixArgs& args, int64_t begin, int64_t end) {
  if (begin == end) return;  // no channels: the pointers may be null
  HWY_DYNAMIC_DISPATCH(ConvMixForTarget)(args, begin, end);
}

bool AllFinite(const float* values, int64_t count) {
  return HWY_DYNAMIC_DISPATCH(AllFiniteForTarget)(values, count);
}

int32_t ArgMax(const float* values, int64_t count) {
  return HWY_DYNAMIC_DISPATCH(ArgMaxForTarget)(values, count);
}

const char* TargetInUse() { return HWY_DYNAMIC_DISPATCH(TargetName)(); }

}  // namespace based
#endif  // HWY_ONCE
