// CompiledProgram::Enqueue: what a step decides is filled into the launch parameters, and the
// kernel is chosen. Captured into graphs, so nothing here may depend on values of the table.
#include <algorithm>

#include "kernels/base/status.h"
#include "kernels/cuda/compiled_program.h"
#include "kernels/cuda/cuda_status.h"

namespace based::cuda {
namespace {

// The spans [first, first + count) of a mixer's launch.
template <typename Params>
Params WithSpans(Params params, const StepContext& step, int32_t first, int32_t count) {
  params.spans = step.table.spans + first;
  params.span_count = count;
  params.pool = step.pool;
  return params;
}

}  // namespace

absl::Status CompiledProgram::Enqueue(const StepContext& step, cudaStream_t stream) {
  for (const RopeStep& rope : ropes_) {
    RopeTableParams params = rope.params;
    params.spans = step.table.spans;
    params.row_span = step.table.row_span;
    params.rows = step.shape.rows;
    BASED_CUDA_RETURN_IF_ERROR(RopeTable(params, stream));
  }
  for (size_t i = 0; i < steps_.size(); ++i) {
    const auto* norm = std::get_if<NormStep>(&steps_[i]);
    if (norm != nullptr && norm->fusable) {
      const LinearStep& next = std::get<LinearStep>(steps_[i + 1]);
      if (UseGemv(next.gemv, next.gemv_fits, step.shape.rows)) continue;
    }
    BASED_RETURN_IF_ERROR(
        std::visit([&](const auto& typed) { return Run(typed, step, stream); }, steps_[i]));
  }
  return absl::OkStatus();
}

absl::Status CompiledProgram::Run(const EmbedParams& embed, const StepContext& step,
                                  cudaStream_t stream) {
  EmbedParams params = embed;
  params.tokens = step.table.tokens;
  params.sources = step.table.sources;
  params.previous = step.results;
  params.rows = step.shape.rows;
  BASED_CUDA_RETURN_IF_ERROR(Embed(params, stream));
  return absl::OkStatus();
}

bool CompiledProgram::UseGemv(const GemvParams& gemv, bool fits, int32_t rows) const {
  GemvParams params = gemv;
  params.rows = rows;
  return fits && !options_.batch_invariant && !options_.generic_only && GemvSupports(params);
}

absl::Status CompiledProgram::Run(const NormStep& norm, const StepContext& step,
                                  cudaStream_t stream) {
  NormParams params = norm.params;
  params.rows = step.shape.rows;
  BASED_CUDA_RETURN_IF_ERROR(Norm(params, stream));
  return absl::OkStatus();
}

absl::Status CompiledProgram::Run(const LinearStep& linear, const StepContext& step,
                                  cudaStream_t stream) {
  if (UseGemv(linear.gemv, linear.gemv_fits, step.shape.rows)) {
    GemvParams params = linear.gemv;
    params.rows = step.shape.rows;
    BASED_CUDA_RETURN_IF_ERROR(Gemv(params, stream));
    return absl::OkStatus();
  }
  GemmCall call = linear.call;
  call.rows = step.shape.rows;
  BASED_RETURN_IF_ERROR(gemm_->Run(linear.shape, call, stream));
  if (!linear.swiglu) return absl::OkStatus();
  SwiGluParams params = linear.swiglu_params;
  params.rows = step.shape.rows;
  BASED_CUDA_RETURN_IF_ERROR(SwiGlu(params, stream));
  return absl::OkStatus();
}

absl::Status CompiledProgram::Run(const ConvertParams& convert, const StepContext& step,
                                  cudaStream_t stream) {
  ConvertParams params = convert;
  params.count *= step.shape.rows;
  BASED_CUDA_RETURN_IF_ERROR(Convert(params, stream));
  return absl::OkStatus();
}

absl::Status CompiledProgram::Run(const ConvMixParams& conv, const StepContext& step,
                                  cudaStream_t stream) {
  ConvMixParams params = WithSpans(conv, step, 0, step.shape.spans());
  params.row_span = step.table.row_span;
  params.rows = step.shape.rows;
  params.decode_only = step.shape.prefill_spans == 0;
  BASED_CUDA_RETURN_IF_ERROR(ConvMix(params, stream));
  return absl::OkStatus();
}

absl::Status CompiledProgram::Run(const TaylorParams& taylor, const StepContext& step,
                                  cudaStream_t stream) {
  const TaylorParams decode = WithSpans(taylor, step, 0, step.shape.decode_spans);
  const TaylorParams prefill =
      WithSpans(taylor, step, step.shape.decode_spans, step.shape.prefill_spans);
  const bool fast = !options_.generic_only;
  BASED_CUDA_RETURN_IF_ERROR(fast && TaylorDecodeSupports(decode) ? TaylorDecode(decode, stream)
                                                                  : TaylorGeneric(decode, stream));
  BASED_CUDA_RETURN_IF_ERROR(fast && TaylorPrefillSupports(prefill)
                                 ? TaylorPrefill(prefill, stream)
                                 : TaylorGeneric(prefill, stream));
  return absl::OkStatus();
}

absl::Status CompiledProgram::Run(const WindowParams& window, const StepContext& step,
                                  cudaStream_t stream) {
  const WindowParams decode = WithSpans(window, step, 0, step.shape.decode_spans);
  const WindowParams prefill =
      WithSpans(window, step, step.shape.decode_spans, step.shape.prefill_spans);
  const bool fast = !options_.generic_only;
  BASED_CUDA_RETURN_IF_ERROR(fast && WindowDecodeSupports(decode) ? WindowDecode(decode, stream)
                                                                  : WindowGeneric(decode, stream));
  BASED_CUDA_RETURN_IF_ERROR(fast && WindowPrefillSupports(prefill)
                                 ? WindowPrefill(prefill, step.shape.max_length, stream)
                                 : WindowGeneric(prefill, stream));
  return absl::OkStatus();
}

absl::Status CompiledProgram::Run(const LogitsStep& logits, const StepContext& step,
                                  cudaStream_t stream) {
  for (int32_t first = 0; first < step.shape.samples; first += logits.slab_rows) {
    const int32_t count = std::min(logits.slab_rows, step.shape.samples - first);
    NormParams gather = logits.gather;
    gather.samples = step.table.samples + first;
    gather.rows = count;
    BASED_CUDA_RETURN_IF_ERROR(Norm(gather, stream));
    if (UseGemv(logits.gemv, logits.gemv_fits, count)) {
      GemvParams gemv = logits.gemv;
      gemv.rows = count;
      BASED_CUDA_RETURN_IF_ERROR(Gemv(gemv, stream));
    } else {
      GemmCall call = logits.call;
      call.rows = count;
      BASED_RETURN_IF_ERROR(gemm_->Run(logits.shape, call, stream));
    }
    BASED_RETURN_IF_ERROR(CopyLogits(logits, step, first, count, stream));  // Sample may spoil them
    SampleParamsDevice sample = logits.sample;
    sample.samples = step.table.samples + first;
    sample.results = step.results + first;
    sample.count = count;
    BASED_CUDA_RETURN_IF_ERROR(Sample(sample, stream));
  }
  return absl::OkStatus();
}

absl::Status CompiledProgram::CopyLogits(const LogitsStep& logits, const StepContext& step,
                                         int32_t first, int32_t count, cudaStream_t stream) {
  const std::vector<int32_t>& wanted = step.logits_samples;
  const auto begin = std::lower_bound(wanted.begin(), wanted.end(), first);
  const auto end = std::lower_bound(begin, wanted.end(), first + count);
  const int64_t width = logits.shape.n;
  for (auto run = begin; run != end;) {
    auto stop = run + 1;
    while (stop != end && *stop == *(stop - 1) + 1) ++stop;
    const size_t bytes = static_cast<size_t>((stop - run) * width) * sizeof(float);
    BASED_CUDA_RETURN_IF_ERROR(
        cudaMemcpyAsync(step.logits + (run - wanted.begin()) * width,
                        static_cast<const float*>(logits.call.out) + (*run - first) * width, bytes,
                        cudaMemcpyDeviceToHost, stream));
    run = stop;
  }
  return absl::OkStatus();
}

}  // namespace based::cuda
