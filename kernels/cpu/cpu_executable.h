// Runs a compiled program, op after op, each cut over the thread pool. See cpu_backend.h.
#ifndef BASED_KERNELS_CPU_CPU_EXECUTABLE_H_
#define BASED_KERNELS_CPU_CPU_EXECUTABLE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/compiled_program.h"
#include "kernels/cpu/memory.h"
#include "kernels/cpu/thread_pool.h"

namespace based::cpu {

class CpuExecutable : public Executable {
 public:
  // REQUIRES: CheckProgram(program) is OK.
  static absl::StatusOr<std::unique_ptr<Executable>> Create(const Program& program,
                                                            const CompileOptions& options,
                                                            int32_t threads);

  const ExecutableInfo& info() const override { return info_; }
  absl::Status CreateSlots(int32_t count) override;
  absl::Status Launch(const StepTable& table) override;
  absl::Status Collect(StepOutput& output) override;
  absl::Status ClearSlots(absl::Span<const int32_t> slots) override;
  absl::Status CopySlots(absl::Span<const SlotCopy> copies) override;
  absl::Status ExportSlot(int32_t slot, int64_t position, absl::Span<std::byte> image) override;
  absl::Status ImportSlot(int32_t slot, int64_t position,
                          absl::Span<const std::byte> image) override;

 private:
  CpuExecutable(CompiledProgram compiled, const Program& program, const CompileOptions& options,
                Memory scratch, int32_t threads);

  absl::Status CheckSlot(int32_t slot, size_t image_bytes) const;
  void ResolveRows(const StepTable& table);

  void RunOp(const EmbedStep& step, const StepTable& table);
  void RunOp(const NormStep& step, const StepTable& table);
  void RunOp(const LinearStep& step, const StepTable& table);
  void RunOp(const ConvStep& step, const StepTable& table);
  void RunOp(const TaylorStep& step, const StepTable& table);
  void RunOp(const WindowStep& step, const StepTable& table);
  void RunOp(const LogitsStep& step, const StepTable& table);

  void SizeOutput(const StepTable& table);
  void ComputeLogits(const LogitsStep& step, const StepTable& table, int64_t first, int64_t rows);
  void Sample(const SampleRow& sample, size_t index, const LogitsStep& step, const float* logits);

  int64_t rows() const { return static_cast<int64_t>(tokens_.size()); }
  float* slot(int32_t index) { return slots_.floats() + index * compiled_.slot_floats; }
  std::byte* slot_bytes(int32_t index) { return slots_.data() + index * info_.slot_bytes; }
  float* scratch(int32_t thread) { return scratch_.floats() + thread * compiled_.scratch_floats; }

  CompiledProgram compiled_;
  const CompileOptions options_;
  const int64_t embed_rows_;
  ExecutableInfo info_;
  Memory scratch_;  // [threads, scratch_floats], one for each part of a loop
  Memory slots_;    // [slot_count, slot_floats]
  int32_t slot_count_ = 0;

  std::vector<int32_t> tokens_;         // [T] of the running step, sources resolved
  std::vector<int64_t> positions_;      // [T] absolute
  std::vector<int32_t> previous_ids_;   // drawn by the step launched last
  std::vector<int64_t> logits_offset_;  // [samples] into output_.logits, -1 where not asked for
  std::vector<int64_t> top_offset_;     // [samples] into output_.top
  StepOutput output_;                   // of the step launched and not yet collected
  bool launched_ = false;
  ThreadPool pool_;
};

}  // namespace based::cpu

#endif  // BASED_KERNELS_CPU_CPU_EXECUTABLE_H_
