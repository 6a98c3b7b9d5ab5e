// Interprets a Program op by op. See reference_backend.h.
#ifndef BASED_KERNELS_REFERENCE_REFERENCE_EXECUTABLE_H_
#define BASED_KERNELS_REFERENCE_REFERENCE_EXECUTABLE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "kernels/backend.h"
#include "kernels/reference/matrix.h"

namespace based::reference {

class ReferenceExecutable : public Executable {
 public:
  // REQUIRES: CheckProgram(program) is OK.
  ReferenceExecutable(const Program& program, const CompileOptions& options);

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
  void DescribeState();
  absl::Status CheckSlot(int32_t slot, size_t image_bytes) const;

  void RunOp(size_t index, const EmbedOp& op, const StepTable& table);
  void RunOp(size_t index, const NormOp& op, const StepTable& table);
  void RunOp(size_t index, const LinearOp& op, const StepTable& table);
  void RunOp(size_t index, const ConvMixOp& op, const StepTable& table);
  void RunOp(size_t index, const TaylorMixOp& op, const StepTable& table);
  void RunOp(size_t index, const WindowMixOp& op, const StepTable& table);
  void RunOp(size_t index, const LogitsOp& op, const StepTable& table);

  // Calls token(row, position, state) for every row of the step; `state` is op `index`'s part of
  // the row's slot.
  template <typename Token>
  void ForEachToken(size_t index, const StepTable& table, Token token);

  std::vector<double> Logits(const LogitsOp& op, int32_t row) const;
  void Sample(const SampleRow& sample, const std::vector<double>& logits, StepOutput& output) const;

  int32_t rows() const { return static_cast<int32_t>(tokens_.size()); }
  const Matrix& weight(WeightId id) const { return weights_[static_cast<size_t>(id)]; }
  Matrix& buffer(BufferId id) { return buffers_[static_cast<size_t>(id)]; }
  const Matrix& buffer(BufferId id) const { return buffers_[static_cast<size_t>(id)]; }
  double* slot(int32_t index) { return slots_.get() + index * slot_values_; }

  const std::vector<Op> ops_;
  const CompileOptions options_;
  const int64_t embed_rows_;
  std::vector<Matrix> weights_;
  std::vector<Matrix> buffers_;        // [max_rows, width] each
  std::vector<int64_t> state_offset_;  // [ops]: where an op's state begins within a slot
  int64_t slot_values_ = 0;            // doubles of a slot
  int32_t slot_count_ = 0;
  std::unique_ptr<double[]> slots_;    // [slot_count, slot_values]
  std::vector<int32_t> tokens_;        // [T] of the running step, sources resolved
  std::vector<int32_t> previous_ids_;  // ids drawn by the step launched last
  std::deque<StepOutput> outputs_;     // launched and not yet collected, oldest first
  ExecutableInfo info_;
};

}  // namespace based::reference

#endif  // BASED_KERNELS_REFERENCE_REFERENCE_EXECUTABLE_H_
