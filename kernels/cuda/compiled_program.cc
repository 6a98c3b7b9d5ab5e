#include "kernels/cuda/compiled_program.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/program_check.h"
#include "kernels/rope_phase.h"

namespace based::cuda {
namespace {

constexpr int32_t kSlabRows = 1024;  // bounds the memory of logits
constexpr int64_t kStateAlignment = 256;
constexpr int32_t kMostSharedBytes = 96 * 1024;  // every device of compute capability 8.0 and up

int64_t TypeBytes(Type type) { return type == Type::kF32 ? 4 : 2; }

int32_t FeatureCount(int32_t feature_dim) {
  return 1 + feature_dim + feature_dim * (feature_dim + 1) / 2;
}

// fp32 when a matrix that rows are multiplied with is.
Type ActType(const Program& program, CudaPrecision precision) {
  if (precision == CudaPrecision::kF32) return Type::kF32;
  if (precision == CudaPrecision::kBF16) return Type::kBF16;
  std::vector<WeightId> matrices;
  for (const Op& op : program.ops) {
    if (const auto* embed = std::get_if<EmbedOp>(&op)) matrices.push_back(embed->table);
    if (const auto* logits = std::get_if<LogitsOp>(&op)) matrices.push_back(logits->table);
    if (const auto* linear = std::get_if<LinearOp>(&op)) {
      matrices.insert(matrices.end(), linear->weights.begin(), linear->weights.end());
    }
  }
  const bool fp32 = std::any_of(matrices.begin(), matrices.end(), [&](WeightId id) {
    return program.weights[static_cast<size_t>(id)].dtype == DType::kF32;
  });
  return fp32 ? Type::kF32 : Type::kBF16;
}

// The buffers an op reads.
std::vector<BufferId> ReadsOf(const Op& op) {
  return std::visit(
      [](const auto& typed) -> std::vector<BufferId> {
        using T = std::decay_t<decltype(typed)>;
        if constexpr (std::is_same_v<T, EmbedOp>) {
          return {};
        } else if constexpr (std::is_same_v<T, LinearOp>) {
          if (typed.epilogue == Epilogue::kAdd) return {typed.in, typed.out};
          return {typed.in};
        } else {
          return {typed.in};
        }
      },
      op);
}

BufferId WriteOf(const Op& op) {
  return std::visit(
      [](const auto& typed) -> BufferId {
        if constexpr (std::is_same_v<std::decay_t<decltype(typed)>, LogitsOp>) {
          return kNone;
        } else {
          return typed.out;
        }
      },
      op);
}

}  // namespace

absl::StatusOr<std::unique_ptr<CompiledProgram>> CompiledProgram::Create(
    const Program& program, const CompileOptions& compile, const CudaBackendOptions& options,
    const std::vector<int32_t>& prepared_rows, cudaStream_t stream) {
  std::unique_ptr<CompiledProgram> compiled(new CompiledProgram(program, compile, options, stream));
  BASED_RETURN_IF_ERROR(compiled->Build(prepared_rows));
  compiled->program_ = nullptr;
  return compiled;
}

absl::Status CompiledProgram::Build(const std::vector<int32_t>& prepared_rows) {
  act_ = ActType(*program_, options_.precision);
  BASED_ASSIGN_OR_RETURN(gemm_, Gemm::Create({.batch_invariant = options_.batch_invariant,
                                              .tune = act_ == Type::kBF16}));
  for (const BufferSpec& spec : program_->buffers) {
    const Type type = spec.residual ? Type::kF32 : act_;
    BASED_ASSIGN_OR_RETURN(const Activation buffer,
                           NewActivation(spec.width, type, compile_.max_rows));
    buffers_.push_back(buffer);
  }
  state_layout_ = absl::StrCat("cuda-1-", act_ == Type::kF32 ? "fp32" : "bf16", "-fold",
                               options_.fold_interval, "-spare", program_->spare_tokens);
  for (op_index_ = 0; op_index_ < program_->ops.size(); ++op_index_) {
    BASED_RETURN_IF_ERROR(
        std::visit([this](const auto& op) { return Add(op); }, program_->ops[op_index_]));
  }
  return PrepareGemms(prepared_rows);
}

absl::StatusOr<void*> CompiledProgram::NewMemory(int64_t bytes, absl::string_view what) {
  BASED_ASSIGN_OR_RETURN(DeviceBuffer buffer, DeviceBuffer::Create(bytes, what));
  // Rows beyond a step's are computed and thrown away; let them be numbers.
  BASED_CUDA_RETURN_IF_ERROR(
      cudaMemsetAsync(buffer.data(), 0, static_cast<size_t>(buffer.bytes()), stream_));
  workspace_bytes_ += buffer.bytes();
  memory_.push_back(std::move(buffer));
  return memory_.back().data();
}

absl::StatusOr<Activation> CompiledProgram::NewActivation(int32_t width, Type type, int32_t rows) {
  BASED_ASSIGN_OR_RETURN(void* data,
                         NewMemory(int64_t{rows} * width * TypeBytes(type), "activations"));
  return Activation{data, type, width};
}

absl::StatusOr<Activation> CompiledProgram::InputOf(BufferId id) {
  const Activation& buffer = buffers_[static_cast<size_t>(id)];
  if (buffer.type == act_) return buffer;
  BASED_ASSIGN_OR_RETURN(const Activation converted,
                         NewActivation(buffer.width, act_, compile_.max_rows));
  steps_.push_back(ConvertParams{.in = buffer.data,
                                 .out = converted.data,
                                 .count = buffer.width,
                                 .in_type = buffer.type,
                                 .out_type = act_});
  return converted;
}

absl::StatusOr<Activation> CompiledProgram::OutputOf(BufferId id) {
  const Activation& buffer = buffers_[static_cast<size_t>(id)];
  if (buffer.type == act_) return buffer;
  return NewActivation(buffer.width, act_, compile_.max_rows);
}

absl::StatusOr<Activation> CompiledProgram::SwiGluScratch(int32_t width) {
  for (const Activation& scratch : swiglu_scratch_) {
    if (scratch.width == width) return scratch;
  }
  BASED_ASSIGN_OR_RETURN(const Activation scratch, NewActivation(width, act_, compile_.max_rows));
  swiglu_scratch_.push_back(scratch);
  return scratch;
}

void CompiledProgram::FinishOutput(BufferId id, const Activation& written) {
  const Activation& buffer = buffers_[static_cast<size_t>(id)];
  if (buffer.data == written.data) return;
  steps_.push_back(ConvertParams{.in = written.data,
                                 .out = buffer.data,
                                 .count = buffer.width,
                                 .in_type = written.type,
                                 .out_type = buffer.type});
}

int64_t CompiledProgram::AddState(int64_t bytes) {
  const int64_t offset = slot_bytes_;
  slot_bytes_ += (bytes + kStateAlignment - 1) / kStateAlignment * kStateAlignment;
  return offset;
}

bool CompiledProgram::OnlyNextReads(size_t norm_op) const {
  const BufferId out = WriteOf(program_->ops[norm_op]);
  const Op& next = program_->ops[norm_op + 1];
  if (!std::holds_alternative<LinearOp>(next) || std::get<LinearOp>(next).in != out) return false;
  for (size_t i = norm_op + 2; i < program_->ops.size(); ++i) {
    const std::vector<BufferId> reads = ReadsOf(program_->ops[i]);
    if (std::find(reads.begin(), reads.end(), out) != reads.end()) return false;
    if (WriteOf(program_->ops[i]) == out) return true;
  }
  return true;
}

absl::Status CompiledProgram::Add(const EmbedOp& op) {
  const WeightView& table = program_->weights[static_cast<size_t>(op.table)];
  const Activation& out = buffers_[static_cast<size_t>(op.out)];
  EmbedParams params = {};
  BASED_ASSIGN_OR_RETURN(params.table, weights_.Get({op.table}, act_));
  params.out = out.data;
  params.width = out.width;
  params.vocab = static_cast<int32_t>(table.rows);
  params.act = act_;
  params.out_type = out.type;
  steps_.push_back(params);
  return absl::OkStatus();
}

absl::Status CompiledProgram::Add(const NormOp& op) {
  const Activation& in = buffers_[static_cast<size_t>(op.in)];
  const Activation& out = buffers_[static_cast<size_t>(op.out)];
  NormStep step;
  step.params.in = in.data;
  step.params.in_type = in.type;
  step.params.out = out.data;
  step.params.out_type = out.type;
  step.params.width = in.width;
  step.params.eps = static_cast<float>(op.eps);
  BASED_ASSIGN_OR_RETURN(const void* weight, weights_.Get({op.weight}, Type::kF32));
  step.params.weight = static_cast<const float*>(weight);
  step.fusable = in.type == Type::kF32 && out.type == Type::kBF16 && OnlyNextReads(op_index_);
  steps_.push_back(step);
  return absl::OkStatus();
}

absl::Status CompiledProgram::Add(const LinearOp& op) {
  const bool fused_norm = !steps_.empty() && std::holds_alternative<NormStep>(steps_.back()) &&
                          std::get<NormStep>(steps_.back()).fusable;
  const NormParams norm = fused_norm ? std::get<NormStep>(steps_.back()).params : NormParams{};
  const Activation& target = buffers_[static_cast<size_t>(op.out)];
  BASED_ASSIGN_OR_RETURN(const Activation in, InputOf(op.in));
  LinearStep step;
  for (const WeightId id : op.weights) {
    step.shape.n += static_cast<int32_t>(program_->weights[static_cast<size_t>(id)].rows);
  }
  step.swiglu = op.epilogue == Epilogue::kSwiGlu;
  step.shape.k = in.width;
  step.shape.act = act_;
  step.shape.out_type = step.swiglu ? act_ : target.type;
  step.shape.bias = op.bias != kNone;
  step.shape.accumulate = op.epilogue == Epilogue::kAdd;
  step.call.in = in.data;
  step.call.out = target.data;
  Activation out = target;
  if (step.swiglu) {
    BASED_ASSIGN_OR_RETURN(const Activation hidden, SwiGluScratch(step.shape.n));
    BASED_ASSIGN_OR_RETURN(out, OutputOf(op.out));
    step.call.out = hidden.data;
    step.swiglu_params.in = hidden.data;
    step.swiglu_params.out = out.data;
    step.swiglu_params.half = step.shape.n / 2;
    step.swiglu_params.act = act_;
  }
  BASED_ASSIGN_OR_RETURN(step.call.weight, weights_.Get(op.weights, act_));
  const void* bias = nullptr;
  if (step.shape.bias) {
    BASED_ASSIGN_OR_RETURN(step.call.bias, weights_.Get({op.bias}, step.shape.out_type));
    BASED_ASSIGN_OR_RETURN(bias, weights_.Get({op.bias}, Type::kF32));
  }
  step.gemv = {.weight = step.call.weight,
               .in = fused_norm ? norm.in : in.data,
               .norm_weight = norm.weight,
               .bias = static_cast<const float*>(bias),
               .out = out.data,
               .rows = 1,
               .n = step.shape.n,
               .k = step.shape.k,
               .eps = norm.eps,
               .out_type = out.type,
               .accumulate = step.shape.accumulate,
               .swiglu = step.swiglu};
  step.gemv_fits = act_ == Type::kBF16 && GemvSupports(step.gemv);
  if (fused_norm) std::get<NormStep>(steps_.back()).fusable = step.gemv_fits;
  steps_.push_back(step);
  if (step.swiglu) FinishOutput(op.out, out);
  return absl::OkStatus();
}

absl::Status CompiledProgram::Add(const ConvMixOp& op) {
  BASED_ASSIGN_OR_RETURN(const Activation in, InputOf(op.in));
  BASED_ASSIGN_OR_RETURN(const Activation out, OutputOf(op.out));
  ConvMixParams params = {};
  params.in = in.data;
  params.out = out.data;
  BASED_ASSIGN_OR_RETURN(const void* taps, weights_.Get({op.taps}, Type::kF32, true));
  params.taps = static_cast<const float*>(taps);
  params.channels = op.channels;
  params.kernel = op.kernel;
  params.ring_rows = op.kernel == 1 ? 0 : op.kernel - 1 + program_->spare_tokens;
  params.ring_offset = AddState(int64_t{params.ring_rows} * op.channels * TypeBytes(act_));
  params.act = act_;
  steps_.push_back(params);
  FinishOutput(op.out, out);
  absl::StrAppend(&state_layout_, ";conv", params.ring_rows, "x", op.channels);
  return absl::OkStatus();
}

absl::Status CompiledProgram::Add(const TaylorMixOp& op) {
  BASED_ASSIGN_OR_RETURN(const Activation in, InputOf(op.in));
  BASED_ASSIGN_OR_RETURN(const Activation out, OutputOf(op.out));
  const int32_t features = FeatureCount(op.feature_dim);
  TaylorParams params = {};
  params.in = in.data;
  params.out = out.data;
  params.heads = op.heads;
  params.feature_dim = op.feature_dim;
  params.head_dim = op.head_dim;
  params.s_stride = (features * op.head_dim + 31) / 32 * 32;
  params.z_stride = (features + 31) / 32 * 32;
  params.fold_phase = taylor_heads_;
  params.fold = options_.fold_interval;
  params.fold_lag = std::max(program_->spare_tokens - 1, 0);
  params.ring_rows = options_.fold_interval + std::max(program_->spare_tokens, 1);
  params.s_offset = AddState(int64_t{op.heads} * params.s_stride * 4);
  params.z_offset = AddState(int64_t{op.heads} * params.z_stride * 4);
  const int64_t ring = int64_t{op.heads} * params.ring_rows * TypeBytes(act_);
  params.ring_k_offset = AddState(ring * op.feature_dim);
  params.ring_v_offset = AddState(ring * op.head_dim);
  params.eps = static_cast<float>(op.eps);
  params.act = act_;
  if (TaylorPrefillSupports(params)) {
    const int64_t spans = std::min(compile_.max_spans, compile_.max_rows / 2);
    BASED_ASSIGN_OR_RETURN(void* scratch, NewMemory(spans * op.heads * params.z_stride * 4,
                                                    "the normaliser of prefill spans"));
    params.scratch_z = static_cast<float*>(scratch);
  }
  steps_.push_back(params);
  FinishOutput(op.out, out);
  taylor_heads_ += op.heads;
  absl::StrAppend(&state_layout_, ";taylor", op.heads, "x", op.feature_dim, "x", op.head_dim);
  return absl::OkStatus();
}

absl::StatusOr<const float2*> CompiledProgram::RopeTableFor(const WindowMixOp& op) {
  const int32_t half = op.head_dim / 2;
  for (const RopeStep& rope : ropes_) {
    if (rope.params.half == half && rope.base == op.rope_base) return rope.params.out;
  }
  std::vector<uint64_t> turns;
  for (int32_t i = 0; i < half; ++i) {
    turns.push_back(RopeTurnsPerToken(op.rope_base, i, op.head_dim));
  }
  RopeStep rope;
  rope.base = op.rope_base;
  rope.params.half = half;
  BASED_ASSIGN_OR_RETURN(void* device_turns, NewMemory(int64_t{half} * 8, "rotary frequencies"));
  BASED_CUDA_RETURN_IF_ERROR(cudaMemcpyAsync(device_turns, turns.data(), turns.size() * 8,
                                             cudaMemcpyHostToDevice, stream_));
  BASED_CUDA_RETURN_IF_ERROR(cudaStreamSynchronize(stream_));
  rope.params.turns = static_cast<const uint64_t*>(device_turns);
  BASED_ASSIGN_OR_RETURN(void* out,
                         NewMemory(int64_t{compile_.max_rows} * half * 8, "rotary angles"));
  rope.params.out = static_cast<float2*>(out);
  ropes_.push_back(rope);
  return rope.params.out;
}

absl::Status CompiledProgram::Add(const WindowMixOp& op) {
  if (WindowGenericSharedBytes(op.window_left, op.head_dim) > kMostSharedBytes) {
    return absl::UnimplementedError(
        absl::StrCat("op ", op_index_, " (WindowMix): window_left is ", op.window_left,
                     ", more than the cuda backend's kernels hold in shared memory"));
  }
  BASED_ASSIGN_OR_RETURN(const Activation in, InputOf(op.in));
  BASED_ASSIGN_OR_RETURN(const Activation out, OutputOf(op.out));
  WindowParams params = {};
  params.in = in.data;
  params.out = out.data;
  BASED_ASSIGN_OR_RETURN(params.rope, RopeTableFor(op));
  params.heads = op.heads;
  params.head_dim = op.head_dim;
  params.window_left = op.window_left;
  params.ring_rows = op.window_left == 0 ? 0 : op.window_left + program_->spare_tokens;
  const int64_t ring = int64_t{op.heads} * params.ring_rows * op.head_dim * TypeBytes(act_);
  params.ring_k_offset = AddState(ring);
  params.ring_v_offset = AddState(ring);
  params.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(op.head_dim)));
  params.act = act_;
  steps_.push_back(params);
  FinishOutput(op.out, out);
  absl::StrAppend(&state_layout_, ";window", params.ring_rows, "x", op.heads, "x", op.head_dim);
  return absl::OkStatus();
}

absl::Status CompiledProgram::Add(const LogitsOp& op) {
  const Activation& in = buffers_[static_cast<size_t>(op.in)];
  const WeightView& table = program_->weights[static_cast<size_t>(op.table)];
  LogitsStep step;
  step.slab_rows = std::min(compile_.max_samples, kSlabRows);
  BASED_ASSIGN_OR_RETURN(const Activation normed, NewActivation(in.width, act_, step.slab_rows));
  step.gather.in = in.data;
  step.gather.in_type = in.type;
  step.gather.out = normed.data;
  step.gather.out_type = act_;
  step.gather.width = in.width;
  step.gather.eps = static_cast<float>(op.eps);
  if (op.norm_weight != kNone) {
    BASED_ASSIGN_OR_RETURN(const void* weight, weights_.Get({op.norm_weight}, Type::kF32));
    step.gather.weight = static_cast<const float*>(weight);
  }
  vocab_size_ = op.vocab_size;
  padded_vocab_size_ = static_cast<int32_t>(table.rows);
  BASED_ASSIGN_OR_RETURN(const Activation logits,
                         NewActivation(padded_vocab_size_, Type::kF32, step.slab_rows));
  step.shape = {.n = padded_vocab_size_, .k = in.width, .act = act_, .out_type = Type::kF32};
  step.call.in = normed.data;
  step.call.out = logits.data;
  BASED_ASSIGN_OR_RETURN(step.call.weight, weights_.Get({op.table}, act_));
  step.gemv = {.weight = step.call.weight,
               .in = normed.data,
               .norm_weight = nullptr,
               .bias = nullptr,
               .out = logits.data,
               .rows = 1,
               .n = step.shape.n,
               .k = step.shape.k,
               .eps = 0,
               .out_type = Type::kF32,
               .accumulate = false,
               .swiglu = false};
  step.gemv_fits = act_ == Type::kBF16 && GemvSupports(step.gemv);
  step.sample.logits = static_cast<float*>(logits.data);
  step.sample.stride = padded_vocab_size_;
  step.sample.vocab_size = op.vocab_size;
  steps_.push_back(step);
  return absl::OkStatus();
}

absl::Status CompiledProgram::PrepareGemms(const std::vector<int32_t>& rows) {
  for (const ProgramStep& step : steps_) {
    if (const auto* linear = std::get_if<LinearStep>(&step)) {
      BASED_RETURN_IF_ERROR(gemm_->Prepare(linear->shape, rows, linear->call, stream_));
    }
    if (const auto* logits = std::get_if<LogitsStep>(&step)) {
      std::set<int32_t> counts;
      for (const int32_t count : rows) counts.insert(std::min(count, logits->slab_rows));
      BASED_RETURN_IF_ERROR(
          gemm_->Prepare(logits->shape, {counts.begin(), counts.end()}, logits->call, stream_));
    }
  }
  return absl::OkStatus();
}

}  // namespace based::cuda
