#include "kernels/cpu/compiled_program.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"
#include "kernels/rope_phase.h"
#include "kernels/weights.h"

namespace based::cpu {
namespace {

constexpr int64_t kFloatsPerLine = kCacheLine / static_cast<int64_t>(sizeof(float));
constexpr int64_t kLogitsSlab = 64;

// Hands out parts of one Memory. Used twice over the same requests: first without memory, to count.
class Carver {
 public:
  explicit Carver(std::byte* base) : base_(base) {}

  bool counting() const { return base_ == nullptr; }
  int64_t bytes() const { return used_; }

  std::byte* Bytes(int64_t count) {
    std::byte* at = counting() ? nullptr : base_ + used_;
    used_ += RoundUp(count, kCacheLine);
    return at;
  }
  float* Floats(int64_t count) {
    return static_cast<float*>(
        static_cast<void*>(Bytes(count * static_cast<int64_t>(sizeof(float)))));
  }

 private:
  std::byte* base_;
  int64_t used_ = 0;
};

// One pass over the program. The first pass, with counting carvers, only measures.
class Compiler {
 public:
  Compiler(const Program& program, const CompileOptions& options, std::byte* weights,
           std::byte* workspace)
      : program_(program), options_(options), weights_(weights), workspace_(workspace) {}

  void Run();

  CompiledProgram& compiled() { return compiled_; }
  int64_t weight_bytes() const { return weights_.bytes(); }
  int64_t workspace_bytes() const { return workspace_.bytes(); }

 private:
  CompiledOp CompileOp(const EmbedOp& op);
  CompiledOp CompileOp(const NormOp& op);
  CompiledOp CompileOp(const LinearOp& op);
  CompiledOp CompileOp(const ConvMixOp& op);
  CompiledOp CompileOp(const TaylorMixOp& op);
  CompiledOp CompileOp(const WindowMixOp& op);
  CompiledOp CompileOp(const LogitsOp& op);

  const WeightView& weight(WeightId id) const { return program_.weights[static_cast<size_t>(id)]; }
  Buffer buffer(BufferId id) const { return buffers_[static_cast<size_t>(id)]; }
  Buffer NewBuffer(int64_t rows, int64_t width) {
    return {workspace_.Floats(rows * width + 2 * kFloatsPerLine), width};
  }
  const float* Vector(WeightId id);
  PackedMatrix Matrix(const std::vector<WeightId>& ids, WeightId bias, bool gated);
  int64_t State(int64_t floats, const std::string& name);
  size_t Rope(double base, int32_t head_dim);
  void NeedScratch(int64_t floats) {
    compiled_.scratch_floats = std::max(compiled_.scratch_floats, RoundUp(floats, kFloatsPerLine));
  }

  const Program& program_;
  const CompileOptions& options_;
  Carver weights_;
  Carver workspace_;
  std::vector<Buffer> buffers_;
  CompiledProgram compiled_;
};

void Compiler::Run() {
  compiled_.state_layout = absl::StrCat("cpu-fp32-1;block", kTaylorBlock);
  for (const BufferSpec& spec : program_.buffers) {
    buffers_.push_back(NewBuffer(options_.max_rows, spec.width));
  }
  for (const Op& op : program_.ops) {
    compiled_.ops.push_back(std::visit([this](const auto& typed) { return CompileOp(typed); }, op));
  }
}

const float* Compiler::Vector(WeightId id) {
  const WeightView& view = weight(id);
  float* values = weights_.Floats(view.cols);
  if (!weights_.counting()) WidenValues(view, 0, view.cols, values);
  return values;
}

PackedMatrix Compiler::Matrix(const std::vector<WeightId>& ids, WeightId bias, bool gated) {
  std::vector<const WeightView*> views;
  for (const WeightId id : ids) views.push_back(&weight(id));
  PackedMatrix matrix = PlanPacking(views, gated);
  std::byte* storage = weights_.Bytes(PackedBytes(matrix));
  if (!weights_.counting()) Pack(views, bias == kNone ? nullptr : &weight(bias), storage, matrix);
  return matrix;
}

int64_t Compiler::State(int64_t floats, const std::string& name) {
  const int64_t at = compiled_.slot_floats;
  compiled_.slot_floats += RoundUp(floats, kFloatsPerLine);
  absl::StrAppend(&compiled_.state_layout, ";", name);
  return at;
}

size_t Compiler::Rope(double base, int32_t head_dim) {
  for (size_t i = 0; i < compiled_.ropes.size(); ++i) {
    const RopeTable& rope = compiled_.ropes[i];
    if (rope.base == base && rope.head_dim == head_dim) return i;
  }
  RopeTable rope{.base = base, .head_dim = head_dim};
  rope.stride = RoundUp(head_dim / 2, kFloatsPerLine);
  for (int32_t pair = 0; pair < head_dim / 2; ++pair) {
    rope.turns_per_token.push_back(RopeTurnsPerToken(base, pair, head_dim));
  }
  rope.cosine = workspace_.Floats(options_.max_rows * rope.stride);
  rope.sine = workspace_.Floats(options_.max_rows * rope.stride);
  compiled_.ropes.push_back(std::move(rope));
  return compiled_.ropes.size() - 1;
}

CompiledOp Compiler::CompileOp(const EmbedOp& op) {
  return EmbedStep{.table = weight(op.table), .out = buffer(op.out)};
}

CompiledOp Compiler::CompileOp(const NormOp& op) {
  return NormStep{
      .weight = Vector(op.weight), .eps = op.eps, .in = buffer(op.in), .out = buffer(op.out)};
}

CompiledOp Compiler::CompileOp(const LinearOp& op) {
  return LinearStep{.matrix = Matrix(op.weights, op.bias, op.epilogue == Epilogue::kSwiGlu),
                    .epilogue = op.epilogue,
                    .in = buffer(op.in),
                    .out = buffer(op.out)};
}

CompiledOp Compiler::CompileOp(const ConvMixOp& op) {
  const int64_t channels = op.channels;
  const int64_t kernel = op.kernel;
  float* taps = weights_.Floats(channels * kernel);
  if (!weights_.counting()) {
    const std::vector<float> rows = WidenWeight<float>(weight(op.taps));
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t i = 0; i < kernel; ++i) {
        taps[i * channels + c] = rows[static_cast<size_t>(c * kernel + i)];
      }
    }
  }
  return ConvStep{
      .taps = taps,
      .channels = channels,
      .kernel = kernel,
      .state = State((kernel - 1) * channels, absl::StrCat("conv", kernel - 1, "x", channels)),
      .in = buffer(op.in),
      .out = buffer(op.out)};
}

CompiledOp Compiler::CompileOp(const TaylorMixOp& op) {
  const TaylorLayout layout(op.feature_dim, op.head_dim);
  NeedScratch(layout.scratch_floats());
  return TaylorStep{
      .layout = layout,
      .heads = op.heads,
      .eps = op.eps,
      .state = State(op.heads * layout.floats,
                     absl::StrCat("taylor", op.heads, "x", op.feature_dim, "x", op.head_dim)),
      .in = buffer(op.in),
      .out = buffer(op.out)};
}

CompiledOp Compiler::CompileOp(const WindowMixOp& op) {
  const WindowLayout layout(op.head_dim, op.window_left);
  NeedScratch(layout.scratch_floats());
  return WindowStep{
      .layout = layout,
      .heads = op.heads,
      .rope = Rope(op.rope_base, op.head_dim),
      .state = State(op.heads * layout.floats, absl::StrCat("window", op.window_left, "x", op.heads,
                                                            "x", op.head_dim, "x", op.rope_base)),
      .in = buffer(op.in),
      .out = buffer(op.out)};
}

CompiledOp Compiler::CompileOp(const LogitsOp& op) {
  LogitsStep step{.norm_weight = op.norm_weight == kNone ? nullptr : Vector(op.norm_weight),
                  .eps = op.eps,
                  .table = Matrix({op.table}, kNone, false),
                  .vocab_size = op.vocab_size,
                  .in = buffer(op.in)};
  compiled_.padded_vocab_size = step.table.outputs;
  step.slab_rows = std::min<int64_t>(options_.max_samples, kLogitsSlab);
  step.normed = NewBuffer(step.slab_rows, step.in.width);
  step.logits = NewBuffer(step.slab_rows, step.table.outputs);
  return step;
}

}  // namespace

absl::StatusOr<CompiledProgram> CompileProgram(const Program& program,
                                               const CompileOptions& options) {
  Compiler count(program, options, nullptr, nullptr);
  count.Run();
  BASED_ASSIGN_OR_RETURN(Memory weights, Memory::Allocate("weights", count.weight_bytes()));
  BASED_ASSIGN_OR_RETURN(Memory workspace, Memory::Allocate("workspace", count.workspace_bytes()));
  Compiler compiler(program, options, weights.data(), workspace.data());
  compiler.Run();
  compiler.compiled().weights = std::move(weights);
  compiler.compiled().workspace = std::move(workspace);
  return std::move(compiler.compiled());
}

}  // namespace based::cpu
