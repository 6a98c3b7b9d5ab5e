#include "kernels/weights.h"

#include <cmath>
#include <cstddef>
#include <cstring>

#include "kernels/base/check.h"

namespace based {
namespace {

template <typename Stored, typename T, typename Widen>
void WidenAs(const std::byte* source, int64_t count, T* out, Widen widen) {
  for (int64_t i = 0; i < count; ++i) {
    Stored stored;
    std::memcpy(&stored, source + i * static_cast<int64_t>(sizeof(Stored)), sizeof(Stored));
    out[i] = static_cast<T>(widen(stored));
  }
}

}  // namespace

int64_t DTypeBytes(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

const char* DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "fp32";
    case DType::kF16:
      return "fp16";
    case DType::kBF16:
      return "bf16";
  }
  return "unknown dtype";
}

float HalfToFloat(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16;
  const uint32_t exponent = (bits >> 10) & 0x1Fu;
  const uint32_t fraction = bits & 0x3FFu;
  if (exponent == 0) {  // zero or subnormal: fraction * 2^-24
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  const uint32_t wide_exponent = exponent == 0x1F ? 0xFFu : exponent - 15 + 127;
  return std::bit_cast<float>(sign | (wide_exponent << 23) | (fraction << 13));
}

template <typename T>
void WidenValues(const WeightView& weight, int64_t first, int64_t count, T* out) {
  BASED_CHECK(first >= 0 && count >= 0 && first + count <= weight.rows * weight.cols);
  const std::byte* source =
      static_cast<const std::byte*>(weight.data) + first * DTypeBytes(weight.dtype);
  switch (weight.dtype) {
    case DType::kF32:
      return WidenAs<float>(source, count, out, [](float value) { return value; });
    case DType::kF16:
      return WidenAs<uint16_t>(source, count, out, HalfToFloat);
    case DType::kBF16:
      return WidenAs<uint16_t>(source, count, out, BFloat16ToFloat);
  }
}

template void WidenValues(const WeightView&, int64_t, int64_t, float*);
template void WidenValues(const WeightView&, int64_t, int64_t, double*);

}  // namespace based
