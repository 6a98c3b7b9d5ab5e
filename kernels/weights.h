// Reading WeightViews: fp32, fp16 and bf16 values widened to float (exact) or double (exact).
#ifndef BASED_KERNELS_WEIGHTS_H_
#define BASED_KERNELS_WEIGHTS_H_

#include <bit>
#include <cstdint>
#include <vector>

#include "kernels/program.h"

namespace based {

int64_t DTypeBytes(DType dtype);     // bytes of one value
const char* DTypeName(DType dtype);  // "fp32", "fp16" or "bf16"

inline float BFloat16ToFloat(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }
float HalfToFloat(uint16_t bits);  // IEEE 754 binary16, subnormals, infinities and NaN included

// Widens `count` values that follow element `first` of the row-major weight. T is float or double.
// `weight.data` need not be aligned to its type. REQUIRES: 0 <= first, first + count <= rows *
// cols.
template <typename T>
void WidenValues(const WeightView& weight, int64_t first, int64_t count, T* out);

// The whole weight, row-major.
template <typename T>
std::vector<T> WidenWeight(const WeightView& weight) {
  std::vector<T> values(static_cast<size_t>(weight.rows * weight.cols));
  WidenValues(weight, 0, weight.rows * weight.cols, values.data());
  return values;
}

}  // namespace based

#endif  // BASED_KERNELS_WEIGHTS_H_
