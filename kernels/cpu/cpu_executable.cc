#include "kernels/cpu/cpu_executable.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/available_memory.h"
#include "kernels/base/check.h"
#include "kernels/base/status.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/program_check.h"
#include "kernels/step_check.h"

namespace based::cpu {
namespace {

constexpr int64_t kFloatBytes = sizeof(float);

}  // namespace

absl::StatusOr<std::unique_ptr<Executable>> CpuExecutable::Create(const Program& program,
                                                                  const CompileOptions& options,
                                                                  int32_t threads) {
  BASED_ASSIGN_OR_RETURN(CompiledProgram compiled, CompileProgram(program, options));
  BASED_ASSIGN_OR_RETURN(
      Memory scratch,
      Memory::Allocate("scratch of the threads", threads * compiled.scratch_floats * kFloatBytes));
  return std::unique_ptr<Executable>(
      new CpuExecutable(std::move(compiled), program, options, std::move(scratch), threads));
}

CpuExecutable::CpuExecutable(CompiledProgram compiled, const Program& program,
                             const CompileOptions& options, Memory scratch, int32_t threads)
    : compiled_(std::move(compiled)),
      options_(options),
      embed_rows_(EmbedRows(program)),
      scratch_(std::move(scratch)),
      pool_(threads) {
  info_.backend = "cpu";
  info_.device = absl::StrCat(threads, threads == 1 ? " thread, " : " threads, ", TargetInUse());
  info_.state_layout = compiled_.state_layout;
  info_.weight_bytes = compiled_.weights.bytes();
  info_.workspace_bytes = compiled_.workspace.bytes() + scratch_.bytes();
  info_.slot_bytes = compiled_.slot_floats * kFloatBytes;
  info_.image_bytes = info_.slot_bytes;
  info_.available_bytes = AvailableMemory();
  info_.sampling_rules = true;
  info_.top_logprobs = true;
  info_.vocab_size = FinalLogits(program).vocab_size;
  info_.padded_vocab_size = static_cast<int32_t>(compiled_.padded_vocab_size);
}

absl::Status CpuExecutable::CreateSlots(int32_t count) {
  BASED_CHECK(slot_count_ == 0 && count > 0);
  BASED_ASSIGN_OR_RETURN(slots_, Memory::Allocate("slots", count * info_.slot_bytes));
  slot_count_ = count;
  info_.available_bytes = AvailableMemory();
  return absl::OkStatus();
}

absl::Status CpuExecutable::Launch(const StepTable& table) {
  BASED_CHECK(!launched_);
  BASED_RETURN_IF_ERROR(
      CheckStepTable(table, {.options = options_,
                             .slots = slot_count_,
                             .embed_rows = embed_rows_,
                             .vocab_size = info_.vocab_size,
                             .previous_samples = static_cast<int32_t>(previous_ids_.size())}));
  ResolveRows(table);
  SizeOutput(table);
  for (const CompiledOp& op : compiled_.ops) {
    std::visit([&](const auto& step) { RunOp(step, table); }, op);
  }
  previous_ids_ = output_.ids;
  launched_ = true;
  return absl::OkStatus();
}

absl::Status CpuExecutable::Collect(StepOutput& output) {
  BASED_CHECK(launched_);
  launched_ = false;
  std::swap(output, output_);
  return absl::OkStatus();
}

absl::Status CpuExecutable::CheckSlot(int32_t slot, size_t image_bytes) const {
  if (slot < 0 || slot >= slot_count_) {
    return absl::InternalError(absl::StrCat("slot ", slot, " of ", slot_count_));
  }
  if (image_bytes != static_cast<size_t>(info_.image_bytes)) {
    return absl::InternalError(
        absl::StrCat("slot image of ", image_bytes, " bytes, expected ", info_.image_bytes));
  }
  return absl::OkStatus();
}

absl::Status CpuExecutable::ClearSlots(absl::Span<const int32_t> slots) {
  for (const int32_t index : slots) {
    BASED_RETURN_IF_ERROR(CheckSlot(index, static_cast<size_t>(info_.image_bytes)));
    std::fill_n(slot(index), compiled_.slot_floats, 0.0f);
  }
  return absl::OkStatus();
}

absl::Status CpuExecutable::CopySlots(absl::Span<const SlotCopy> copies) {
  for (const SlotCopy& copy : copies) {
    BASED_RETURN_IF_ERROR(CheckSlot(copy.from, static_cast<size_t>(info_.image_bytes)));
    BASED_RETURN_IF_ERROR(CheckSlot(copy.to, static_cast<size_t>(info_.image_bytes)));
    std::copy_n(slot(copy.from), compiled_.slot_floats, slot(copy.to));
  }
  return absl::OkStatus();
}

absl::Status CpuExecutable::ExportSlot(int32_t index, int64_t, absl::Span<std::byte> image) {
  BASED_RETURN_IF_ERROR(CheckSlot(index, image.size()));
  std::copy_n(slot_bytes(index), image.size(), image.data());
  return absl::OkStatus();
}

absl::Status CpuExecutable::ImportSlot(int32_t index, int64_t, absl::Span<const std::byte> image) {
  BASED_RETURN_IF_ERROR(CheckSlot(index, image.size()));
  std::copy_n(image.data(), image.size(), slot_bytes(index));
  return absl::OkStatus();
}

}  // namespace based::cpu
