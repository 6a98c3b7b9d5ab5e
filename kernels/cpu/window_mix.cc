#include "kernels/cpu/window_mix.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/window_mix.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace based::HWY_NAMESPACE {
namespace {

// to[0, E) = rot(from) * scale; up to 16 floats after them are overwritten.
void Rotate(int64_t head_dim, const float* from, const float* cosine, const float* sine,
            float scale, float* to) {
  const FloatTag d;
  const int64_t half = head_dim / 2;
  const FloatVec factor = hn::Set(d, scale);
  // Low halves first: what they write beyond `half` is then overwritten by the high halves.
  for (int64_t i = 0; i < half; i += kLanes) {
    const FloatVec c = hn::Load(d, cosine + i);
    const FloatVec s = hn::Load(d, sine + i);
    const FloatVec y =
        hn::NegMulAdd(hn::LoadU(d, from + half + i), s, hn::Mul(hn::LoadU(d, from + i), c));
    hn::StoreU(hn::Mul(y, factor), d, to + i);
  }
  for (int64_t i = 0; i < half; i += kLanes) {
    const FloatVec c = hn::Load(d, cosine + i);
    const FloatVec s = hn::Load(d, sine + i);
    const FloatVec y =
        hn::MulAdd(hn::LoadU(d, from + i), s, hn::Mul(hn::LoadU(d, from + half + i), c));
    hn::StoreU(hn::Mul(y, factor), d, to + half + i);
  }
}

// scores[i] = q . k_i for kVectors vectors of ring places.
template <int kVectors>
HWY_INLINE void ScorePlaces(const WindowLayout& layout, const float* keys, const float* q,
                            float* scores) {
  const FloatTag d;
  FloatVec sum[kVectors];
  HWY_UNROLL(4)
  for (int v = 0; v < kVectors; ++v) sum[v] = hn::Zero(d);
  for (int64_t e = 0; e < layout.head_dim; ++e, keys += layout.ring_padded) {
    const FloatVec x = hn::Set(d, q[e]);
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) {
      sum[v] = hn::MulAdd(x, hn::Load(d, keys + v * kLanes), sum[v]);
    }
  }
  HWY_UNROLL(4)
  for (int v = 0; v < kVectors; ++v) hn::Store(sum[v], d, scores + v * kLanes);
}

// Scores become exp(score - max), zero beyond `count`. Returns their sum.
float ExpScores(int64_t count, float* scores) {
  const FloatTag d;
  const FloatVec lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
  FloatVec most = lowest;
  for (int64_t i = 0; i < count; i += kLanes) {
    const FloatVec score = hn::Load(d, scores + i);
    const FloatVec seen = hn::IfThenElse(FirstMask(std::min(count - i, kLanes)), score, lowest);
    hn::Store(seen, d, scores + i);
    most = hn::Max(most, seen);
  }
  const FloatVec max = hn::MaxOfLanes(d, most);
  FloatVec sum = hn::Zero(d);
  for (int64_t i = 0; i < count; i += kLanes) {
    const FloatVec weight = hn::Exp(d, hn::Sub(hn::Load(d, scores + i), max));
    hn::Store(weight, d, scores + i);
    sum = hn::Add(sum, weight);
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

// out columns = sum_i weights[i] values[i] / total: place i goes to chain i mod 4.
template <int kVectors>
HWY_INLINE void SumValues(const WindowLayout& layout, const float* weights, int64_t count,
                          const float* values, float total, int64_t width, float* out) {
  const FloatTag d;
  FloatVec sum[4][kVectors];
  HWY_UNROLL(4)
  for (int c = 0; c < 4; ++c) {
    HWY_UNROLL(2)
    for (int v = 0; v < kVectors; ++v) sum[c][v] = hn::Zero(d);
  }
  const auto add = [&](int64_t i, int c) HWY_ATTR {
    const FloatVec weight = hn::Set(d, weights[i]);
    HWY_UNROLL(2)
    for (int v = 0; v < kVectors; ++v) {
      const FloatVec value = hn::Load(d, values + i * layout.head_padded + v * kLanes);
      sum[c][v] = hn::MulAdd(weight, value, sum[c][v]);
    }
  };
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) {
    HWY_UNROLL(4)
    for (int c = 0; c < 4; ++c) add(i + c, c);
  }
  HWY_UNROLL(3)
  for (int c = 0; c < 3; ++c) {
    if (i + c < count) add(i + c, c);
  }
  const FloatVec divisor = hn::Set(d, total);
  HWY_UNROLL(2)
  for (int v = 0; v < kVectors; ++v) {
    const FloatVec all = hn::Add(hn::Add(sum[0][v], sum[1][v]), hn::Add(sum[2][v], sum[3][v]));
    if (v * kLanes < width) StoreFirst(hn::Div(all, divisor), out + v * kLanes, width - v * kLanes);
  }
}

void WriteToken(const WindowArgs& args, int64_t row, int64_t place, float* rotated) {
  const WindowLayout& layout = *args.layout;
  Rotate(layout.head_dim, args.k + row * args.in_stride, args.cosine + row * args.angle_stride,
         args.sine + row * args.angle_stride, 1.0f, rotated);
  for (int64_t e = 0; e < layout.head_dim; ++e) {
    args.state[e * layout.ring_padded + place] = rotated[e];
  }
  std::copy_n(args.v + row * args.in_stride, layout.head_dim,
              args.state + layout.values + place * layout.head_padded);
}

void Attend(const WindowArgs& args, int64_t count, const float* q, float* scores, float* out) {
  const WindowLayout& layout = *args.layout;
  int64_t i = 0;
  for (; i + 3 * kLanes < count; i += 4 * kLanes) {
    ScorePlaces<4>(layout, args.state + i, q, scores + i);
  }
  for (; i < count; i += kLanes) ScorePlaces<1>(layout, args.state + i, q, scores + i);
  const float total = ExpScores(count, scores);
  const float* values = args.state + layout.values;
  int64_t column = 0;
  for (; column + 2 * kLanes <= layout.head_padded; column += 2 * kLanes) {
    SumValues<2>(layout, scores, count, values + column, total, layout.head_dim - column,
                 out + column);
  }
  for (; column < layout.head_dim; column += kLanes) {
    SumValues<1>(layout, scores, count, values + column, total, layout.head_dim - column,
                 out + column);
  }
}

}  // namespace

void WindowMixForTarget(const WindowArgs& args) {
  const WindowLayout& layout = *args.layout;
  float* rotated = args.scratch;
  float* scores = args.scratch + RoundUp(layout.head_padded + 16, 16);
  const float scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(layout.head_dim)));
  for (int64_t row = 0; row < args.rows; ++row) {
    const int64_t position = args.position + row;
    WriteToken(args, row, position % layout.ring, rotated);
    Rotate(layout.head_dim, args.q + row * args.in_stride, args.cosine + row * args.angle_stride,
           args.sine + row * args.angle_stride, scale, rotated);
    Attend(args, std::min(position + 1, layout.ring), rotated, scores,
           args.out + row * args.out_stride);
  }
}

}  // namespace based::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace based {

HWY_EXPORT(WindowMixForTarget);

void WindowMix(const WindowArgs& args) { HWY_DYNAMIC_DISPATCH(WindowMixForTarget)(args); }

}  // namespace based
#endif  // HWY_ONCE
