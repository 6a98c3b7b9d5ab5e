// config.json of a published BASED checkpoint, checked and reduced to what the Program needs.
// FORMAT.md lists the fields.
#ifndef BASED_ENGINE_MODEL_CONFIG_H_
#define BASED_ENGINE_MODEL_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace based {

enum class Mixer : uint8_t { kConv, kLinearAttention, kSlidingWindow };

// The class as config.json names it: "BaseConv", "LinearAttention", "SlidingAttention".
const char* MixerName(Mixer mixer);

// Names as in the checkpoint's dialect where it has one.
struct ModelConfig {
  int32_t d_model = 0;            // n_embd
  int32_t vocab_size = 0;         // ids at or above are never sampled
  int32_t padded_vocab_size = 0;  // vocab_size rounded up to pad_vocab_size_multiple
  double norm_eps = 1e-5;         // layer_norm_epsilon
  int32_t bos_token_id = -1;      // -1: none
  int32_t eos_token_id = -1;      // -1: none
  std::vector<Mixer> layers;      // n_layer of them; alt_mixer_2_layers wins over alt_mixer_layers

  bool conv_bias = true;        // BaseConv.use_bias: in_proj and out_proj have a bias
  int32_t linear_heads = 0;     // LinearAttention.num_heads
  int32_t linear_head_dim = 0;  // LinearAttention.head_dim; 0: as the tensors have it
  int32_t feature_dim = 0;      // LinearAttention.feature_dim
  double linear_eps = 1e-12;    // LinearAttention.eps
  int32_t window_heads = 0;     // SlidingAttention.num_heads
  int32_t window_size = 0;      // SlidingAttention.window_size; W = window_size / 2 to the left
  double rope_base = 10000.0;   // rotary_emb_base

  std::vector<std::string> warnings;  // e.g. fixed_decay set and ignored
};

// Largest values that are believed; anything above is a damaged file, not a model.
inline constexpr int32_t kMaxLayers = 1024;
inline constexpr int32_t kMaxModelWidth = 65'536;      // n_embd
inline constexpr int32_t kMaxVocabulary = 10'000'000;  // padded
inline constexpr int32_t kMaxHeads = 4096;
inline constexpr int32_t kMaxFeatureDim = 256;  // 33,153 packed features
inline constexpr int32_t kMaxWindowSize = 16'777'216;

// `json` is the whole text; `path` is for messages only. INVALID_ARGUMENT names the field, what it
// holds and what was expected; unknown mixer classes are refused by name. Fields of heads,
// feature_dim and window are required only when a layer uses that mixer.
absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view json, std::string_view path);

// ParseModelConfig over the file `path`. NOT_FOUND when it is not there.
absl::StatusOr<ModelConfig> LoadModelConfig(const std::string& path);

}  // namespace based

#endif  // BASED_ENGINE_MODEL_CONFIG_H_
