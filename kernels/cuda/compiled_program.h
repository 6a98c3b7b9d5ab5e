// A Program turned into launches: every op's parameters with device addresses filled in, all but
// what a step decides. Owns weights, activations and the layout of a slot.
#ifndef BASED_KERNELS_CUDA_COMPILED_PROGRAM_H_
#define BASED_KERNELS_CUDA_COMPILED_PROGRAM_H_

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device_buffer.h"
#include "kernels/cuda/device_table.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/weight_store.h"
#include "kernels/program.h"

namespace based::cuda {

// A [rows, width] buffer on the device.
struct Activation {
  void* data = nullptr;
  Type type = Type::kBF16;
  int32_t width = 0;
};

struct NormStep {
  NormParams params = {};
  // The next step is the only reader of the output and may normalise on the way in.
  bool fusable = false;
};

struct LinearStep {
  GemmShape shape;
  GemmCall call;
  GemvParams gemv = {};
  bool gemv_fits = false;  // types and epilogue suit Gemv
  bool swiglu = false;     // GEMM into a scratch buffer, then SwiGlu
  SwiGluParams swiglu_params = {};
};

struct RopeStep {
  RopeTableParams params = {};
  double base = 0;
};

struct LogitsStep {
  NormParams gather = {};
  GemmShape shape;
  GemmCall call;
  GemvParams gemv = {};
  bool gemv_fits = false;
  SampleParamsDevice sample = {};
  int32_t slab_rows = 0;  // samples whose logits are in memory at once
};

using ProgramStep = std::variant<EmbedParams, NormStep, LinearStep, ConvertParams, ConvMixParams,
                                 TaylorParams, WindowParams, LogitsStep>;

// What differs from step to step.
struct StepContext {
  TableView table;
  TableShape shape;
  SlotPool pool;
  SampleResult* results;
  // Samples whose raw logits go to the host, ascending, and where: [count, V].
  std::vector<int32_t> logits_samples;
  float* logits;
};

class CompiledProgram {
 public:
  // `program` is needed only during the call. Waits for the device.
  static absl::StatusOr<std::unique_ptr<CompiledProgram>> Create(
      const Program& program, const CompileOptions& compile, const CudaBackendOptions& options,
      const std::vector<int32_t>& prepared_rows, cudaStream_t stream);

  // Enqueues every op of one step.
  absl::Status Enqueue(const StepContext& step, cudaStream_t stream);

  Type act() const { return act_; }
  int64_t slot_bytes() const { return slot_bytes_; }
  const std::string& state_layout() const { return state_layout_; }
  int64_t weight_bytes() const { return weights_.bytes(); }
  int64_t workspace_bytes() const { return workspace_bytes_ + gemm_->workspace_bytes(); }
  int32_t vocab_size() const { return vocab_size_; }
  int32_t padded_vocab_size() const { return padded_vocab_size_; }

 private:
  CompiledProgram(const Program& program, const CompileOptions& compile,
                  const CudaBackendOptions& options, cudaStream_t stream)
      : program_(&program),
        compile_(compile),
        options_(options),
        stream_(stream),
        weights_(program, stream) {}

  absl::Status Build(const std::vector<int32_t>& prepared_rows);
  absl::StatusOr<Activation> NewActivation(int32_t width, Type type, int32_t rows);
  absl::StatusOr<void*> NewMemory(int64_t bytes, absl::string_view what);
  absl::StatusOr<Activation> InputOf(BufferId id);   // as act type, converted if need be
  absl::StatusOr<Activation> OutputOf(BufferId id);  // of act type; FinishOutput converts back
  // What a SwiGLU layer holds between its GEMM and the next op: one buffer for each width.
  absl::StatusOr<Activation> SwiGluScratch(int32_t width);
  void FinishOutput(BufferId id, const Activation& written);
  int64_t AddState(int64_t bytes);

  absl::Status Add(const EmbedOp& op);
  absl::Status Add(const NormOp& op);
  absl::Status Add(const LinearOp& op);
  absl::Status Add(const ConvMixOp& op);
  absl::Status Add(const TaylorMixOp& op);
  absl::Status Add(const WindowMixOp& op);
  absl::Status Add(const LogitsOp& op);
  absl::StatusOr<const float2*> RopeTableFor(const WindowMixOp& op);
  absl::Status PrepareGemms(const std::vector<int32_t>& rows);
  bool OnlyNextReads(size_t norm_op) const;

  absl::Status Run(const EmbedParams& params, const StepContext& step, cudaStream_t stream);
  absl::Status Run(const NormStep& norm, const StepContext& step, cudaStream_t stream);
  absl::Status Run(const LinearStep& linear, const StepContext& step, cudaStream_t stream);
  absl::Status Run(const ConvertParams& params, const StepContext& step, cudaStream_t stream);
  absl::Status Run(const ConvMixParams& params, const StepContext& step, cudaStream_t stream);
  absl::Status Run(const TaylorParams& params, const StepContext& step, cudaStream_t stream);
  absl::Status Run(const WindowParams& params, const StepContext& step, cudaStream_t stream);
  absl::Status Run(const LogitsStep& logits, const StepContext& step, cudaStream_t stream);
  absl::Status CopyLogits(const LogitsStep& logits, const StepContext& step, int32_t first,
                          int32_t count, cudaStream_t stream);
  bool UseGemv(const GemvParams& gemv, bool fits, int32_t rows) const;

  const Program* program_;  // valid during Create only
  const CompileOptions compile_;
  const CudaBackendOptions options_;
  cudaStream_t stream_;
  Type act_ = Type::kBF16;
  WeightStore weights_;
  std::unique_ptr<Gemm> gemm_;
  std::vector<Activation> buffers_;  // by BufferId
  std::vector<Activation> swiglu_scratch_;
  std::vector<DeviceBuffer> memory_;
  std::vector<ProgramStep> steps_;
  std::vector<RopeStep> ropes_;
  size_t op_index_ = 0;
  int32_t taylor_heads_ = 0;  // heads of the Taylor layers so far
  int64_t slot_bytes_ = 0;
  int64_t workspace_bytes_ = 0;
  std::string state_layout_;
  int32_t vocab_size_ = 0;
  int32_t padded_vocab_size_ = 0;
};

}  // namespace based::cuda

#endif  // BASED_KERNELS_CUDA_COMPILED_PROGRAM_H_
