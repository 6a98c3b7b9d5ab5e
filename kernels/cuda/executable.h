// The cuda backend's Executable: slots, the step loop of depth 2, graphs, images.
#ifndef BASED_KERNELS_CUDA_EXECUTABLE_H_
#define BASED_KERNELS_CUDA_EXECUTABLE_H_

#include <cuda_runtime_api.h>

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/cuda/compiled_program.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device_buffer.h"
#include "kernels/cuda/device_table.h"
#include "kernels/cuda/sample_staging.h"

namespace based::cuda {

class CudaExecutable : public Executable {
 public:
  // REQUIRES: CheckProgram is OK.
  static absl::StatusOr<std::unique_ptr<Executable>> Create(const Program& program,
                                                            const CompileOptions& compile,
                                                            const CudaBackendOptions& options);
  ~CudaExecutable() override;

  const ExecutableInfo& info() const override { return info_; }
  absl::Status CreateSlots(int32_t count) override;
  absl::Status Launch(const StepTable& table) override;
  absl::Status SupplyRules(absl::Span<const SampleRules* const> rules) override;
  absl::Status Collect(StepOutput& output) override;
  absl::Status ClearSlots(absl::Span<const int32_t> slots) override;
  absl::Status CopySlots(absl::Span<const SlotCopy> copies) override;
  absl::Status ExportSlot(int32_t slot, int64_t position, absl::Span<std::byte> image) override;
  absl::Status ImportSlot(int32_t slot, int64_t position,
                          absl::Span<const std::byte> image) override;

 private:
  // Host side of one step in flight. Two exist: a step's is free once it was collected.
  struct InFlight {
    PinnedBuffer table;
    PinnedBuffer results;  // [max_samples] SampleResult
    PinnedBuffer logits;   // grows to what was asked for
    SampleStaging sampling;
    Event done;
    int32_t samples = 0;
    int32_t padded_rows = 0;
    bool replayed = false;
    std::vector<uint8_t> drawn;           // per sample: a draw was asked for
    std::vector<int32_t> logits_samples;  // samples whose raw logits were asked for
  };

  CudaExecutable(const CompileOptions& compile, const CudaBackendOptions& options)
      : compile_(compile), options_(options) {}

  absl::Status Build(const Program& program);
  absl::Status MakeStaging();
  absl::Status LoadKernels();
  absl::Status CaptureGraphs();
  absl::Status Check(const StepTable& table) const;
  void NoteFolds(const StepTable& table);
  absl::Status PrepareLogits(const StepTable& table, InFlight& step);
  absl::Status Start(const StepTable& table, InFlight& step);
  absl::Status Enqueue(const TableShape& shape, InFlight& step);
  bool AwaitsRules() const;
  absl::Status GiveUp(absl::Status error);
  std::byte* SlotAddress(int32_t slot) const;

  const CompileOptions compile_;
  const CudaBackendOptions options_;
  ExecutableInfo info_;
  int64_t embed_rows_ = 0;
  int32_t spare_tokens_ = 0;
  Stream stream_;
  std::unique_ptr<CompiledProgram> program_;
  DeviceBuffer table_;
  DeviceBuffer results_;
  DeviceBuffer pool_;
  int32_t slots_ = 0;
  // Per slot: the position of the last step that folded; DeviceSpan::fold_position.
  std::vector<int64_t> fold_position_;
  std::vector<int32_t> buckets_;         // rows of decode-only graphs, ascending
  std::map<int32_t, GraphExec> graphs_;  // by bucket
  InFlight in_flight_[2];
  int64_t launched_ = 0;
  int64_t collected_ = 0;
  int32_t previous_samples_ = 0;
};

}  // namespace based::cuda

#endif  // BASED_KERNELS_CUDA_EXECUTABLE_H_
