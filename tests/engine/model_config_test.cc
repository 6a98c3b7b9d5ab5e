// config.json: the published dialect is understood, and every missing, mistyped or unserved field
// is refused by name.
#include "engine/model_config.h"

#include <functional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/synthetic_checkpoint.h"

namespace based {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;
using Json = nlohmann::json;

Json GoodConfig() { return MakeCheckpoint({.layers = "clwclw"}, 1).config; }

absl::StatusOr<ModelConfig> Parse(const Json& json) {
  return ParseModelConfig(json.dump(), "dir/config.json");
}

TEST(ModelConfigTest, ReadsAFixture) {
  const auto config = LoadModelConfig(BASED_SOURCE_DIR "/tests/golden/tiny-b/config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->d_model, 112);
  EXPECT_EQ(config->vocab_size, 77);
  EXPECT_EQ(config->padded_vocab_size, 80);
  EXPECT_EQ(config->norm_eps, 1e-5);
  EXPECT_EQ(config->bos_token_id, 76);
  EXPECT_EQ(config->eos_token_id, 76);
  EXPECT_THAT(config->layers, ElementsAre(Mixer::kSlidingWindow, Mixer::kConv,
                                          Mixer::kLinearAttention, Mixer::kLinearAttention,
                                          Mixer::kConv, Mixer::kSlidingWindow, Mixer::kConv));
  EXPECT_EQ(config->linear_heads, 4);
  EXPECT_EQ(config->feature_dim, 16);
  EXPECT_EQ(config->window_heads, 4);
  EXPECT_EQ(config->window_size, 10);
  EXPECT_EQ(config->rope_base, 10000.0);
  EXPECT_THAT(config->warnings, SizeIs(0));
}

TEST(ModelConfigTest, AbsentFieldsTakeTheirDocumentedDefaults) {
  Json json = GoodConfig();
  for (const char* field : {"layer_norm_epsilon", "tie_word_embeddings", "pad_vocab_size_multiple",
                            "bos_token_id", "n_positions", "n_head", "qkv_proj_bias"}) {
    json.erase(field);
  }
  json["eos_token_id"] = nullptr;
  EXPECT_THAT(std::string(Parse(json).status().message()), testing::IsEmpty());
  const auto config = Parse(json);
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->norm_eps, 1e-5);
  EXPECT_EQ(config->padded_vocab_size, config->vocab_size);
  EXPECT_EQ(config->bos_token_id, -1);
  EXPECT_EQ(config->eos_token_id, -1);
}

TEST(ModelConfigTest, SecondListWinsWhereALayerIsInBoth) {
  Json json = GoodConfig();
  json["alt_mixer_layers"] = {0, 1};
  json["alt_mixer_2_layers"] = {1};
  const auto config = Parse(json);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->layers[0], Mixer::kLinearAttention);
  EXPECT_EQ(config->layers[1], Mixer::kSlidingWindow);
  EXPECT_EQ(config->layers[2], Mixer::kConv);
}

TEST(ModelConfigTest, AnyFieldMayNameAnyMixer) {
  Json json = GoodConfig();
  std::swap(json["mixer"], json["alt_mixer_2"]);
  const auto config = Parse(json);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->layers[0], Mixer::kSlidingWindow);
  EXPECT_EQ(config->layers[2], Mixer::kConv);
}

TEST(ModelConfigTest, UnusedMixersNeedNotBeThere) {
  Json json = GoodConfig();
  for (const char* field : {"alt_mixer", "alt_mixer_2", "alt_mixer_layers", "alt_mixer_2_layers",
                            "rotary_emb_fraction"}) {
    json.erase(field);
  }
  const auto config = Parse(json);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->layers, testing::Each(Mixer::kConv));
}

TEST(ModelConfigTest, WhatIsIgnoredIsWarnedOf) {
  Json json = GoodConfig();
  json["fixed_decay"] = true;
  json["n_head"] = 8;
  const auto config = Parse(json);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->warnings,
              testing::UnorderedElementsAre(HasSubstr("fixed_decay"), HasSubstr("n_head = 8")));
}

struct BadConfig {
  const char* name;
  std::function<void(Json&)> edit;
  const char* field;
  const char* expected;
};

class BadConfigTest : public testing::TestWithParam<BadConfig> {};

TEST_P(BadConfigTest, IsRefusedByName) {
  Json json = GoodConfig();
  ASSERT_TRUE(Parse(json).ok());
  GetParam().edit(json);
  const auto config = Parse(json);
  ASSERT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << config.status();
  EXPECT_THAT(std::string(config.status().message()),
              AllOf(HasSubstr("dir/config.json: "), HasSubstr(GetParam().field),
                    HasSubstr(GetParam().expected)));
}

std::function<void(Json&)> Set(const char* pointer, Json value) {
  return [pointer, value](Json& json) { json[Json::json_pointer(pointer)] = value; };
}
std::function<void(Json&)> Drop(const char* outer, const char* field) {
  return [outer, field](Json& json) { json[Json::json_pointer(outer)].erase(field); };
}

INSTANTIATE_TEST_SUITE_P(
    All, BadConfigTest,
    testing::Values(
        BadConfig{"NoWidth", Drop("", "n_embd"), "n_embd is missing", "integer in [1, 65536]"},
        BadConfig{"NoLayers", Drop("", "n_layer"), "n_layer is missing", "[1, 1024]"},
        BadConfig{"NoVocabulary", Drop("", "vocab_size"), "vocab_size is missing", "integer"},
        BadConfig{"NoMixer", Drop("", "mixer"), "mixer is missing", "a layer uses it"},
        BadConfig{"NoAltMixer", Drop("", "alt_mixer"), "alt_mixer is missing", "a layer uses it"},
        BadConfig{"NoWindow", Drop("/alt_mixer_2", "window_size"),
                  "alt_mixer_2.window_size is missing", "integer"},
        BadConfig{"NoFeatureDim", Drop("/alt_mixer", "feature_dim"),
                  "alt_mixer.feature_dim is missing", "integer"},
        BadConfig{"NoHeads", Drop("/alt_mixer", "num_heads"), "alt_mixer.num_heads is missing",
                  "integer"},
        BadConfig{"NoTarget", Drop("/mixer", "_target_"), "mixer._target_ is missing", "string"},
        BadConfig{"NoRmsNorm", Drop("", "rms_norm"), "rms_norm is missing", "true"},
        BadConfig{"NoRotary", Drop("", "rotary_emb_fraction"), "rotary_emb_fraction is missing",
                  "1"},
        BadConfig{"NoActivation", Drop("", "activation_function"), "activation_function is missing",
                  "\"swiglu\""},
        BadConfig{"TextWidth", Set("/n_embd", "64"), "n_embd is \"64\"", "integer"},
        BadConfig{"FractionalLayers", Set("/n_layer", 6.5), "n_layer is 6.5", "integer"},
        BadConfig{"NegativeLayers", Set("/n_layer", -1), "n_layer is -1", "[1, 1024]"},
        BadConfig{"HugeLayers", Set("/n_layer", 2'000'000'000), "n_layer is 2000000000", "1024"},
        BadConfig{"HugeWidth", Set("/n_embd", uint64_t{1} << 63), "n_embd is 9223372036854775808",
                  "65536"},
        BadConfig{"HugeVocabulary", Set("/vocab_size", 10'000'001), "vocab_size is 10000001",
                  "10000000"},
        BadConfig{"MixerNoObject", Set("/mixer", "BaseConv"), "mixer is \"BaseConv\"", "object"},
        BadConfig{"LayersNoArray", Set("/alt_mixer_layers", 1), "alt_mixer_layers is 1", "array"},
        BadConfig{"LayerOutside", Set("/alt_mixer_layers", {1, 6}), "alt_mixer_layers[1] is 6",
                  "[0, 5]"},
        BadConfig{"LayerNegative", Set("/alt_mixer_2_layers", {-1}), "alt_mixer_2_layers[0] is -1",
                  "[0, 5]"},
        BadConfig{"UnknownMixer", Set("/alt_mixer/_target_", "a.b.Hyena"),
                  "alt_mixer._target_ is \"a.b.Hyena\"", "BaseConv, LinearAttention"},
        BadConfig{"OlderDialect", Set("/mixer/_target_", "base_conv.BaseConvWithSiLU4"),
                  "BaseConvWithSiLU4", "mixers"},
        BadConfig{"UnknownFeatureMap", Set("/alt_mixer/feature_map/_target_", "a.b.PerformerMap"),
                  "alt_mixer.feature_map._target_ is \"a.b.PerformerMap\"", "TaylorExp"},
        BadConfig{"FeatureMapDim", Set("/alt_mixer/feature_map/input_dim", 8),
                  "alt_mixer.feature_map.input_dim is 8", "[16, 16]"},
        BadConfig{"WindowZero", Set("/alt_mixer_2/window_size", 0), "alt_mixer_2.window_size is 0",
                  "[1, "},
        BadConfig{"NotCausal", Set("/alt_mixer_2/causal", false), "alt_mixer_2.causal is false",
                  "true"},
        BadConfig{"FusedConvolution", Set("/mixer/use_cuda", true), "mixer.use_cuda is true",
                  "false"},
        BadConfig{"LayerNorm", Set("/rms_norm", false), "rms_norm is false", "true"},
        BadConfig{"RmsNormType", Set("/rms_norm", 1), "rms_norm is 1", "true or false"},
        BadConfig{"Interleaved", Set("/rotary_emb_interleaved", true),
                  "rotary_emb_interleaved is true", "false"},
        BadConfig{"PartialRotary", Set("/rotary_emb_fraction", 0.5), "rotary_emb_fraction is 0.5",
                  "[1, 1]"},
        BadConfig{"Untied", Set("/tie_word_embeddings", false), "tie_word_embeddings is false",
                  "true"},
        BadConfig{"Gelu", Set("/activation_function", "gelu_new"),
                  "activation_function is \"gelu_new\"", "\"swiglu\""},
        BadConfig{"Positions", Set("/n_positions", 1024), "n_positions is 1024", "[0, 0]"},
        BadConfig{"GroupedHeads", Set("/n_head_kv", 2), "n_head_kv is 2", "[4, 4]"},
        BadConfig{"EpsilonText", Set("/layer_norm_epsilon", "small"),
                  "layer_norm_epsilon is \"small\"", "number"},
        BadConfig{"BosOutside", Set("/bos_token_id", 61), "bos_token_id is 61", "[0, 60]"},
        BadConfig{"EosOutside", Set("/eos_token_id", 50256), "eos_token_id is 50256", "[0, 60]"}),
    [](const testing::TestParamInfo<BadConfig>& test) { return test.param.name; });

TEST(ModelConfigTest, TextThatIsNoConfigIsRefused) {
  for (const char* text :
       {"", "{", "[]", "null", "{\"n_embd\": 1, \"n_embd\": 2}", "{\"a\": NaN}"}) {
    const auto config = ParseModelConfig(text, "dir/config.json");
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(config.status().message()), HasSubstr("dir/config.json: ")) << text;
  }
  EXPECT_TRUE(absl::IsNotFound(LoadModelConfig(NewTestDir() + "/config.json").status()));
}

}  // namespace
}  // namespace based
