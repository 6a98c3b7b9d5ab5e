// Pieces that the CPU kernels share, compiled once per target.
#if defined(BASED_KERNELS_CPU_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BASED_KERNELS_CPU_SIMD_INL_H_
#undef BASED_KERNELS_CPU_SIMD_INL_H_
#else
#define BASED_KERNELS_CPU_SIMD_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace based::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// At most 16 lanes, so that a packed panel is a whole number of vector pairs on every target.
using FloatTag = hn::CappedTag<float, 16>;
using FloatVec = hn::Vec<FloatTag>;

inline constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(FloatTag()));
inline constexpr bool kManyRegisters = HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64;

HWY_INLINE hn::Mask<FloatTag> FirstMask(int64_t count) {
  return hn::FirstN(FloatTag(), static_cast<size_t>(count));
}

// min(count, kLanes) values, zeros after.
HWY_INLINE FloatVec LoadFirst(const float* from, int64_t count) {
  const FloatTag d;
  if (count >= kLanes) return hn::LoadU(d, from);
  if constexpr (HWY_TARGET <= HWY_AVX2) return hn::MaskedLoad(FirstMask(count), d, from);
  // Without masked loads highway reads a whole vector, which must be aligned and readable.
  HWY_ALIGN float lanes[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) lanes[i] = from[i];
  return hn::Load(d, lanes);
}

HWY_INLINE void StoreFirst(FloatVec v, float* to, int64_t count) {
  const FloatTag d;
  if (count >= kLanes) {
    hn::StoreU(v, d, to);
  } else {
    hn::BlendedStore(v, FirstMask(count), d, to);
  }
}

// u / (1 + exp(-u)); -0 for u below -100, NaN for NaN.
HWY_INLINE FloatVec Silu(FloatVec u) {
  const FloatTag d;
  // exp of highway is valid up to 104; 100 already gives infinity.
  const FloatVec e = hn::Exp(d, hn::Min(hn::Neg(u), hn::Set(d, 100.0f)));
  return hn::Div(u, hn::Add(hn::Set(d, 1.0f), e));
}

}  // namespace based::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // BASED_KERNELS_CPU_SIMD_INL_H_
