#include "tests/engine/synthetic_checkpoint.h"


#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/safetensors.h"
#include "gtest/gtest.h"
#include "kernels/base/check.h"

namespace based {
namespace {

using Json = nlohmann::json;

// The nearest value of the dtype towards zero; exact for the test's purposes.
uint16_t Narrow(float value, const std::string& dtype) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if (dtype == "BF16") return static_cast<uint16_t>(bits >> 16);
  const uint32_t sign = (bits >> 16) & 0x8000;
  const int32_t exponent = static_cast<int32_t>((bits >> 23) & 0xff) - 127 + 15;
  if (exponent <= 0) return static_cast<uint16_t>(sign);
  return static_cast<uint16_t>(sign | (static_cast<uint32_t>(exponent) << 10) |
                               ((bits >> 13) & 0x3ff));
}

class Maker {
 public:
  Maker(const SyntheticShape& shape, uint64_t seed, const SyntheticOptions& options)
      : shape_(shape), options_(options), random_(seed) {}

  SyntheticFiles Make() {
    MakeConfig();
    const int64_t d = shape_.d_model;
    Add("transformer.embeddings.word_embeddings.weight", {shape_.padded_vocab_size(), d}, 1.0);
    for (size_t i = 0; i < shape_.layers.size(); ++i) {
      const std::string layer = absl::StrCat("transformer.layers.", i, ".");
      AddMixer(layer + "mixer.", shape_.layers[i]);
      Add(layer + "norm1.weight", {d}, 0.1, 1.0);
      Add(layer + "norm2.weight", {d}, 0.1, 1.0);
      Add(layer + "mlp.fc1.weight", {2 * shape_.mlp_inner, d}, Scale(d));
      Add(layer + "mlp.fc2.weight", {d, shape_.mlp_inner}, Scale(shape_.mlp_inner));
    }
    Add("transformer.ln_f.weight", {d}, 0.1, 1.0);
    auto& tensors = files_.tensors;
    const std::string table = options_.prefix + "transformer.embeddings.word_embeddings.weight";
    if (options_.lm_head) tensors[options_.prefix + "lm_head.weight"] = tensors.at(table);
    if (!options_.embedding) tensors.erase(table);
    if (options_.extras) AddExtras();
    if (options_.edit) options_.edit(files_);
    return std::move(files_);
  }

 private:
  static double Scale(int64_t width) { return 1.0 / std::sqrt(static_cast<double>(width)); }

  void MakeConfig() {
    const std::string mixers = "based.models.mixers.";
    Json& config = files_.config;
    config = {{"model_type", "gpt2"},
              {"n_embd", shape_.d_model},
              {"n_layer", shape_.layers.size()},
              {"n_head", shape_.n_head},
              {"n_inner", 2 * shape_.d_model},
              {"n_positions", 0},
              {"vocab_size", shape_.vocab_size},
              {"pad_vocab_size_multiple", shape_.pad_vocab_size_multiple},
              {"layer_norm_epsilon", 1e-5},
              {"activation_function", "swiglu"},
              {"tie_word_embeddings", true},
              {"rms_norm", true},
              {"residual_in_fp32", true},
              {"rotary_emb_fraction", 1},
              {"mlp_fc1_bias", false},
              {"mlp_fc2_bias", false},
              {"out_proj_bias", false},
              {"qkv_proj_bias", false},
              {"bos_token_id", shape_.vocab_size - 1},
              {"eos_token_id", shape_.vocab_size - 1}};
    config["mixer"] = {{"_target_", mixers + "convolution.BaseConv"},
                       {"l_max", 2048},
                       {"use_bias", shape_.conv_bias},
                       {"expand_proj", 4},
                       {"kernel_sizes", 3}};
    config["alt_mixer"] = {
        {"_target_", mixers + "linear_attention.LinearAttention"},
        {"l_max", 2048},
        {"feature_dim", shape_.feature_dim},
        {"num_heads", shape_.linear_heads},
        {"feature_map",
         {{"_target_", mixers + "linear_attention.TaylorExp"}, {"input_dim", shape_.feature_dim}}}};
    if (shape_.linear_head_dim > 0) config["alt_mixer"]["head_dim"] = shape_.linear_head_dim;
    config["alt_mixer_2"] = {{"_target_", mixers + "slide_attention.SlidingAttention"},
                             {"window_size", shape_.window_size},
                             {"num_heads", shape_.window_heads},
                             {"causal", true}};
    config["alt_mixer_layers"] = Json::array();
    config["alt_mixer_2_layers"] = Json::array();
    for (size_t i = 0; i < shape_.layers.size(); ++i) {
      if (shape_.layers[i] == 'l') config["alt_mixer_layers"].push_back(i);
      if (shape_.layers[i] == 'w') config["alt_mixer_2_layers"].push_back(i);
    }
  }

  void AddMixer(const std::string& prefix, char kind) {
    const int64_t d = shape_.d_model;
    const int64_t channels = shape_.conv_channels;
    if (kind == 'c') {
      Add(prefix + "in_proj.weight", {2 * channels, d}, Scale(d));
      Add(prefix + "conv.conv.weight", {channels, 1, shape_.conv_kernel},
          Scale(shape_.conv_kernel));
      Add(prefix + "out_proj.weight", {d, channels}, Scale(channels));
      if (shape_.conv_bias) Add(prefix + "in_proj.bias", {2 * channels}, 0.1);
      if (shape_.conv_bias) Add(prefix + "out_proj.bias", {d}, 0.1);
    } else if (kind == 'l') {
      const int64_t features = int64_t{shape_.linear_heads} * shape_.feature_dim;
      const int64_t head_dim =
          shape_.linear_head_dim > 0 ? shape_.linear_head_dim : d / shape_.linear_heads;
      const int64_t values = shape_.linear_heads * head_dim;
      Add(prefix + "proj_q.weight", {features, d}, 1.5 * Scale(d));
      Add(prefix + "proj_k.weight", {features, d}, 1.5 * Scale(d));
      Add(prefix + "proj_v.weight", {values, d}, Scale(d));
      Add(prefix + "out_proj.weight", {d, values}, Scale(values));
    } else {
      BASED_CHECK(kind == 'w');
      Add(prefix + "Wqkv.weight", {3 * d, d}, 1.5 * Scale(d));
      Add(prefix + "out_proj.weight", {d, d}, Scale(d));
    }
  }

  void AddExtras() {
    files_.tensors[options_.prefix + "train_metrics.num-tokens.count"] = {
        .dtype = "I64", .shape = {}, .bytes = std::vector<std::byte>(8)};
    Add("transformer.decay.decay", {16}, 1.0);
    Add("transformer.layers.0.mixer.rotary_emb.inv_freq", {4}, 1.0);
  }

  void Add(const std::string& name, std::vector<int64_t> shape, double scale, double mean = 0.0) {
    int64_t count = 1;
    for (int64_t dim : shape) count *= dim;
    RawTensor tensor{.dtype = options_.dtype, .shape = std::move(shape), .bytes = {}};
    const size_t width = options_.dtype == "F32" ? 4 : 2;
    tensor.bytes.resize(static_cast<size_t>(count) * width);
    std::normal_distribution<float> normal(static_cast<float>(mean), static_cast<float>(scale));
    for (int64_t i = 0; i < count; ++i) {
      const float value = normal(random_);
      const uint16_t narrow = Narrow(value, options_.dtype);
      std::byte* at = tensor.bytes.data() + static_cast<size_t>(i) * width;
      std::memcpy(at, width == 4 ? static_cast<const void*>(&value) : &narrow, width);
    }
    files_.tensors[options_.prefix + name] = std::move(tensor);
  }

  const SyntheticShape& shape_;
  const SyntheticOptions& options_;
  std::mt19937_64 random_;
  SyntheticFiles files_;
};

void WriteTensors(const std::string& path, const std::map<std::string, RawTensor>& tensors,
                  int shard, int shards) {
  std::vector<OutputTensor> chosen;
  int index = 0;
  for (const auto& [name, tensor] : tensors) {
    if (index++ % shards != shard) continue;
    chosen.push_back(
        {.name = name, .dtype = tensor.dtype, .shape = tensor.shape, .bytes = tensor.bytes});
  }
  const absl::Status status = WriteSafetensors(path, chosen);
  BASED_CHECK(status.ok());
}

}  // namespace

int SyntheticShape::padded_vocab_size() const {
  const int multiple = pad_vocab_size_multiple;
  return (vocab_size + multiple - 1) / multiple * multiple;
}

int64_t SyntheticShape::parameters() const {
  int64_t total = 0;
  for (const auto& [name, tensor] : MakeCheckpoint(*this, 1).tensors) {
    total += static_cast<int64_t>(tensor.bytes.size()) / 4;
  }
  return total;
}

SyntheticFiles MakeCheckpoint(const SyntheticShape& shape, uint64_t seed,
                              const SyntheticOptions& options) {
  return Maker(shape, seed, options).Make();
}

void WriteCheckpoint(const std::string& dir, const SyntheticShape& shape, uint64_t seed,
                     const SyntheticOptions& options) {
  const SyntheticFiles files = MakeCheckpoint(shape, seed, options);
  std::filesystem::create_directories(dir);
  WriteFile(dir + "/config.json", files.config.dump(1));
  if (options.shards == 1) {
    WriteTensors(dir + "/model.safetensors", files.tensors, 0, 1);
    return;
  }
  Json weight_map = Json::object();
  const auto shard_name = [&options](int shard) {
    return absl::StrFormat("model-%05d-of-%05d.safetensors", shard + 1, options.shards);
  };
  int index = 0;
  for (const auto& [name, tensor] : files.tensors) {
    weight_map[name] = shard_name(index++ % options.shards);
  }
  for (int shard = 0; shard < options.shards; ++shard) {
    WriteTensors(absl::StrCat(dir, "/", shard_name(shard)), files.tensors, shard, options.shards);
  }
  WriteFile(dir + "/model.safetensors.index.json", Json{{"weight_map", weight_map}}.dump());
}

std::string NewTestDir() {
  // Never one that an earlier run left: process ids come again.
  std::string dir = absl::StrCat(testing::TempDir(), "based_test_XXXXXX");
  BASED_CHECK(mkdtemp(dir.data()) != nullptr);
  return dir;
}

void WriteFile(const std::string& path, const std::string& content) {
  std::ofstream stream(path, std::ios::binary);
  stream << content;
  stream.close();
  BASED_CHECK(stream.good());
}

std::string ReadFile(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(stream), {});
}

}  // namespace based
