#include "tests/bench/cuda_model.h"

#include <algorithm>

namespace based {
namespace {

class Builder {
 public:
  explicit Builder(const BenchShape& shape) : shape_(shape) {}

  Program Build() {
    residual_ = AddBuffer(shape_.width, true);
    normed_ = AddBuffer(shape_.width);
    mixed_ = AddBuffer(2 * shape_.width);
    const WeightId table = AddWeight("embeddings", shape_.padded_vocab, shape_.width);
    program_.ops.push_back(EmbedOp{.table = table, .out = residual_});
    for (int32_t layer = 0; layer < shape_.layers; ++layer) {
      AddNorm();
      AddMixer(layer);
      AddNorm();
      AddMlp();
    }
    program_.ops.push_back(LogitsOp{.in = residual_,
                                    .norm_weight = AddWeight("ln_f", 1, shape_.width, 1.0f),
                                    .table = table,
                                    .vocab_size = shape_.vocab});
    program_.spare_tokens = 1;
    return program_;
  }

 private:
  BufferId AddBuffer(int32_t width, bool residual = false) {
    program_.buffers.push_back({.width = width, .residual = residual});
    return static_cast<BufferId>(program_.buffers.size() - 1);
  }

  // One buffer for each width in use.
  BufferId Wide(int32_t width) {
    for (size_t i = 3; i < program_.buffers.size(); ++i) {
      if (program_.buffers[i].width == width) return static_cast<BufferId>(i);
    }
    return AddBuffer(width);
  }

  WeightId AddWeight(const std::string& name, int64_t rows, int64_t cols, float mean = 0.0f) {
    const WeightId id = static_cast<WeightId>(program_.weights.size());
    program_.weights.push_back({.name = name,
                                .data = nullptr,
                                .dtype = DType::kBF16,
                                .rows = rows,
                                .cols = cols,
                                .synthetic_seed = static_cast<uint64_t>(id) + 1,
                                .synthetic_mean = mean,
                                .synthetic_stddev = 0.02f});
    return id;
  }

  void AddNorm() {
    program_.ops.push_back(NormOp{
        .in = residual_, .weight = AddWeight("norm", 1, shape_.width, 1.0f), .out = normed_});
  }

  void AddLinear(BufferId in, int32_t n, int32_t k, bool bias, Epilogue epilogue, BufferId out) {
    LinearOp op{.in = in, .weights = {AddWeight("linear", n, k)}, .epilogue = epilogue, .out = out};
    if (bias) op.bias = AddWeight("bias", 1, n);
    program_.ops.push_back(op);
  }

  void AddMixer(int32_t layer) {
    const auto in = [layer](const std::vector<int32_t>& layers) {
      return std::find(layers.begin(), layers.end(), layer) != layers.end();
    };
    const int32_t d = shape_.width;
    const int32_t head_dim = d / shape_.heads;
    if (in(shape_.window_layers)) {
      const BufferId qkv = Wide(3 * d);
      const BufferId out = Wide(d);
      AddLinear(normed_, 3 * d, d, false, Epilogue::kStore, qkv);
      program_.ops.push_back(WindowMixOp{.in = qkv,
                                         .heads = shape_.heads,
                                         .head_dim = head_dim,
                                         .window_left = shape_.window_left,
                                         .out = out});
      AddLinear(out, d, d, false, Epilogue::kAdd, residual_);
    } else if (in(shape_.linear_layers)) {
      const int32_t features = shape_.heads * shape_.feature_dim;
      const BufferId qkv = Wide(2 * features + d);
      const BufferId out = Wide(d);
      AddLinear(normed_, 2 * features + d, d, false, Epilogue::kStore, qkv);
      program_.ops.push_back(TaylorMixOp{.in = qkv,
                                         .heads = shape_.heads,
                                         .feature_dim = shape_.feature_dim,
                                         .head_dim = head_dim,
                                         .out = out});
      AddLinear(out, d, d, false, Epilogue::kAdd, residual_);
    } else {
      const BufferId projected = Wide(4 * d);
      AddLinear(normed_, 4 * d, d, true, Epilogue::kStore, projected);
      program_.ops.push_back(ConvMixOp{.in = projected,
                                       .taps = AddWeight("taps", 2 * d, 3, 0.3f),
                                       .channels = 2 * d,
                                       .kernel = 3,
                                       .out = mixed_});
      AddLinear(mixed_, d, 2 * d, true, Epilogue::kAdd, residual_);
    }
  }

  void AddMlp() {
    AddLinear(normed_, 4 * shape_.width, shape_.width, false, Epilogue::kSwiGlu, mixed_);
    AddLinear(mixed_, shape_.width, 2 * shape_.width, false, Epilogue::kAdd, residual_);
  }

  const BenchShape shape_;
  Program program_;
  BufferId residual_ = kNone;
  BufferId normed_ = kNone;
  BufferId mixed_ = kNone;
};

}  // namespace

BenchShape Based1B() { return {}; }

BenchShape Based360M() {
  return {.width = 1024,
          .layers = 27,
          .linear_layers = {1, 6, 11, 16, 21},
          .window_layers = {2, 7, 12, 17, 22}};
}

Program BenchProgram(const BenchShape& shape) { return Builder(shape).Build(); }

int64_t Parameters(const Program& program) {
  int64_t total = 0;
  for (const WeightView& weight : program.weights) total += weight.rows * weight.cols;
  return total;
}

}  // namespace based
