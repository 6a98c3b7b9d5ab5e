#include "kernels/cpu/packed_matrix.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/memory.h"
#include "kernels/weights.h"

namespace based {
namespace {

// One type for the whole stack: its own where all agree, else fp32, which holds all three exactly.
DType CommonType(const std::vector<const WeightView*>& weights) {
  const DType first = weights.front()->dtype;
  const bool same = std::all_of(weights.begin(), weights.end(),
                                [first](const WeightView* w) { return w->dtype == first; });
  return same ? first : DType::kF32;
}

// Place of output `lane` of a panel among the 32 values of one input.
int64_t Place(DType dtype, int64_t lane) {
  if (dtype != DType::kBF16) return lane;
  return lane < kPanel / 2 ? 2 * lane : 2 * (lane - kPanel / 2) + 1;
}

// Panel and lane of row `row` of the stacked weights.
struct PanelLane {
  int64_t panel;
  int64_t lane;
};

PanelLane Locate(const PackedMatrix& matrix, int64_t row) {
  if (!matrix.gated) return {row / kPanel, row % kPanel};
  const bool gate = row >= matrix.outputs;
  const int64_t column = gate ? row - matrix.outputs : row;
  return {column / kPanel * 2 + (gate ? 1 : 0), column % kPanel};
}

int64_t DataBytes(const PackedMatrix& matrix) {
  return matrix.panels() * matrix.inputs * kPanel * DTypeBytes(matrix.dtype);
}

void PackRow(const WeightView& weight, int64_t row, DType dtype, std::byte* panel, int64_t lane,
             std::vector<float>& widened) {
  const int64_t value_bytes = DTypeBytes(dtype);
  const auto* source = static_cast<const std::byte*>(weight.data) + row * weight.cols * value_bytes;
  if (weight.dtype != dtype) {
    widened.resize(static_cast<size_t>(weight.cols));
    WidenValues(weight, row * weight.cols, weight.cols, widened.data());
    source = static_cast<const std::byte*>(static_cast<const void*>(widened.data()));
  }
  std::byte* to = panel + Place(dtype, lane) * value_bytes;
  for (int64_t k = 0; k < weight.cols; ++k) {
    std::memcpy(to + k * kPanel * value_bytes, source + k * value_bytes,
                static_cast<size_t>(value_bytes));
  }
}

}  // namespace

int64_t PackedBytes(const PackedMatrix& matrix) {
  return RoundUp(DataBytes(matrix), kCacheLine) +
         RoundUp(matrix.panels() * kPanel * static_cast<int64_t>(sizeof(float)), kCacheLine);
}

PackedMatrix PlanPacking(const std::vector<const WeightView*>& weights, bool gated) {
  PackedMatrix matrix;
  matrix.dtype = CommonType(weights);
  matrix.inputs = weights.front()->cols;
  for (const WeightView* weight : weights) matrix.outputs += weight->rows;
  matrix.gated = gated;
  if (gated) matrix.outputs /= 2;
  return matrix;
}

void Pack(const std::vector<const WeightView*>& weights, const WeightView* bias, std::byte* storage,
          PackedMatrix& matrix) {
  auto* biases =
      static_cast<float*>(static_cast<void*>(storage + RoundUp(DataBytes(matrix), kCacheLine)));
  matrix.data = storage;
  matrix.bias = biases;
  const int64_t panel_bytes = matrix.inputs * kPanel * DTypeBytes(matrix.dtype);
  std::vector<float> scratch;
  int64_t row = 0;
  for (const WeightView* weight : weights) {
    for (int64_t i = 0; i < weight->rows; ++i, ++row) {
      const PanelLane at = Locate(matrix, row);
      PackRow(*weight, i, matrix.dtype, storage + at.panel * panel_bytes, at.lane, scratch);
      if (bias != nullptr) WidenValues(*bias, row, 1, &biases[at.panel * kPanel + at.lane]);
    }
    ReleasePages(weight->data, weight->rows * weight->cols * DTypeBytes(weight->dtype));
  }
}

}  // namespace based
