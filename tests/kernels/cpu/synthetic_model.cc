#include "tests/kernels/cpu/synthetic_model.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

namespace based {
namespace {

// Nearest-even is not needed: any value of the type will do.
uint16_t ToBFloat16(float value) {
  return static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
}

// Normal numbers only; smaller ones become zero.
uint16_t ToHalf(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const int32_t exponent = static_cast<int32_t>((bits >> 23) & 0xFF) - 127 + 15;
  const uint32_t sign = (bits >> 16) & 0x8000;
  if (exponent <= 0) return static_cast<uint16_t>(sign);
  return static_cast<uint16_t>(sign | static_cast<uint32_t>(exponent) << 10 |
                               ((bits >> 13) & 0x3FF));
}

std::vector<std::byte> Encode(const std::vector<float>& values, DType dtype) {
  const size_t value_bytes = dtype == DType::kF32 ? 4 : 2;
  std::vector<std::byte> bytes(values.size() * value_bytes);
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t narrow = dtype == DType::kF16 ? ToHalf(values[i]) : ToBFloat16(values[i]);
    const void* from = dtype == DType::kF32 ? static_cast<const void*>(&values[i]) : &narrow;
    std::memcpy(&bytes[i * value_bytes], from, value_bytes);
  }
  return bytes;
}

}  // namespace

SyntheticModel::SyntheticModel(const ModelShape& shape) : shape_(shape), random_(shape.seed) {
  residual_ = AddBuffer(shape.width);
  normed_ = AddBuffer(shape.width);
  program_.buffers[0].residual = true;
  const WeightId table = AddWeight("embeddings", shape.padded_vocab, shape.width, 1.0f);
  program_.ops.push_back(EmbedOp{.table = table, .out = residual_});
  for (size_t i = 0; i < shape.layers.size(); ++i) {
    const std::string prefix = "layers." + std::to_string(i);
    AddNorm(prefix + ".norm1");
    AddMixer(shape.layers[i], prefix + ".mixer");
    AddNorm(prefix + ".norm2");
    AddMlp(prefix + ".mlp");
  }
  program_.ops.push_back(LogitsOp{.in = residual_,
                                  .norm_weight = AddWeight("ln_f", 1, shape.width, 0.3f, 1.0f),
                                  .eps = 1e-5,
                                  .table = table,
                                  .vocab_size = shape.vocab});
}

WeightId SyntheticModel::AddWeight(const std::string& name, int64_t rows, int64_t cols,
                                   float spread, float middle) {
  std::normal_distribution<float> normal(middle, spread);
  std::vector<float> values(static_cast<size_t>(rows * cols));
  for (float& value : values) value = normal(random_);
  storage_.push_back(Encode(values, shape_.dtype));
  parameters_ += rows * cols;
  program_.weights.push_back({name, storage_.back().data(), shape_.dtype, rows, cols});
  return static_cast<WeightId>(program_.weights.size() - 1);
}

BufferId SyntheticModel::AddBuffer(int32_t width) {
  program_.buffers.push_back({.width = width});
  return static_cast<BufferId>(program_.buffers.size() - 1);
}

void SyntheticModel::AddNorm(const std::string& name) {
  const WeightId weight = AddWeight(name, 1, shape_.width, 0.3f, 1.0f);
  program_.ops.push_back(NormOp{.in = residual_, .weight = weight, .eps = 1e-5, .out = normed_});
}

void SyntheticModel::AddLinear(BufferId in, std::vector<WeightId> weights, WeightId bias,
                               Epilogue epilogue, BufferId out) {
  LinearOp op;
  op.in = in;
  op.weights = std::move(weights);
  op.bias = bias;
  op.epilogue = epilogue;
  op.out = out;
  program_.ops.emplace_back(std::move(op));
}

void SyntheticModel::AddMixer(char kind, const std::string& prefix) {
  if (kind == 'c') return AddConv(prefix);
  if (kind == 'l') return AddLinearAttention(prefix);
  AddWindow(prefix);
}

void SyntheticModel::AddConv(const std::string& prefix) {
  const int32_t channels = 2 * shape_.width;
  const float spread = 1.0f / std::sqrt(static_cast<float>(shape_.width));
  const BufferId in = AddBuffer(2 * channels);
  const BufferId out = AddBuffer(channels);
  const WeightId in_proj = AddWeight(prefix + ".in_proj", 2 * channels, shape_.width, spread);
  const WeightId in_bias = AddWeight(prefix + ".in_bias", 1, 2 * channels, 0.1f);
  AddLinear(normed_, {in_proj}, in_bias, Epilogue::kStore, in);
  program_.ops.push_back(ConvMixOp{.in = in,
                                   .taps = AddWeight(prefix + ".taps", channels, 3, 0.5f),
                                   .channels = channels,
                                   .kernel = 3,
                                   .out = out});
  const WeightId out_proj = AddWeight(prefix + ".out_proj", shape_.width, channels, spread);
  const WeightId out_bias = AddWeight(prefix + ".out_bias", 1, shape_.width, 0.1f);
  AddLinear(out, {out_proj}, out_bias, Epilogue::kAdd, residual_);
}

void SyntheticModel::AddLinearAttention(const std::string& prefix) {
  const int32_t keys = shape_.heads * shape_.feature_dim;
  const float spread = 1.0f / std::sqrt(static_cast<float>(shape_.width));
  const BufferId in = AddBuffer(2 * keys + shape_.width);
  const BufferId out = AddBuffer(shape_.width);
  const WeightId q = AddWeight(prefix + ".proj_q", keys, shape_.width, spread);
  const WeightId k = AddWeight(prefix + ".proj_k", keys, shape_.width, spread);
  const WeightId v = AddWeight(prefix + ".proj_v", shape_.width, shape_.width, spread);
  AddLinear(normed_, {q, k, v}, kNone, Epilogue::kStore, in);
  program_.ops.push_back(TaylorMixOp{.in = in,
                                     .heads = shape_.heads,
                                     .feature_dim = shape_.feature_dim,
                                     .head_dim = shape_.width / shape_.heads,
                                     .eps = 1e-12,
                                     .out = out});
  const WeightId out_proj = AddWeight(prefix + ".out_proj", shape_.width, shape_.width, spread);
  AddLinear(out, {out_proj}, kNone, Epilogue::kAdd, residual_);
}

void SyntheticModel::AddWindow(const std::string& prefix) {
  const float spread = 1.0f / std::sqrt(static_cast<float>(shape_.width));
  const BufferId in = AddBuffer(3 * shape_.width);
  const BufferId out = AddBuffer(shape_.width);
  const WeightId qkv = AddWeight(prefix + ".Wqkv", 3 * shape_.width, shape_.width, spread);
  AddLinear(normed_, {qkv}, kNone, Epilogue::kStore, in);
  program_.ops.push_back(WindowMixOp{.in = in,
                                     .heads = shape_.heads,
                                     .head_dim = shape_.width / shape_.heads,
                                     .window_left = shape_.window_left,
                                     .rope_base = 10000.0,
                                     .out = out});
  const WeightId out_proj = AddWeight(prefix + ".out_proj", shape_.width, shape_.width, spread);
  AddLinear(out, {out_proj}, kNone, Epilogue::kAdd, residual_);
}

void SyntheticModel::AddMlp(const std::string& prefix) {
  const int32_t inner = 2 * shape_.width;
  const float spread = 1.0f / std::sqrt(static_cast<float>(shape_.width));
  const BufferId hidden = AddBuffer(inner);
  const WeightId fc1 = AddWeight(prefix + ".fc1", 2 * inner, shape_.width, spread);
  const WeightId fc2 = AddWeight(prefix + ".fc2", shape_.width, inner, spread);
  AddLinear(normed_, {fc1}, kNone, Epilogue::kSwiGlu, hidden);
  AddLinear(hidden, {fc2}, kNone, Epilogue::kAdd, residual_);
}

}  // namespace based
