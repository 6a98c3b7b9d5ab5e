#include "kernels/cpu/taylor_mix.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/taylor_mix.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace based::HWY_NAMESPACE {
namespace {

constexpr int64_t kMaxGroup = kManyRegisters ? 4 : 2;  // rows that share one reading of S
constexpr int64_t kBlockVectors = kTaylorBlock / kLanes;
static_assert(kTaylorBlock % kLanes == 0);

// phi of one scaled row x [F], of which 16 floats beyond the end may be read. Order: 1, x_i, then
// for every i the products x_i x_j for j >= i, the square divided by sqrt(2). Writes
// features_padded floats, zeros after the last feature.
void Phi(const TaylorLayout& layout, const float* x, float* phi) {
  const FloatTag d;
  const int64_t width = layout.feature_dim;
  phi[0] = 1.0f;
  int64_t at = 1;
  for (int64_t i = -1; i < width; ++i) {
    const int64_t first = std::max<int64_t>(i, 0);
    const FloatVec factor = hn::Set(d, i < 0 ? 1.0f : x[first]);
    for (int64_t j = first; j < width; j += kLanes) {
      StoreFirst(hn::Mul(factor, hn::LoadU(d, x + j)), phi + at + j - first,
                 layout.features_padded - at - j + first);
    }
    if (i >= 0) phi[at] *= 0.70710678118654752f;
    at += width - first;
  }
  std::fill(phi + at, phi + layout.features_padded, 0.0f);
}

// to[i] = from[i] * F^(-1/4), and 16 zeros after.
void ScaleRow(const TaylorLayout& layout, const float* from, float* to) {
  for (int64_t i = 0; i < layout.feature_dim; ++i) to[i] = from[i] * layout.scale;
  std::fill(to + layout.feature_dim, to + layout.feature_dim + 16, 0.0f);
}

// sums[r] = phi[r] . S for kRows rows, even features and odd ones in a chain of their own.
template <int kRows, int kVectors>
HWY_INLINE void ReadStateColumns(const TaylorLayout& layout, const float* state, const float* phi,
                                 int64_t column, float* sums) {
  const FloatTag d;
  FloatVec even[kRows][kVectors];
  FloatVec odd[kRows][kVectors];
  HWY_UNROLL(4)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(2)
    for (int v = 0; v < kVectors; ++v) even[r][v] = odd[r][v] = hn::Zero(d);
  }
  const float* row = state + column;
  for (int64_t p = 0; p < layout.features; p += 2, row += 2 * layout.head_padded) {
    HWY_UNROLL(4)
    for (int r = 0; r < kRows; ++r) {
      const FloatVec phi0 = hn::Set(d, phi[r * layout.features_padded + p]);
      const FloatVec phi1 = hn::Set(d, phi[r * layout.features_padded + p + 1]);
      HWY_UNROLL(2)
      for (int v = 0; v < kVectors; ++v) {
        even[r][v] = hn::MulAdd(phi0, hn::Load(d, row + v * kLanes), even[r][v]);
        odd[r][v] = hn::MulAdd(phi1, hn::Load(d, row + layout.head_padded + v * kLanes), odd[r][v]);
      }
    }
  }
  HWY_UNROLL(4)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(2)
    for (int v = 0; v < kVectors; ++v) {
      hn::Store(hn::Add(even[r][v], odd[r][v]), d,
                sums + r * layout.head_padded + column + v * kLanes);
    }
  }
}

template <int kRows>
void ReadStateRows(const TaylorLayout& layout, const float* state, const float* phi, float* sums) {
  int64_t column = 0;
  for (; column + 2 * kLanes <= layout.head_padded; column += 2 * kLanes) {
    ReadStateColumns<kRows, 2>(layout, state, phi, column, sums);
  }
  for (; column < layout.head_padded; column += kLanes) {
    ReadStateColumns<kRows, 1>(layout, state, phi, column, sums);
  }
}

void ReadState(const TaylorLayout& layout, const float* state, const float* phi, int64_t rows,
               float* sums) {
  int64_t r = 0;
  for (; r + kMaxGroup <= rows; r += kMaxGroup) {
    ReadStateRows<kMaxGroup>(layout, state, phi + r * layout.features_padded,
                             sums + r * layout.head_padded);
  }
  for (; r < rows; ++r) {
    ReadStateRows<1>(layout, state, phi + r * layout.features_padded,
                     sums + r * layout.head_padded);
  }
}

// phi . z without the constant feature.
float ReadNormaliser(const TaylorLayout& layout, const float* state, const float* phi) {
  const FloatTag d;
  FloatVec sum = hn::Zero(d);
  for (int64_t p = 0; p < layout.features_padded; p += kLanes) {
    sum = hn::MulAdd(hn::Load(d, phi + p), hn::Load(d, state + layout.z + p), sum);
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

// p(q, k_u) = 1 + s + s^2 / 2 for the block's rows; those not yet written give any value.
void BlockWeights(const TaylorLayout& layout, const float* state, const float* q, float* weights) {
  const FloatTag d;
  FloatVec s[kBlockVectors];
  for (FloatVec& vector : s) vector = hn::Zero(d);
  const float* keys = state + layout.keys;
  for (int64_t i = 0; i < layout.feature_dim; ++i) {
    const FloatVec x = hn::Set(d, q[i]);
    for (int64_t v = 0; v < kBlockVectors; ++v) {
      s[v] = hn::MulAdd(x, hn::Load(d, keys + i * kTaylorBlock + v * kLanes), s[v]);
    }
  }
  for (int64_t v = 0; v < kBlockVectors; ++v) {
    const FloatVec half = hn::Mul(s[v], hn::Set(d, 0.5f));
    const FloatVec one = hn::Set(d, 1.0f);
    hn::Store(hn::Add(one, hn::MulAdd(half, s[v], s[v])), d, weights + v * kLanes);
  }
}

// out = (sums + sum over the block's first `keys` rows of p v) / normaliser.
void WriteOutput(const TaylorArgs& args, const float* sums, const float* weights, int64_t keys,
                 float before, float* out) {
  const FloatTag d;
  const TaylorLayout& layout = *args.layout;
  float normaliser = 0;
  for (int64_t u = 0; u < keys; ++u) normaliser += weights[u];
  normaliser += before + static_cast<float>(args.eps);
  const FloatVec divisor = hn::Set(d, normaliser);
  for (int64_t column = 0; column < layout.head_dim; column += kLanes) {
    FloatVec block = hn::Zero(d);
    const float* values = args.state + layout.values + column;
    for (int64_t u = 0; u < keys; ++u) {
      block =
          hn::MulAdd(hn::Set(d, weights[u]), hn::Load(d, values + u * layout.head_padded), block);
    }
    const FloatVec sum = hn::Add(hn::Load(d, sums + column), block);
    StoreFirst(hn::Div(sum, divisor), out + column, layout.head_dim - column);
  }
}

// Four feature rows of S, kVectors vectors of columns: the block's sum, added once.
template <int kVectors>
HWY_INLINE void FoldTile(const TaylorLayout& layout, const float* phi, const float* values,
                         float* rows) {
  const FloatTag d;
  FloatVec sum[4][kVectors];
  HWY_UNROLL(4)
  for (int p = 0; p < 4; ++p) {
    HWY_UNROLL(2)
    for (int v = 0; v < kVectors; ++v) sum[p][v] = hn::Zero(d);
  }
  for (int64_t u = 0; u < kTaylorBlock; ++u) {
    HWY_UNROLL(4)
    for (int p = 0; p < 4; ++p) {
      const FloatVec feature = hn::Set(d, phi[u * layout.features_padded + p]);
      HWY_UNROLL(2)
      for (int v = 0; v < kVectors; ++v) {
        const FloatVec value = hn::Load(d, values + u * layout.head_padded + v * kLanes);
        sum[p][v] = hn::MulAdd(feature, value, sum[p][v]);
      }
    }
  }
  HWY_UNROLL(4)
  for (int p = 0; p < 4; ++p) {
    HWY_UNROLL(2)
    for (int v = 0; v < kVectors; ++v) {
      float* at = rows + p * layout.head_padded + v * kLanes;
      hn::Store(hn::Add(hn::Load(d, at), sum[p][v]), d, at);
    }
  }
}

// Adds the finished block to S and z. `phi` holds kTaylorBlock rows.
void Fold(const TaylorArgs& args, float* row, float* phi) {
  const FloatTag d;
  const TaylorLayout& layout = *args.layout;
  std::fill(row, row + layout.feature_dim + 16, 0.0f);
  for (int64_t u = 0; u < kTaylorBlock; ++u) {
    for (int64_t i = 0; i < layout.feature_dim; ++i) {
      row[i] = args.state[layout.keys + i * kTaylorBlock + u];
    }
    Phi(layout, row, phi + u * layout.features_padded);
  }
  const float* values = args.state + layout.values;
  for (int64_t p = 0; p < layout.features; p += 4) {
    float* rows = args.state + p * layout.head_padded;
    int64_t column = 0;
    for (; column + 2 * kLanes <= layout.head_padded; column += 2 * kLanes) {
      FoldTile<2>(layout, phi + p, values + column, rows + column);
    }
    for (; column < layout.head_padded; column += kLanes) {
      FoldTile<1>(layout, phi + p, values + column, rows + column);
    }
  }
  float* z = args.state + layout.z;
  for (int64_t p = 0; p < layout.features_padded; p += kLanes) {
    FloatVec sum = hn::Zero(d);
    for (int64_t u = 0; u < kTaylorBlock; ++u) {
      sum = hn::Add(sum, hn::Load(d, phi + u * layout.features_padded + p));
    }
    hn::Store(hn::Add(hn::Load(d, z + p), sum), d, z + p);
  }
  z[0] = 0;
}

// Rows [first, first + rows) of the call, all in one block, the first at place `place` of it.
void MixBlock(const TaylorArgs& args, int64_t first, int64_t rows, int64_t place) {
  const TaylorLayout& layout = *args.layout;
  const int64_t q_stride = RoundUp(layout.feature_dim, 16) + 16;
  float* phi = args.scratch;
  float* q = phi + kTaylorBlock * layout.features_padded;
  float* sums = q + kTaylorBlock * q_stride;
  HWY_ALIGN float weights[kTaylorBlock];
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t row = first + r;
    ScaleRow(layout, args.k + row * args.in_stride, q);
    for (int64_t i = 0; i < layout.feature_dim; ++i) {
      args.state[layout.keys + i * kTaylorBlock + place + r] = q[i];
    }
    std::copy_n(args.v + row * args.in_stride, layout.head_dim,
                args.state + layout.values + (place + r) * layout.head_padded);
  }
  for (int64_t r = 0; r < rows; ++r) {
    ScaleRow(layout, args.q + (first + r) * args.in_stride, q + r * q_stride);
    Phi(layout, q + r * q_stride, phi + r * layout.features_padded);
  }
  ReadState(layout, args.state, phi, rows, sums);
  const auto count = static_cast<float>(args.position + first - place);
  for (int64_t r = 0; r < rows; ++r) {
    BlockWeights(layout, args.state, q + r * q_stride, weights);
    const float before =
        count + ReadNormaliser(layout, args.state, phi + r * layout.features_padded);
    WriteOutput(args, sums + r * layout.head_padded, weights, place + r + 1, before,
                args.out + (first + r) * args.out_stride);
  }
  if (place + rows == kTaylorBlock) Fold(args, q, phi);
}

}  // namespace

void TaylorMixForTarget(const TaylorArgs& args) {
  for (int64_t row = 0; row < args.rows;) {
    const int64_t place = (args.position + row) % kTaylorBlock;
    const int64_t rows = std::min(kTaylorBlock - place, args.rows - row);
    MixBlock(args, row, rows, place);
    row += rows;
  }
}

}  // namespace based::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace based {

HWY_EXPORT(TaylorMixForTarget);

void TaylorMix(const TaylorArgs& args) { HWY_DYNAMIC_DISPATCH(TaylorMixForTarget)(args); }

}  // namespace based
#endif  // HWY_ONCE
