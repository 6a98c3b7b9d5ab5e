// Weight matrices as the CPU kernels read them: outputs side by side in SIMD lanes.
//
// A matrix is cut into panels of 32 outputs; a panel is [inputs, 32] values of the weight's own
// type, one or two cache lines per input. bf16 values are ordered so that 32-bit word i of a line
// holds output i in its low half and output i + 16 in its high half: two vectors are widened by one
// shift and one mask. The order is the same for every instruction set.
#ifndef BASED_KERNELS_CPU_PACKED_MATRIX_H_
#define BASED_KERNELS_CPU_PACKED_MATRIX_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/program.h"

namespace based {

inline constexpr int64_t kPanel = 32;

struct PackedMatrix {
  DType dtype = DType::kF32;
  int64_t inputs = 0;
  int64_t outputs = 0;  // columns of the result; half the rows of the weights where gated
  // Panels alternate: 32 values, then the 32 gates that belong to them.
  bool gated = false;
  const std::byte* data = nullptr;  // [panels, inputs, 32]
  const float* bias = nullptr;      // [panels, 32], zero where there is none

  // Panels that one result panel of 32 columns needs.
  int64_t panels_per_unit() const { return gated ? 2 : 1; }
  int64_t units() const { return (outputs + kPanel - 1) / kPanel; }
  int64_t panels() const { return units() * panels_per_unit(); }
};

// Bytes that `matrix` needs for data and bias, each a multiple of the cache line.
int64_t PackedBytes(const PackedMatrix& matrix);

// The stacked rows of `weights` as one matrix. All have the same width and type, see CommonType.
PackedMatrix PlanPacking(const std::vector<const WeightView*>& weights, bool gated);

// Fills PackedBytes(matrix) zeroed bytes at `storage` and points `matrix` to them. `bias` may be
// null.
void Pack(const std::vector<const WeightView*>& weights, const WeightView* bias, std::byte* storage,
          PackedMatrix& matrix);

}  // namespace based

#endif  // BASED_KERNELS_CPU_PACKED_MATRIX_H_
