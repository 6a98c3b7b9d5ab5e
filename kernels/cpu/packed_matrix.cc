#include "kernels/cpu/packed_matrix.h"

#include <algorithm>
#include <cstring>

#include "absl/types/span.h"
#include "kernels/cpu/memory.h"
#include "kernels/weights.h"

namespace based {
namespace {

constexpr int64_t kBlockInputs = 64;

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

// A row of a weight that goes into one panel.
struct PanelRow {
  const WeightView* weight;
  int64_t row;
  int64_t lane;
};

template <int64_t kValueBytes>
void Spread(const std::byte* from, int64_t count, std::byte* to) {
  for (int64_t k = 0; k < count; ++k) {
    std::memcpy(to + k * kPanel * kValueBytes, from + k * kValueBytes, kValueBytes);
  }
}

// Inputs `first` to `first + count` (at most kBlockInputs) of a row.
void PackBlock(const PanelRow& source, DType dtype, int64_t first, int64_t count,
               std::byte* panel) {
  const WeightView& weight = *source.weight;
  const int64_t value_bytes = DTypeBytes(dtype);
  const int64_t at = source.row * weight.cols + first;
  const auto* from = static_cast<const std::byte*>(weight.data) + at * value_bytes;
  float widened[kBlockInputs];
  if (weight.dtype != dtype) {
    WidenValues(weight, at, count, widened);
    from = static_cast<const std::byte*>(static_cast<const void*>(widened));
  }
  std::byte* to = panel + (first * kPanel + Place(dtype, source.lane)) * value_bytes;
  value_bytes == 2 ? Spread<2>(from, count, to) : Spread<4>(from, count, to);
}

// Block by block, so that what the rows interleave into stays in the first-level cache.
void PackPanel(absl::Span<const PanelRow> rows, DType dtype, int64_t inputs, std::byte* panel) {
  for (int64_t first = 0; first < inputs; first += kBlockInputs) {
    for (const PanelRow& row : rows) {
      PackBlock(row, dtype, first, std::min(kBlockInputs, inputs - first), panel);
    }
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
  std::vector<PanelRow> rows;  // of one panel
  int64_t row = 0;
  for (const WeightView* weight : weights) {
    for (int64_t i = 0; i < weight->rows; ++i, ++row) {
      const PanelLane at = Locate(matrix, row);
      if (bias != nullptr) WidenValues(*bias, row, 1, &biases[at.panel * kPanel + at.lane]);
      rows.push_back({.weight = weight, .row = i, .lane = at.lane});
      if (i + 1 < weight->rows && Locate(matrix, row + 1).panel == at.panel) continue;
      PackPanel(rows, matrix.dtype, matrix.inputs, storage + at.panel * panel_bytes);
      rows.clear();
    }
    ReleasePages(weight->data, weight->rows * weight->cols * DTypeBytes(weight->dtype));
  }
}

}  // namespace based
