// A step's table on the device: one contiguous block, uploaded in one copy, at addresses that
// depend only on how many rows, spans and samples it has room for. Graphs are captured over such a
// shape; what a step does not fill is padding.
#ifndef BASED_KERNELS_CUDA_DEVICE_TABLE_H_
#define BASED_KERNELS_CUDA_DEVICE_TABLE_H_

#include <cstddef>
#include <cstdint>

#include "kernels/backend.h"
#include "kernels/cuda/launch.h"

namespace based::cuda {

struct TableShape {
  int32_t rows = 0;
  int32_t decode_spans = 0;   // spans of length 1, which come first
  int32_t prefill_spans = 0;  // all others
  int32_t samples = 0;
  int32_t max_length = 1;  // of a span

  int32_t spans() const { return decode_spans + prefill_spans; }
};

// Pointers into a table block at `base`, on either side.
struct TableView {
  TableView(std::byte* base, const TableShape& shape);

  DeviceSample* samples;  // [samples]
  DeviceSpan* spans;      // [spans]
  int32_t* tokens;        // [rows]
  int32_t* sources;       // [rows]
  int32_t* row_span;      // [rows] index into spans, or -1 for padding
  int64_t bytes;
};

// The shape that holds `table` exactly.
TableShape ShapeOf(const StepTable& table);

// Writes `table` into the block at `base`, with padding up to `shape`. `fold_position` has one
// number for each slot. REQUIRES: shape holds the table.
void FillTable(const StepTable& table, const int64_t* fold_position, const TableShape& shape,
               std::byte* base);

}  // namespace based::cuda

#endif  // BASED_KERNELS_CUDA_DEVICE_TABLE_H_
