#include "engine/program_builder.h"

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"

namespace based {
namespace {

constexpr int64_t kAny = -1;            // a width that the tensor decides
constexpr int64_t kMaxWidth = 1 << 20;  // of such a width
constexpr int64_t kMaxKernel = 64;      // convolution taps
// The engine keeps up to two steps in flight, so a sequence overruns its stop by at most one token.
constexpr int32_t kSpareTokens = 1;

std::optional<DType> WeightType(std::string_view dtype) {
  if (dtype == "F32") return DType::kF32;
  if (dtype == "F16") return DType::kF16;
  if (dtype == "BF16") return DType::kBF16;
  return std::nullopt;
}

// The tensor whose presence tells a mixer's class.
const char* Telltale(Mixer mixer) {
  switch (mixer) {
    case Mixer::kConv:
      return "in_proj.weight";
    case Mixer::kLinearAttention:
      return "proj_q.weight";
    case Mixer::kSlidingWindow:
      return "Wqkv.weight";
  }
  return "";
}

// Appends ops, weights and buffers. The first error sticks; after it every call does nothing useful
// and returns values that are safe to go on with.
class ProgramBuilder {
 public:
  ProgramBuilder(const ModelConfig& config, const TensorTable& table)
      : config_(config), table_(table) {}

  absl::StatusOr<Program> Build() {
    program_.spare_tokens = kSpareTokens;
    residual_ = NewBuffer(config_.d_model, /*residual=*/true);
    normed_ = NewBuffer(config_.d_model, /*residual=*/false);
    const WeightId embedding =
        Take(std::string(kEmbeddingName), {config_.padded_vocab_size, config_.d_model});
    program_.ops.push_back(EmbedOp{.table = embedding, .out = residual_});
    for (size_t layer = 0; layer < config_.layers.size() && status_.ok(); ++layer) {
      AddLayer(absl::StrCat("transformer.layers.", layer, "."), layer);
    }
    program_.ops.push_back(
        LogitsOp{.in = residual_,
                 .norm_weight = Take("transformer.ln_f.weight", {config_.d_model}),
                 .eps = config_.norm_eps,
                 .table = embedding,
                 .vocab_size = config_.vocab_size});
    if (status_.ok()) CheckAllTaken();
    BASED_RETURN_IF_ERROR(status_);
    return std::move(program_);
  }

 private:
  void AddLayer(const std::string& prefix, size_t layer) {
    const Mixer mixer = config_.layers[layer];
    CheckMixerTensors(prefix, layer, mixer);
    AddNorm(prefix + "norm1.weight");
    switch (mixer) {
      case Mixer::kConv:
        AddConv(prefix + "mixer.");
        break;
      case Mixer::kLinearAttention:
        AddLinearAttention(prefix + "mixer.");
        break;
      case Mixer::kSlidingWindow:
        AddSlidingWindow(prefix + "mixer.");
        break;
    }
    AddNorm(prefix + "norm2.weight");
    AddMlp(prefix + "mlp.");
  }

  void AddNorm(const std::string& name) {
    program_.ops.push_back(NormOp{.in = residual_,
                                  .weight = Take(name, {config_.d_model}),
                                  .eps = config_.norm_eps,
                                  .out = normed_});
  }

  void AddConv(const std::string& prefix) {
    const std::string taps_name = prefix + "conv.conv.weight";
    const WeightId taps = Take(taps_name, {kAny, 1, kAny});
    const int64_t channels = Rows(taps);
    const int64_t kernel = Cols(taps);
    if (kernel > kMaxKernel) {
      Fail(taps_name, absl::StrCat(kernel, " taps, at most ", kMaxKernel, " expected"));
    }
    const BufferId projected = Scratch(kProjected, 2 * channels);
    const BufferId mixed = Scratch(kMixed, channels);
    AddLinear(normed_, {Take(prefix + "in_proj.weight", {2 * channels, config_.d_model})},
              ConvBias(prefix + "in_proj.bias", 2 * channels), Epilogue::kStore, projected);
    program_.ops.push_back(ConvMixOp{.in = projected,
                                     .taps = taps,
                                     .channels = static_cast<int32_t>(channels),
                                     .kernel = static_cast<int32_t>(kernel),
                                     .out = mixed});
    AddLinear(mixed, {Take(prefix + "out_proj.weight", {config_.d_model, channels})},
              ConvBias(prefix + "out_proj.bias", config_.d_model), Epilogue::kAdd, residual_);
  }

  void AddLinearAttention(const std::string& prefix) {
    const int64_t heads = config_.linear_heads;
    const int64_t features = heads * config_.feature_dim;
    const int64_t fixed_head_dim = config_.linear_head_dim;
    const std::string v_name = prefix + "proj_v.weight";
    const WeightId q = Take(prefix + "proj_q.weight", {features, config_.d_model});
    const WeightId k = Take(prefix + "proj_k.weight", {features, config_.d_model});
    const WeightId v =
        Take(v_name, {fixed_head_dim > 0 ? heads * fixed_head_dim : kAny, config_.d_model});
    const int64_t values = Rows(v);
    const int64_t head_dim = HeadDim(v_name, values, heads);
    const BufferId projected = Scratch(kProjected, 2 * features + values);
    const BufferId mixed = Scratch(kMixed, values);
    AddLinear(normed_, {q, k, v}, kNone, Epilogue::kStore, projected);
    program_.ops.push_back(TaylorMixOp{.in = projected,
                                       .heads = config_.linear_heads,
                                       .feature_dim = config_.feature_dim,
                                       .head_dim = static_cast<int32_t>(head_dim),
                                       .eps = config_.linear_eps,
                                       .out = mixed});
    AddLinear(mixed, {Take(prefix + "out_proj.weight", {config_.d_model, values})}, kNone,
              Epilogue::kAdd, residual_);
  }

  void AddSlidingWindow(const std::string& prefix) {
    const std::string name = prefix + "Wqkv.weight";
    const WeightId qkv = Take(name, {kAny, config_.d_model});
    const int64_t rows = Rows(qkv);
    if (rows % 3 != 0) Fail(name, absl::StrCat(rows, " rows, expected a multiple of 3 (q, k, v)"));
    const int64_t values = rows / 3;
    const int64_t head_dim = HeadDim(name, values, config_.window_heads);
    if (head_dim % 2 != 0) {
      Fail(name, absl::StrCat("head dim ", head_dim, ", expected an even one (rotary pairs)"));
    }
    const BufferId projected = Scratch(kProjected, rows);
    const BufferId mixed = Scratch(kMixed, values);
    AddLinear(normed_, {qkv}, kNone, Epilogue::kStore, projected);
    program_.ops.push_back(WindowMixOp{.in = projected,
                                       .heads = config_.window_heads,
                                       .head_dim = static_cast<int32_t>(head_dim),
                                       .window_left = config_.window_size / 2,
                                       .rope_base = config_.rope_base,
                                       .out = mixed});
    AddLinear(mixed, {Take(prefix + "out_proj.weight", {config_.d_model, values})}, kNone,
              Epilogue::kAdd, residual_);
  }

  void AddMlp(const std::string& prefix) {
    // n_inner is not asked: the published module rounds it up to a multiple of 256.
    const WeightId fc2 = Take(prefix + "fc2.weight", {config_.d_model, kAny});
    const int64_t inner = Cols(fc2);
    const BufferId activated = Scratch(kActivated, inner);
    AddLinear(normed_, {Take(prefix + "fc1.weight", {2 * inner, config_.d_model})}, kNone,
              Epilogue::kSwiGlu, activated);
    AddLinear(activated, {fc2}, kNone, Epilogue::kAdd, residual_);
  }

  void AddLinear(BufferId in, std::vector<WeightId> weights, WeightId bias, Epilogue epilogue,
                 BufferId out) {
    program_.ops.push_back(LinearOp{
        .in = in, .weights = std::move(weights), .bias = bias, .epilogue = epilogue, .out = out});
  }

  WeightId ConvBias(const std::string& name, int64_t width) {
    return config_.conv_bias ? Take(name, {width}) : kNone;
  }

  // The tensor as a weight: [n] becomes one row, [C, 1, K] becomes C rows. `shape` holds kAny where
  // the tensor decides.
  WeightId Take(const std::string& name, const std::vector<int64_t>& shape) {
    if (!status_.ok()) return kNone;
    const auto found = table_.entries.find(name);
    if (found == table_.entries.end()) {
      Fail(name, absl::StrCat("missing, expected shape ", Expected(shape)));
      return kNone;
    }
    const Tensor& tensor = found->second.tensor;
    const std::optional<DType> dtype = WeightType(tensor.dtype);
    if (!dtype) {
      Fail(name, absl::StrCat("dtype ", tensor.dtype, ", expected F32, F16 or BF16"));
      return kNone;
    }
    bool fits = tensor.shape.size() == shape.size();
    for (size_t i = 0; fits && i < shape.size(); ++i) {
      const int64_t dim = tensor.shape[i];
      fits = shape[i] == kAny ? dim >= 1 && dim <= kMaxWidth : dim == shape[i];
    }
    if (!fits) {
      Fail(name, absl::StrCat("shape ", ShapeString(tensor.shape), ", expected ", Expected(shape)));
      return kNone;
    }
    taken_.insert(name);
    program_.weights.push_back({.name = name,
                                .data = tensor.bytes.data(),
                                .dtype = *dtype,
                                .rows = shape.size() == 1 ? 1 : tensor.shape.front(),
                                .cols = tensor.shape.back()});
    return static_cast<WeightId>(program_.weights.size()) - 1;
  }

  static std::string Expected(const std::vector<int64_t>& shape) {
    std::string text = "[";
    for (int64_t dim : shape) {
      absl::StrAppend(&text, text.size() > 1 ? ", " : "", dim == kAny ? "any" : absl::StrCat(dim));
    }
    return text + "]";
  }

  int64_t Rows(WeightId weight) const {
    return weight == kNone ? 1 : program_.weights[weight].rows;
  }
  int64_t Cols(WeightId weight) const {
    return weight == kNone ? 1 : program_.weights[weight].cols;
  }

  int64_t HeadDim(const std::string& name, int64_t width, int64_t heads) {
    if (width % heads == 0) return width / heads;
    Fail(name, absl::StrCat("width ", width, ", expected a multiple of num_heads = ", heads));
    return 1;
  }

  BufferId NewBuffer(int64_t width, bool residual) {
    program_.buffers.push_back({.width = static_cast<int32_t>(width), .residual = residual});
    return static_cast<BufferId>(program_.buffers.size()) - 1;
  }

  // What a buffer of scratch holds; layers share those of equal role and width.
  enum Role { kProjected, kMixed, kActivated };
  BufferId Scratch(Role role, int64_t width) {
    const auto [at, fresh] = scratch_.emplace(std::pair(role, width), kNone);
    if (fresh) at->second = NewBuffer(width, /*residual=*/false);
    return at->second;
  }

  // A better message than a missing tensor where config.json and the tensors disagree on the class.
  void CheckMixerTensors(const std::string& prefix, size_t layer, Mixer mixer) {
    const auto has = [&](Mixer kind) {
      return table_.entries.contains(absl::StrCat(prefix, "mixer.", Telltale(kind)));
    };
    if (has(mixer)) return;
    for (Mixer other : {Mixer::kConv, Mixer::kLinearAttention, Mixer::kSlidingWindow}) {
      if (!has(other)) continue;
      Fail(absl::StrCat(prefix, "mixer.", Telltale(other)),
           absl::StrCat("belongs to ", MixerName(other), ", but config.json makes layer ", layer,
                        " a ", MixerName(mixer)));
    }
  }

  void CheckAllTaken() {
    for (const auto& [name, entry] : table_.entries) {
      if (!taken_.contains(name)) Fail(name, "unexpected: no part of the configured model uses it");
    }
  }

  void Fail(const std::string& name, absl::string_view reason) {
    const auto found = table_.entries.find(name);
    const std::string& file =
        found != table_.entries.end() ? found->second.file : table_.files.front().path();
    const std::string& shown = found != table_.entries.end() ? found->second.name : name;
    status_.Update(
        absl::InvalidArgumentError(absl::StrCat(file, ": tensor '", shown, "': ", reason)));
  }

  const ModelConfig& config_;
  const TensorTable& table_;
  absl::Status status_;
  Program program_;
  std::set<std::string, std::less<>> taken_;
  std::map<std::pair<Role, int64_t>, BufferId> scratch_;
  BufferId residual_ = kNone;
  BufferId normed_ = kNone;
};

}  // namespace

absl::StatusOr<Program> BuildProgram(const ModelConfig& config, const TensorTable& table) {
  return ProgramBuilder(config, table).Build();
}

}  // namespace based
