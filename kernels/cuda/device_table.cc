#include "kernels/cuda/device_table.h"

#include <algorithm>

namespace based::cuda {
namespace {

DeviceSample ToDevice(const SampleRow& row) {
  DeviceSample sample = {};
  sample.position = row.params.position;
  sample.seed = row.params.seed;
  sample.temperature = row.params.temperature;
  sample.top_p = row.params.top_p;
  sample.min_p = row.params.min_p;
  sample.top_k = row.params.top_k;
  sample.row = row.row;
  sample.target = row.target;
  sample.sample = row.sample ? 1 : 0;
  sample.logprob = row.logprob ? 1 : 0;
  return sample;
}

}  // namespace

TableView::TableView(std::byte* base, const TableShape& shape) {
  samples = reinterpret_cast<DeviceSample*>(base);
  spans = reinterpret_cast<DeviceSpan*>(samples + shape.samples);
  tokens = reinterpret_cast<int32_t*>(spans + shape.spans());
  sources = tokens + shape.rows;
  row_span = sources + shape.rows;
  bytes = reinterpret_cast<std::byte*>(row_span + shape.rows) - base;
}

TableShape ShapeOf(const StepTable& table) {
  TableShape shape;
  shape.rows = static_cast<int32_t>(table.tokens.size());
  shape.samples = static_cast<int32_t>(table.samples.size());
  for (const Span& span : table.spans) {
    ++(span.length == 1 ? shape.decode_spans : shape.prefill_spans);
    shape.max_length = std::max(shape.max_length, span.length);
  }
  return shape;
}

void FillTable(const StepTable& table, const int64_t* fold_position, const TableShape& shape,
               std::byte* base) {
  const TableView view(base, shape);
  std::fill(view.samples, view.samples + shape.samples, DeviceSample{.row = -1});
  std::transform(table.samples.begin(), table.samples.end(), view.samples, ToDevice);

  std::fill(view.spans, view.spans + shape.spans(), DeviceSpan{.slot = -1});
  std::fill(view.row_span, view.row_span + shape.rows, -1);
  int32_t next_decode = 0;
  int32_t next_prefill = shape.decode_spans;
  for (const Span& span : table.spans) {
    const int32_t index = span.length == 1 ? next_decode++ : next_prefill++;
    view.spans[index] = {.slot = span.slot,
                         .row = span.row,
                         .length = span.length,
                         .reserved = 0,
                         .position = span.position,
                         .fold_position = fold_position[span.slot]};
    std::fill_n(view.row_span + span.row, span.length, index);
  }

  std::fill(view.tokens, view.tokens + shape.rows, 0);
  std::copy(table.tokens.begin(), table.tokens.end(), view.tokens);
  std::fill(view.sources, view.sources + shape.rows, 0);
  const size_t sources = std::min(table.sources.size(), table.tokens.size());
  std::copy_n(table.sources.begin(), sources, view.sources);
}

}  // namespace based::cuda
