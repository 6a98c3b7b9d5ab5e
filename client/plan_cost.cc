#include "client/plan_cost.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <variant>

namespace based {
namespace {

constexpr double kFoldInterval = 8;  // CudaBackendOptions::fold_interval
constexpr int64_t kCudaAlignment = 256;
constexpr double kTaylorBlock = 16;  // kernels/cpu/taylor_mix.h
// GemvSupports of kernels/cuda/gemv.cu.
constexpr double kGemvRows = 4;
constexpr int64_t kGemvWidths[] = {1024, 1792, 2048, 3584};
// Rows of logits at a time, as compiled_program.cc of either backend has it.
constexpr double kCudaLogitsSlab = 1024;
constexpr double kCpuLogitsSlab = 64;

int64_t RoundUp(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

int64_t Features(int64_t feature_dim) {
  return 1 + feature_dim + feature_dim * (feature_dim + 1) / 2;
}

double TypeBytes(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

// Of activations on cuda: fp32 where a matrix is, else bf16.
int64_t ActBytes(const Program& program) {
  const bool fp32 = std::any_of(
      program.weights.begin(), program.weights.end(),
      [](const WeightView& weight) { return weight.rows > 1 && weight.dtype == DType::kF32; });
  return fp32 ? 4 : 2;
}

int64_t Align(int64_t bytes) { return RoundUp(bytes, kCudaAlignment); }

SlotBytes CudaSlot(const Program& program) {
  SlotBytes slot;
  const int64_t act = ActBytes(program);
  const int64_t spare = std::max(program.spare_tokens, 1);
  for (const Op& op : program.ops) {
    if (const auto* taylor = std::get_if<TaylorMixOp>(&op)) {
      const int64_t features = Features(taylor->feature_dim);
      const int64_t rows = int64_t{taylor->heads} * (static_cast<int64_t>(kFoldInterval) + spare);
      slot.taylor += Align(taylor->heads * RoundUp(features * taylor->head_dim, 32) * 4) +
                     Align(taylor->heads * RoundUp(features, 32) * 4) +
                     Align(rows * taylor->feature_dim * act) + Align(rows * taylor->head_dim * act);
    } else if (const auto* window = std::get_if<WindowMixOp>(&op)) {
      const int64_t rows = window->window_left == 0 ? 0 : window->window_left + spare;
      slot.window += 2 * Align(rows * window->heads * window->head_dim * act);
    } else if (const auto* conv = std::get_if<ConvMixOp>(&op)) {
      const int64_t rows = conv->kernel == 1 ? 0 : conv->kernel - 1 + spare;
      slot.conv += Align(rows * conv->channels * act);
    }
  }
  return slot;
}

SlotBytes CpuSlot(const Program& program) {
  SlotBytes slot;
  for (const Op& op : program.ops) {
    if (const auto* taylor = std::get_if<TaylorMixOp>(&op)) {
      const int64_t features = Features(taylor->feature_dim);
      const int64_t head = RoundUp(taylor->head_dim, 16);
      const int64_t block = static_cast<int64_t>(kTaylorBlock);
      const int64_t floats = RoundUp(features, 4) * head + RoundUp(features, 16) +
                             taylor->feature_dim * block + block * head;
      slot.taylor += 4 * RoundUp(taylor->heads * floats, 16);
    } else if (const auto* window = std::get_if<WindowMixOp>(&op)) {
      const int64_t ring = window->window_left + 1;
      const int64_t floats =
          window->head_dim * RoundUp(ring, 16) + ring * RoundUp(window->head_dim, 16);
      slot.window += 4 * RoundUp(window->heads * floats, 16);
    } else if (const auto* conv = std::get_if<ConvMixOp>(&op)) {
      slot.conv += 4 * RoundUp(int64_t{conv->kernel - 1} * conv->channels, 16);
    }
  }
  return slot;
}

// Walks the ops of one step and sums up each kind.
class StepModel {
 public:
  StepModel(const Program& program, const PlanMachine& machine, StepRows rows)
      : program_(program),
        machine_(machine),
        rows_(rows),
        act_(machine.cuda ? static_cast<double>(ActBytes(program)) : 4),
        bandwidth_(machine.BytesPerSecond(
            PlanWeightBytes(program) +
            rows.decodes * static_cast<double>(PlanSlotBytes(program, machine.cuda).total()))) {}

  StepPrediction Run() {
    for (size_t i = 0; i < program_.ops.size(); ++i) {
      next_ = i + 1 < program_.ops.size() ? &program_.ops[i + 1] : nullptr;
      std::visit([this](const auto& typed) { Add(typed); }, program_.ops[i]);
    }
    StepPrediction prediction;
    double bytes = 0, flops = 0;
    for (PlanTerm* term : {&linear_, &taylor_, &window_, &conv_, &row_, &sample_}) {
      prediction.seconds += term->seconds;
      bytes += term->bytes;
      flops += term->flops;
      prediction.terms.push_back(*term);
    }
    prediction.roofline_seconds = std::max(bytes / bandwidth_, flops / machine_.flops_per_second);
    return prediction;
  }

 private:
  // Rows of prompts whose logits nobody asks for leave the head out.
  double rows() const { return rows_.decodes + rows_.prefill; }
  // A handful of rows times a matrix of a width that has a kernel of its own: the norm before and
  // the activation behind are fused into it.
  bool IsGemv(const WeightView& weight) const {
    return machine_.cuda && act_ == 2 && rows() <= kGemvRows &&
           std::find(std::begin(kGemvWidths), std::end(kGemvWidths), weight.cols) !=
               std::end(kGemvWidths);
  }
  const WeightView& WeightOf(WeightId id) const {
    return program_.weights[static_cast<size_t>(id)];
  }

  void Charge(PlanTerm& term, double ops, double bytes, double memory_share, double flops = 0,
              double arithmetic_share = 1) {
    term.ops += ops;
    term.bytes += bytes;
    term.flops += flops;
    term.seconds += ops * machine_.op_seconds + bytes / (bandwidth_ * memory_share) +
                    flops / (machine_.flops_per_second * arithmetic_share);
  }

  void Multiply(bool gemv, double parameters, double bytes, double rows) {
    const PlanShares& shares = machine_.shares;
    if (rows <= 0) return;
    if (gemv) {
      // Its launch hides behind the reads of the one before, where these last as long.
      const double read = bytes / (bandwidth_ * shares.weights_alone);
      Charge(linear_, std::max(0.0, 1 - read / machine_.op_seconds), bytes, shares.weights_alone);
      return;
    }
    Charge(linear_, 1, bytes, shares.weights, 2 * parameters * rows, shares.arithmetic);
  }

  void Add(const EmbedOp& op) {
    const double width = program_.buffers[static_cast<size_t>(op.out)].width;
    Charge(row_, 1, rows() * width * (act_ + 4), machine_.shares.rows);
  }
  void Add(const NormOp& op) {
    const auto* reader = next_ != nullptr ? std::get_if<LinearOp>(next_) : nullptr;
    if (reader != nullptr && IsGemv(WeightOf(reader->weights.front()))) return;
    const double width = program_.buffers[static_cast<size_t>(op.in)].width;
    Charge(row_, 1, rows() * width * (4 + act_), machine_.shares.rows);
  }
  void Add(const LinearOp& op) {
    double parameters = 0, bytes = 0, outputs = 0;
    for (const WeightId id : op.weights) {
      const WeightView& weight = WeightOf(id);
      const double count = static_cast<double>(weight.rows * weight.cols);
      parameters += count;
      bytes += count * TypeBytes(weight.dtype);
      outputs += static_cast<double>(weight.rows);
    }
    const bool gemv = IsGemv(WeightOf(op.weights.front()));
    Multiply(gemv, parameters, bytes, rows());
    if (op.epilogue == Epilogue::kSwiGlu && machine_.cuda && !gemv) {
      Charge(row_, 1, rows() * outputs * 1.5 * act_, machine_.shares.rows);
    }
  }
  void Add(const ConvMixOp& op) {
    const double row = 3.0 * op.channels * act_;
    const double state = static_cast<double>(op.kernel) * op.channels * act_;
    Charge(conv_, 1, rows() * row + rows_.decodes * state, machine_.shares.rows);
  }
  void Add(const TaylorMixOp& op);
  void Add(const WindowMixOp& op);
  void Add(const LogitsOp& op) {
    const WeightView& table = WeightOf(op.table);
    const double parameters = static_cast<double>(table.rows * table.cols);
    Multiply(IsGemv(table), parameters, parameters * TypeBytes(table.dtype), rows_.decodes);
    Charge(sample_, 2, rows_.decodes * static_cast<double>(table.rows) * 4,
           machine_.shares.sampling);
  }

  const Program& program_;
  const PlanMachine& machine_;
  const StepRows rows_;
  const double act_;          // bytes of an activation
  const double bandwidth_;    // of the step's working set
  const Op* next_ = nullptr;  // after the one that is added; null: none
  PlanTerm linear_{.name = "weights"};
  PlanTerm taylor_{.name = "linear attention"};
  PlanTerm window_{.name = "window attention"};
  PlanTerm conv_{.name = "convolutions"};
  PlanTerm row_{.name = "norms, activations"};
  PlanTerm sample_{.name = "sampling"};
};

// Decode: S and z are read, and written once in so many steps; unfolded (k, v) rows, half of the
// ring on average, are read (kernels/cuda/taylor_decode.cu). Prefill: phi(Q) S, phi(K)^T V in two
// parts, and on average 88 keys of the chunk, over E + 16 columns (taylor_prefill.cu); on a CPU
// both products and half a block.
void StepModel::Add(const TaylorMixOp& op) {
  const PlanShares& shares = machine_.shares;
  const double heads = op.heads, f = op.feature_dim, e = op.head_dim;
  const auto p = static_cast<double>(Features(op.feature_dim));
  const double interval = machine_.cuda ? kFoldInterval : kTaylorBlock;
  const double state = heads * p * (e + 1) * 4 * (1 + 1 / interval);
  const double ring = heads * interval / 2 * (f + e) * act_;
  const double products = 2 * heads * p * (e + 1);
  Charge(taylor_, 1, rows_.decodes * (state + ring), shares.taylor_state,
         machine_.cuda ? 0 : rows_.decodes * products * 2, shares.taylor_prefill);
  if (rows_.prefill <= 0) return;
  const double padded = static_cast<double>(RoundUp(static_cast<int64_t>(p), 16));
  const double flops = machine_.cuda ? heads * (2 * (e + 16) * (3 * padded + 88) + 4 * f * 88)
                                     : 2 * products + heads * kTaylorBlock * (f + e);
  Charge(taylor_, 1, 0, 1, rows_.prefill * flops, shares.taylor_prefill);
}

// Decode: W + 1 rows of k and v (window_decode.cu). Prefill: tiles of 64 queries and keys
// (window_prefill.cu), so W + 64 keys a query; on a CPU W + 1.
void StepModel::Add(const WindowMixOp& op) {
  const PlanShares& shares = machine_.shares;
  const double width = static_cast<double>(op.heads) * op.head_dim;
  const double keys = op.window_left + 1.0;
  const double products = 4 * keys * width;
  Charge(window_, 1, rows_.decodes * 2 * keys * width * act_, shares.window_state,
         machine_.cuda ? 0 : rows_.decodes * products, shares.window_prefill);
  if (rows_.prefill <= 0) return;
  const double flops = machine_.cuda ? 4 * (op.window_left + 64.0) * width : products;
  Charge(window_, 1, 0, 1, rows_.prefill * flops, shares.window_prefill);
}

int32_t Layers(const Program& program) {
  return static_cast<int32_t>(
      std::count_if(program.ops.begin(), program.ops.end(), [](const Op& op) {
        return std::holds_alternative<ConvMixOp>(op) || std::holds_alternative<TaylorMixOp>(op) ||
               std::holds_alternative<WindowMixOp>(op);
      }));
}

}  // namespace

SlotBytes PlanSlotBytes(const Program& program, bool cuda) {
  return cuda ? CudaSlot(program) : CpuSlot(program);
}

double PlanWeightBytes(const Program& program) {
  double bytes = 0;
  for (const WeightView& weight : program.weights) {
    const bool vector = weight.rows == 1 || weight.cols < 8;  // norms and biases; taps
    bytes +=
        static_cast<double>(weight.rows * weight.cols) * (vector ? 4 : TypeBytes(weight.dtype));
  }
  return bytes;
}

double PlanWorkspaceBytes(const Program& program, bool cuda, const CompileOptions& limits) {
  const double act = cuda ? static_cast<double>(ActBytes(program)) : 4;
  double row = 0, widest = 0;
  for (const BufferSpec& buffer : program.buffers)
    row += buffer.width * (buffer.residual ? 4 : act);
  for (const Op& op : program.ops) {
    const auto* linear = std::get_if<LinearOp>(&op);
    if (linear == nullptr || linear->epilogue != Epilogue::kSwiGlu) continue;
    double outputs = 0;
    for (const WeightId id : linear->weights) {
      outputs += static_cast<double>(program.weights[static_cast<size_t>(id)].rows);
    }
    widest = std::max(widest, outputs);
  }
  const auto& logits = std::get<LogitsOp>(program.ops.back());
  const WeightView& table = program.weights[static_cast<size_t>(logits.table)];
  return limits.max_rows * (row + (cuda ? widest * act : 0)) +
         std::min<double>(limits.max_samples, cuda ? kCudaLogitsSlab : kCpuLogitsSlab) *
             static_cast<double>(table.rows) * 4;
}

StepPrediction PredictStep(const Program& program, const PlanMachine& machine, StepRows rows) {
  return StepModel(program, machine, rows).Run();
}

LoadPrediction PredictLoad(const Program& program, const PlanMachine& machine, PlanLoad load) {
  const double prompts = load.prompt_share / (1 - load.prompt_share);  // rows for each decode
  LoadPrediction prediction;
  const double most = std::min<double>(machine.limits.max_spans, machine.limits.max_samples);
  const double decodes = std::min({load.streams, most, machine.limits.max_rows / (1 + prompts)});
  prediction.rows = {.decodes = decodes, .prefill = decodes * prompts};
  const StepPrediction step = PredictStep(program, machine, prediction.rows);
  prediction.step_seconds = step.seconds / machine.host_share;
  prediction.itl_seconds = prediction.step_seconds * load.streams / decodes;
  prediction.tokens_per_second = decodes / prediction.step_seconds;
  prediction.prompt_tokens_per_second = prediction.rows.prefill / prediction.step_seconds;
  prediction.roofline_tokens_per_second = decodes / step.roofline_seconds;
  return prediction;
}

double PredictPrefill(const Program& program, const PlanMachine& machine) {
  const double rows = machine.limits.max_rows;
  return rows / PredictStep(program, machine, {.decodes = 0, .prefill = rows}).seconds;
}

KvEquivalent PredictKv(const Program& program, const PlanMachine& machine, double slots,
                       double streams, double context) {
  const auto& embed = std::get<EmbedOp>(program.ops.front());
  const double width = program.buffers[static_cast<size_t>(embed.out)].width;
  const auto slot = static_cast<double>(PlanSlotBytes(program, machine.cuda).total());
  KvEquivalent kv;
  kv.bytes_per_token = 4.0 * Layers(program) * width;
  kv.tokens_per_slot = slot / kv.bytes_per_token;
  kv.sequences = std::floor(slots * slot / (kv.bytes_per_token * context));
  kv.at_sequences =
      std::min({streams, kv.sequences, static_cast<double>(machine.limits.max_spans)});
  if (kv.at_sequences < 1) return kv;
  // The same weights and rows, and in place of the mixers the cache, read once a step.
  const StepPrediction step = PredictStep(program, machine, {.decodes = kv.at_sequences});
  double seconds = 0;
  for (const PlanTerm& term : step.terms) {
    const bool mixer = term.name == "linear attention" || term.name == "window attention" ||
                       term.name == "convolutions";
    if (!mixer) seconds += term.seconds;
  }
  const double cache = kv.at_sequences * kv.bytes_per_token * context;
  seconds += Layers(program) * machine.op_seconds +
             cache / (machine.BytesPerSecond(cache) * machine.shares.window_state);
  kv.tokens_per_second = kv.at_sequences / seconds * machine.host_share;
  return kv;
}

CapacityPlan PlanCapacity(const Program& program, const PlanMachine& machine) {
  CapacityPlan plan{.slot = PlanSlotBytes(program, machine.cuda),
                    .weight_bytes = PlanWeightBytes(program),
                    .workspace_bytes = PlanWorkspaceBytes(program, machine.cuda, machine.limits)};
  const double room =
      machine.memory_bytes - machine.reserved_bytes - plan.weight_bytes - plan.workspace_bytes;
  const auto slot = static_cast<double>(plan.slot.total());
  plan.slots = room > 0 && slot > 0 ? static_cast<int64_t>(room / slot) : 0;
  return plan;
}

}  // namespace based
