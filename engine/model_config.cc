#include "engine/model_config.h"

#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/json_fields.h"
#include "engine/json_file.h"
#include "kernels/base/status.h"

namespace based {
namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 16;
constexpr int32_t kMaxPadMultiple = 65'536;

constexpr std::array kMixers = {Mixer::kConv, Mixer::kLinearAttention, Mixer::kSlidingWindow};

std::string_view LastComponent(std::string_view target) {
  const size_t dot = target.rfind('.');
  return dot == std::string_view::npos ? target : target.substr(dot + 1);
}

// One of the three places that describe a mixer.
struct MixerSlot {
  const char* field;
  const Json* json = nullptr;  // null: not in the file
  Mixer mixer = Mixer::kConv;
  bool used = false;  // by at least one layer
};

// A switch of the dialect that changes the mathematics: only `served` is implemented, and an absent
// field means `fallback`.
struct Switch {
  const char* field;
  bool served;
  bool fallback;
};

constexpr Switch kSwitches[] = {
    {"rms_norm", true, false},
    {"tie_word_embeddings", true, true},
    {"prenorm", true, true},
    {"parallel_block", false, false},
    {"scale_attn_weights", true, true},
    {"scale_attn_by_inverse_layer_idx", false, false},
    {"rotary_emb_interleaved", false, false},
    {"lm_head_bias", false, false},
    {"mlp_fc1_bias", false, false},
    {"mlp_fc2_bias", false, false},
    {"out_proj_bias", false, false},
    {"qkv_proj_bias", false, false},
};

void CheckSwitches(JsonFields& fields) {
  for (const Switch& item : kSwitches) {
    const char* served =
        item.served ? "true (nothing else is served)" : "false (nothing else is served)";
    if (fields.BoolOr(item.field, item.fallback) == item.served) continue;
    const Json* value = fields.Find(item.field);
    if (value == nullptr) {
      fields.Missing(item.field, served);
    } else {
      fields.Wrong(item.field, *value, served);
    }
  }
  const auto only = [&fields](const char* field, const char* fallback, const char* served) {
    if (fields.StringOr(field, fallback) == served) return;
    const std::string expected = absl::StrCat("\"", served, "\"");
    const Json* value = fields.Find(field);
    if (value == nullptr) {
      fields.Missing(field, expected);
    } else {
      fields.Wrong(field, *value, expected);
    }
  };
  only("activation_function", "gelu_new", "swiglu");
  only("mlp_type", "base", "base");
  fields.IntOr("n_positions", 0, 0, 0);              // learned positions are not served
  fields.IntOr("max_position_embeddings", 0, 0, 0);  // the same under its other name
  if (const Json* value = fields.Find("rotary_emb_scale_base")) {
    fields.Wrong("rotary_emb_scale_base", *value, "null");
  }
}

void ReadLinearAttention(const MixerSlot& slot, const std::string& path, ModelConfig& config,
                         absl::Status& status) {
  const std::string prefix = absl::StrCat(slot.field, ".");
  JsonFields fields(*slot.json, path, prefix);
  config.linear_heads = fields.Int("num_heads", 1, kMaxHeads);
  config.feature_dim = fields.Int("feature_dim", 1, kMaxFeatureDim);
  config.linear_head_dim = fields.IntOr("head_dim", 1, kMaxModelWidth, 0);
  config.linear_eps = fields.NumberOr("eps", 0.0, 1e-3, 1e-12);
  fields.IntOr("num_key_value_heads", config.linear_heads, config.linear_heads, 0);
  if (const Json* map = fields.Object("feature_map")) {
    JsonFields map_fields(*map, path, prefix + "feature_map.");
    const std::string target = map_fields.String("_target_");
    if (map_fields.status().ok() && LastComponent(target) != "TaylorExp") {
      map_fields.Wrong("_target_", Json(target), "the feature map TaylorExp");
    }
    map_fields.IntOr("input_dim", config.feature_dim, config.feature_dim, 0);
    status.Update(fields.status());
    status.Update(map_fields.status());
  }
  status.Update(fields.status());
}

void ReadSlidingAttention(const MixerSlot& slot, const std::string& path, JsonFields& root,
                          ModelConfig& config, absl::Status& status) {
  JsonFields fields(*slot.json, path, absl::StrCat(slot.field, "."));
  config.window_heads = fields.Int("num_heads", 1, kMaxHeads);
  config.window_size = fields.Int("window_size", 1, kMaxWindowSize);
  fields.IntOr("num_heads_kv", config.window_heads, config.window_heads, 0);
  if (!fields.BoolOr("causal", true)) fields.Wrong("causal", Json(false), "true");
  status.Update(fields.status());

  config.rope_base = root.NumberOr("rotary_emb_base", 1.0, 1e12, 10000.0);
  if (root.Find("rotary_emb_fraction") == nullptr) {
    root.Missing("rotary_emb_fraction", "1 (rotary embedding over the whole head)");
  }
  root.NumberOr("rotary_emb_fraction", 1.0, 1.0, 1.0);
  root.IntOr("n_head_kv", config.window_heads, config.window_heads, 0);
  const int32_t n_head = root.IntOr("n_head", 1, kMaxHeads, config.window_heads);
  if (n_head != config.window_heads) {
    config.warnings.push_back(absl::StrCat(slot.field, ".num_heads = ", config.window_heads,
                                           " is used; n_head = ", n_head, " is ignored"));
  }
}

void ReadConv(const MixerSlot& slot, const std::string& path, ModelConfig& config,
              absl::Status& status) {
  JsonFields fields(*slot.json, path, absl::StrCat(slot.field, "."));
  config.conv_bias = fields.BoolOr("use_bias", true);
  // The fused kernel of the training code adds a convolution bias.
  if (fields.BoolOr("use_cuda", false)) fields.Wrong("use_cuda", Json(true), "false");
  status.Update(fields.status());
}

// Which class a slot names. An unknown one is refused whether a layer uses it or not.
void ReadTarget(MixerSlot& slot, const std::string& path, JsonFields& root, absl::Status& status) {
  slot.json = root.Object(slot.field);
  if (slot.json == nullptr) return;
  JsonFields fields(*slot.json, path, absl::StrCat(slot.field, "."));
  const std::string target = fields.String("_target_");
  for (Mixer mixer : kMixers) {
    if (LastComponent(target) == MixerName(mixer)) {
      slot.mixer = mixer;
      return;
    }
  }
  if (fields.status().ok()) {
    fields.Wrong("_target_", Json(target),
                 "one of the mixers BaseConv, LinearAttention, SlidingAttention");
  }
  status.Update(fields.status());
}

// Fills config.layers and marks the slots in use.
void DispatchLayers(std::array<MixerSlot, 3>& slots, int32_t layer_count, JsonFields& root,
                    ModelConfig& config) {
  std::vector<int> choice(static_cast<size_t>(layer_count), 0);
  const int32_t last = layer_count - 1;
  for (int32_t layer : root.IntsOr("alt_mixer_layers", 0, last)) choice[layer] = 1;
  for (int32_t layer : root.IntsOr("alt_mixer_2_layers", 0, last)) choice[layer] = 2;
  for (int which : choice) {
    MixerSlot& slot = slots[static_cast<size_t>(which)];
    slot.used = true;
    if (slot.json == nullptr) root.Missing(slot.field, "an object: a layer uses it");
    config.layers.push_back(slot.mixer);
  }
}

void ReadMixers(const std::string& path, int32_t layer_count, JsonFields& root, ModelConfig& config,
                absl::Status& status) {
  std::array<MixerSlot, 3> slots = {MixerSlot{.field = "mixer"}, MixerSlot{.field = "alt_mixer"},
                                    MixerSlot{.field = "alt_mixer_2"}};
  for (MixerSlot& slot : slots) ReadTarget(slot, path, root, status);
  DispatchLayers(slots, layer_count, root, config);
  status.Update(root.status());
  const MixerSlot* reader[kMixers.size()] = {};
  for (const MixerSlot& slot : slots) {
    if (!slot.used || !status.ok()) continue;
    const MixerSlot*& first = reader[static_cast<size_t>(slot.mixer)];
    if (first != nullptr && *first->json != *slot.json) {
      root.Wrong(slot.field, *slot.json,
                 absl::StrCat("the same ", MixerName(slot.mixer), " as ", first->field));
    }
    if (first != nullptr) continue;
    first = &slot;
    switch (slot.mixer) {
      case Mixer::kConv:
        ReadConv(slot, path, config, status);
        break;
      case Mixer::kLinearAttention:
        ReadLinearAttention(slot, path, config, status);
        break;
      case Mixer::kSlidingWindow:
        ReadSlidingAttention(slot, path, root, config, status);
        break;
    }
  }
  status.Update(root.status());
}

void ReadVocabulary(const std::string& path, JsonFields& root, ModelConfig& config,
                    absl::Status& status) {
  config.vocab_size = root.Int("vocab_size", 1, kMaxVocabulary);
  const int32_t multiple = root.IntOr("pad_vocab_size_multiple", 1, kMaxPadMultiple, 1);
  config.padded_vocab_size = (config.vocab_size + multiple - 1) / multiple * multiple;
  if (config.padded_vocab_size > kMaxVocabulary) {
    status.Update(absl::InvalidArgumentError(
        absl::StrCat(path, ": vocab_size padded by pad_vocab_size_multiple is ",
                     config.padded_vocab_size, ", expected at most ", kMaxVocabulary)));
  }
  if (!root.status().ok()) return;
  config.bos_token_id = root.IntOr("bos_token_id", 0, config.vocab_size - 1, -1);
  config.eos_token_id = root.IntOr("eos_token_id", 0, config.vocab_size - 1, -1);
}

}  // namespace

const char* MixerName(Mixer mixer) {
  switch (mixer) {
    case Mixer::kConv:
      return "BaseConv";
    case Mixer::kLinearAttention:
      return "LinearAttention";
    case Mixer::kSlidingWindow:
      return "SlidingAttention";
  }
  return "";
}

absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view json, std::string_view path_view) {
  const std::string path(path_view);
  BASED_ASSIGN_OR_RETURN(const Json object, ParseJsonObject(json, path, kMaxDepth));
  JsonFields root(object, path, "");
  ModelConfig config;
  absl::Status status;
  config.d_model = root.Int("n_embd", 1, kMaxModelWidth);
  const int32_t layer_count = root.Int("n_layer", 1, kMaxLayers);
  config.norm_eps = root.NumberOr("layer_norm_epsilon", 0.0, 1.0, 1e-5);
  ReadVocabulary(path, root, config, status);
  CheckSwitches(root);
  status.Update(root.status());
  BASED_RETURN_IF_ERROR(status);
  ReadMixers(path, layer_count, root, config, status);
  BASED_RETURN_IF_ERROR(status);
  if (root.BoolOr("fixed_decay", false)) {
    config.warnings.push_back("fixed_decay is set and ignored, as the published modules ignore it");
  }
  BASED_RETURN_IF_ERROR(root.status());
  return config;
}

absl::StatusOr<ModelConfig> LoadModelConfig(const std::string& path) {
  BASED_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(path, kMaxJsonBytes));
  return ParseModelConfig(text, path);
}

}  // namespace based
