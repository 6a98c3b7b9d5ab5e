#include "kernels/reference/reference_executable.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <new>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/available_memory.h"
#include "kernels/base/check.h"
#include "kernels/base/status.h"
#include "kernels/program_check.h"
#include "kernels/reference/mixers.h"
#include "kernels/reference/ops.h"
#include "kernels/sampling.h"
#include "kernels/step_check.h"
#include "kernels/weights.h"

namespace based::reference {
namespace {

// One word of the layout string and the doubles of state, for the ops that have state.
struct StateShape {
  std::string name;
  int64_t values = 0;
};

StateShape StateOf(const Op& op) {
  if (const auto* conv = std::get_if<ConvMixOp>(&op)) {
    return {absl::StrCat("conv", conv->kernel - 1, "x", conv->channels), StateSize(*conv)};
  }
  if (const auto* taylor = std::get_if<TaylorMixOp>(&op)) {
    return {absl::StrCat("taylor", taylor->heads, "x", taylor->feature_dim, "x", taylor->head_dim),
            StateSize(*taylor)};
  }
  if (const auto* window = std::get_if<WindowMixOp>(&op)) {
    return {absl::StrCat("window", window->window_left, "x", window->heads, "x", window->head_dim),
            StateSize(*window)};
  }
  return {};
}

}  // namespace

ReferenceExecutable::ReferenceExecutable(const Program& program, const CompileOptions& options)
    : ops_(program.ops), options_(options), embed_rows_(EmbedRows(program)) {
  for (const WeightView& view : program.weights) {
    weights_.push_back({view.rows, view.cols, WidenWeight<double>(view)});
  }
  for (const BufferSpec& spec : program.buffers) {
    const size_t values = static_cast<size_t>(options.max_rows) * static_cast<size_t>(spec.width);
    buffers_.push_back({options.max_rows, spec.width, std::vector<double>(values)});
  }
  const LogitsOp& logits = FinalLogits(program);
  info_.backend = "reference";
  info_.device = "1 thread, fp64";
  info_.sampling_rules = true;
  info_.top_logprobs = true;
  info_.vocab_size = logits.vocab_size;
  info_.padded_vocab_size = static_cast<int32_t>(weight(logits.table).rows);
  DescribeState();
  for (const Matrix& matrix : weights_) info_.weight_bytes += matrix.bytes();
  for (const Matrix& matrix : buffers_) info_.workspace_bytes += matrix.bytes();
  info_.available_bytes = AvailableMemory();
}

void ReferenceExecutable::DescribeState() {
  info_.state_layout = "reference-fp64-1";
  for (const Op& op : ops_) {
    const StateShape shape = StateOf(op);
    state_offset_.push_back(slot_values_);
    slot_values_ += shape.values;
    if (!shape.name.empty()) absl::StrAppend(&info_.state_layout, ";", shape.name);
  }
  info_.slot_bytes = slot_values_ * static_cast<int64_t>(sizeof(double));
  info_.image_bytes = info_.slot_bytes;
}

absl::Status ReferenceExecutable::CreateSlots(int32_t count) {
  BASED_CHECK(slots_ == nullptr && count > 0);
  // Memory is handed out before it exists, so the allocation alone would not fail in time.
  const double wanted = static_cast<double>(count) * static_cast<double>(info_.slot_bytes);
  const int64_t available = AvailableMemory();
  if (available == 0 || wanted <= static_cast<double>(available)) {
    slots_.reset(new (std::nothrow) double[static_cast<size_t>(count * slot_values_)]());
  }
  if (slots_ == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat(count, " slots of ", info_.slot_bytes,
                                                     " bytes do not fit in the ", available,
                                                     " bytes free"));
  }
  slot_count_ = count;
  info_.available_bytes = AvailableMemory();
  return absl::OkStatus();
}

absl::Status ReferenceExecutable::Launch(const StepTable& table) {
  BASED_CHECK(outputs_.size() < static_cast<size_t>(info_.pipeline_depth));
  BASED_RETURN_IF_ERROR(
      CheckStepTable(table, {.options = options_,
                             .slots = slot_count_,
                             .embed_rows = embed_rows_,
                             .vocab_size = info_.vocab_size,
                             .previous_samples = static_cast<int32_t>(previous_ids_.size())}));
  tokens_ = table.tokens;
  for (size_t t = 0; t < tokens_.size(); ++t) {
    // A step without a draw (NaN logits) leaves no id; its sequence is given up, so any id will do.
    if (tokens_[t] == kTokenFromPrevious) {
      tokens_[t] = std::max(0, previous_ids_[static_cast<size_t>(table.sources[t])]);
    }
  }
  outputs_.emplace_back();
  for (size_t i = 0; i < ops_.size(); ++i) {
    std::visit([&](const auto& op) { RunOp(i, op, table); }, ops_[i]);
  }
  previous_ids_ = outputs_.back().ids;
  return absl::OkStatus();
}

absl::Status ReferenceExecutable::Collect(StepOutput& output) {
  BASED_CHECK(!outputs_.empty());
  output = std::move(outputs_.front());
  outputs_.pop_front();
  return absl::OkStatus();
}

void ReferenceExecutable::RunOp(size_t, const EmbedOp& op, const StepTable&) {
  for (int32_t t = 0; t < rows(); ++t) {
    const double* row = weight(op.table).row(tokens_[static_cast<size_t>(t)]);
    std::copy_n(row, buffer(op.out).cols, buffer(op.out).row(t));
  }
}

void ReferenceExecutable::RunOp(size_t, const NormOp& op, const StepTable&) {
  for (int32_t t = 0; t < rows(); ++t) {
    Norm(weight(op.weight), op.eps, buffer(op.in).row(t), buffer(op.out).row(t));
  }
}

void ReferenceExecutable::RunOp(size_t, const LinearOp& op, const StepTable&) {
  std::vector<const Matrix*> stack;
  int64_t stacked_rows = 0;
  for (const WeightId id : op.weights) {
    stack.push_back(&weight(id));
    stacked_rows += weight(id).rows;
  }
  const Matrix* bias = op.bias == kNone ? nullptr : &weight(op.bias);
  std::vector<double> y(static_cast<size_t>(stacked_rows));
  for (int32_t t = 0; t < rows(); ++t) {
    MultiplyStacked(stack, bias, buffer(op.in).row(t), y.data());
    ApplyEpilogue(op.epilogue, y, buffer(op.out).row(t));
  }
}

template <typename Token>
void ReferenceExecutable::ForEachToken(size_t index, const StepTable& table, Token token) {
  for (const Span& span : table.spans) {
    double* state = slot(span.slot) + state_offset_[index];
    for (int32_t i = 0; i < span.length; ++i) token(span.row + i, span.position + i, state);
  }
}

void ReferenceExecutable::RunOp(size_t index, const ConvMixOp& op, const StepTable& table) {
  ForEachToken(index, table, [&](int32_t row, int64_t, double* state) {
    ConvMixToken(op, weight(op.taps), buffer(op.in).row(row), state, buffer(op.out).row(row));
  });
}

void ReferenceExecutable::RunOp(size_t index, const TaylorMixOp& op, const StepTable& table) {
  ForEachToken(index, table, [&](int32_t row, int64_t position, double* state) {
    TaylorMixToken(op, position, buffer(op.in).row(row), state, buffer(op.out).row(row));
  });
}

void ReferenceExecutable::RunOp(size_t index, const WindowMixOp& op, const StepTable& table) {
  ForEachToken(index, table, [&](int32_t row, int64_t position, double* state) {
    WindowMixToken(op, position, buffer(op.in).row(row), state, buffer(op.out).row(row));
  });
}

void ReferenceExecutable::RunOp(size_t, const LogitsOp& op, const StepTable& table) {
  for (const SampleRow& sample : table.samples) {
    Sample(sample, Logits(op, sample.row), outputs_.back());
  }
}

std::vector<double> ReferenceExecutable::Logits(const LogitsOp& op, int32_t row) const {
  const double* x = buffer(op.in).row(row);
  std::vector<double> normed(x, x + buffer(op.in).cols);
  if (op.norm_weight != kNone) Norm(weight(op.norm_weight), op.eps, x, normed.data());
  const Matrix& table = weight(op.table);
  std::vector<double> logits(static_cast<size_t>(table.rows));
  MultiplyStacked({&table}, nullptr, normed.data(), logits.data());
  return logits;
}

void ReferenceExecutable::Sample(const SampleRow& sample, const std::vector<double>& logits,
                                 StepOutput& output) const {
  const auto valid = absl::MakeConstSpan(logits).first(static_cast<size_t>(info_.vocab_size));
  const bool finite =
      std::all_of(valid.begin(), valid.end(), [](double l) { return std::isfinite(l); });
  const int32_t id =
      sample.sample && finite ? SampleFromLogits(valid, sample.params, sample.rules) : kNone;
  const int32_t target = sample.target == kNone ? id : sample.target;
  output.ids.push_back(id);
  output.finite.push_back(finite ? 1 : 0);
  const bool scored = sample.logprob && finite && target != kNone;
  output.logprobs.push_back(scored ? LogProbability(valid, target) : 0);
  const auto top = static_cast<size_t>(std::min(sample.top_logprobs, info_.vocab_size));
  if (finite && top > 0) {
    TopScores(valid, sample.top_logprobs, output.top);
  } else {
    output.top.insert(output.top.end(), top, TokenScore());
  }
  if (sample.logits) output.logits.insert(output.logits.end(), logits.begin(), logits.end());
}

absl::Status ReferenceExecutable::CheckSlot(int32_t slot, size_t image_bytes) const {
  if (slot < 0 || slot >= slot_count_) {
    return absl::InternalError(absl::StrCat("slot ", slot, " of ", slot_count_));
  }
  if (image_bytes != static_cast<size_t>(info_.image_bytes)) {
    return absl::InternalError(
        absl::StrCat("slot image of ", image_bytes, " bytes, expected ", info_.image_bytes));
  }
  return absl::OkStatus();
}

absl::Status ReferenceExecutable::ClearSlots(absl::Span<const int32_t> slots) {
  for (const int32_t index : slots) {
    BASED_RETURN_IF_ERROR(CheckSlot(index, static_cast<size_t>(info_.image_bytes)));
    std::fill_n(slot(index), slot_values_, 0.0);
  }
  return absl::OkStatus();
}

absl::Status ReferenceExecutable::CopySlots(absl::Span<const SlotCopy> copies) {
  for (const SlotCopy& copy : copies) {
    BASED_RETURN_IF_ERROR(CheckSlot(copy.from, static_cast<size_t>(info_.image_bytes)));
    BASED_RETURN_IF_ERROR(CheckSlot(copy.to, static_cast<size_t>(info_.image_bytes)));
    std::copy_n(slot(copy.from), slot_values_, slot(copy.to));
  }
  return absl::OkStatus();
}

absl::Status ReferenceExecutable::ExportSlot(int32_t index, int64_t, absl::Span<std::byte> image) {
  BASED_RETURN_IF_ERROR(CheckSlot(index, image.size()));
  std::copy_n(reinterpret_cast<const std::byte*>(slot(index)), image.size(), image.begin());
  return absl::OkStatus();
}

absl::Status ReferenceExecutable::ImportSlot(int32_t index, int64_t,
                                             absl::Span<const std::byte> image) {
  BASED_RETURN_IF_ERROR(CheckSlot(index, image.size()));
  std::copy(image.begin(), image.end(), reinterpret_cast<std::byte*>(slot(index)));
  return absl::OkStatus();
}

}  // namespace based::reference
