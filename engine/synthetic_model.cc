#include "engine/synthetic_model.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/program_builder.h"
#include "engine/tensor_table.h"
#include "kernels/base/status.h"

namespace based {
namespace {

constexpr std::string_view kPrefix = "synthetic:";
constexpr float kStddev = 0.02f;  // GPT-2's initialisation
constexpr float kTapsMean = 0.3f;

// The released checkpoints (360M and both 1.3B), window_size as in their reference configurations.
struct PublishedShape {
  const char* name;
  int32_t d_model;
  int32_t n_layer;
  std::vector<int32_t> linear_layers;
  std::vector<int32_t> window_layers;
};

const std::array<PublishedShape, 2>& Shapes() {
  static const auto* shapes = new std::array<PublishedShape, 2>{{
      {"based-360m", 1024, 27, {1, 6, 11, 16, 21}, {2, 7, 12, 17, 22}},
      {"based-1b", 1792, 36, {1, 6, 11, 16, 21, 27, 33}, {2, 7, 12, 17, 22, 28, 34}},
  }};
  return *shapes;
}

// The tensors of a checkpoint with nothing behind them.
class TableBuilder {
 public:
  explicit TableBuilder(const ModelConfig& config) : config_(config) {}

  TensorTable Build() {
    const int64_t d = config_.d_model;
    Add(std::string(kEmbeddingName), {config_.padded_vocab_size, d});
    Add("transformer.ln_f.weight", {d});
    for (size_t layer = 0; layer < config_.layers.size(); ++layer) {
      const std::string prefix = absl::StrCat("transformer.layers.", layer, ".");
      Add(prefix + "norm1.weight", {d});
      Add(prefix + "norm2.weight", {d});
      Add(prefix + "mlp.fc1.weight", {4 * d, d});
      Add(prefix + "mlp.fc2.weight", {d, 2 * d});
      AddMixer(prefix + "mixer.", config_.layers[layer]);
    }
    return std::move(table_);
  }

 private:
  void AddMixer(const std::string& prefix, Mixer mixer) {
    const int64_t d = config_.d_model;
    const int64_t features = int64_t{config_.linear_heads} * config_.feature_dim;
    switch (mixer) {
      case Mixer::kConv:
        Add(prefix + "in_proj.weight", {4 * d, d});
        Add(prefix + "in_proj.bias", {4 * d});
        Add(prefix + "conv.conv.weight", {2 * d, 1, 3});
        Add(prefix + "out_proj.weight", {d, 2 * d});
        Add(prefix + "out_proj.bias", {d});
        return;
      case Mixer::kLinearAttention:
        Add(prefix + "proj_q.weight", {features, d});
        Add(prefix + "proj_k.weight", {features, d});
        Add(prefix + "proj_v.weight", {d, d});
        Add(prefix + "out_proj.weight", {d, d});
        return;
      case Mixer::kSlidingWindow:
        Add(prefix + "Wqkv.weight", {3 * d, d});
        Add(prefix + "out_proj.weight", {d, d});
        return;
    }
  }

  void Add(const std::string& name, std::vector<int64_t> shape) {
    TableEntry entry{.file = "synthetic", .name = name, .tensor = {}};
    entry.tensor.dtype = "BF16";
    entry.tensor.shape = std::move(shape);
    table_.entries.emplace(name, std::move(entry));
  }

  const ModelConfig& config_;
  TensorTable table_;
};

float Mean(const std::string& name) {
  if (name.find("norm") != std::string::npos || name.find("ln_f") != std::string::npos) return 1.0f;
  return name.find("conv.conv") != std::string::npos ? kTapsMean : 0.0f;
}

}  // namespace

bool IsSynthetic(std::string_view model_dir) {
  return model_dir.substr(0, kPrefix.size()) == kPrefix;
}

absl::StatusOr<ModelConfig> SyntheticConfig(const std::string& model_dir) {
  std::string known;
  for (const PublishedShape& shape : Shapes()) {
    absl::StrAppend(&known, known.empty() ? "" : ", ", std::string(kPrefix), shape.name);
    if (model_dir != absl::StrCat(std::string(kPrefix), shape.name)) continue;
    ModelConfig config;
    config.d_model = shape.d_model;
    config.vocab_size = 50257;
    config.padded_vocab_size = 50264;
    config.bos_token_id = config.eos_token_id = 50256;
    config.layers.assign(static_cast<size_t>(shape.n_layer), Mixer::kConv);
    for (const int32_t layer : shape.linear_layers) config.layers[layer] = Mixer::kLinearAttention;
    for (const int32_t layer : shape.window_layers) config.layers[layer] = Mixer::kSlidingWindow;
    config.linear_heads = config.window_heads = 16;
    config.feature_dim = 16;
    config.window_size = 256;
    return config;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown synthetic model '", model_dir, "'; expected one of ", known));
}

absl::StatusOr<Checkpoint> SyntheticCheckpoint(const std::string& model_dir,
                                               const ModelConfig& config) {
  Checkpoint checkpoint;
  BASED_ASSIGN_OR_RETURN(checkpoint.program, BuildProgram(config, TableBuilder(config).Build()));
  uint64_t seed = 0;
  for (WeightView& weight : checkpoint.program.weights) {
    weight.data = nullptr;
    weight.synthetic_seed = ++seed;
    weight.synthetic_mean = Mean(weight.name);
    weight.synthetic_stddev = kStddev;
    checkpoint.parameters += weight.rows * weight.cols;
  }
  checkpoint.digest = model_dir;
  return checkpoint;
}

}  // namespace based
