// Checkpoints become Programs: both fixtures, any other shape of the dialect, every way of storing
// it; and every disagreement between files, tensors and configuration is refused by name.
#include "engine/checkpoint.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "engine/weight_scan.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/program_check.h"
#include "tests/engine/synthetic_checkpoint.h"

namespace based {
namespace {

using testing::AllOf;
using testing::HasSubstr;

absl::StatusOr<Checkpoint> Load(const std::string& dir) {
  const auto config = LoadModelConfig(dir + "/config.json");
  if (!config.ok()) return config.status();
  return LoadCheckpoint(dir, *config);
}

absl::StatusOr<Checkpoint> WriteAndLoad(const SyntheticShape& shape,
                                        const SyntheticOptions& options = {}, uint64_t seed = 7) {
  const std::string dir = NewTestDir();
  WriteCheckpoint(dir, shape, seed, options);
  return Load(dir);
}

template <typename T>
std::vector<T> OpsOf(const Program& program) {
  std::vector<T> ops;
  for (const Op& op : program.ops) {
    if (const T* match = std::get_if<T>(&op)) ops.push_back(*match);
  }
  return ops;
}

TEST(CheckpointTest, FixturesLoad) {
  const auto a = Load(BASED_SOURCE_DIR "/tests/golden/tiny-a");
  ASSERT_TRUE(a.ok()) << a.status();
  EXPECT_EQ(a->parameters, 415'936);
  EXPECT_TRUE(CheckProgram(a->program).ok()) << CheckProgram(a->program);
  const auto b = Load(BASED_SOURCE_DIR "/tests/golden/tiny-b");
  ASSERT_TRUE(b.ok()) << b.status();
  EXPECT_EQ(b->parameters, 1'021'440);
  EXPECT_EQ(b->program.ops.size(), 1 + 7 * 7 + 1u);
  const auto windows = OpsOf<WindowMixOp>(b->program);
  ASSERT_EQ(windows.size(), 2u);
  EXPECT_EQ(windows[0].window_left, 5);
  EXPECT_EQ(windows[0].head_dim, 28);
  const auto taylors = OpsOf<TaylorMixOp>(b->program);
  ASSERT_EQ(taylors.size(), 2u);
  EXPECT_EQ(taylors[0].feature_dim, 16);
  EXPECT_EQ(taylors[0].head_dim, 28);
  EXPECT_EQ(OpsOf<ConvMixOp>(b->program).at(0).channels, 224);
  EXPECT_NE(a->digest, b->digest);
}

struct ShapeCase {
  const char* name;
  SyntheticShape shape;
};

class ShapeTest : public testing::TestWithParam<ShapeCase> {};

TEST_P(ShapeTest, LoadsAsAConsistentProgram) {
  const SyntheticShape& shape = GetParam().shape;
  const auto checkpoint = WriteAndLoad(shape);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(checkpoint->parameters, shape.parameters());
  EXPECT_TRUE(CheckProgram(checkpoint->program).ok()) << CheckProgram(checkpoint->program);
  for (const TaylorMixOp& op : OpsOf<TaylorMixOp>(checkpoint->program)) {
    EXPECT_EQ(op.heads, shape.linear_heads);
    EXPECT_EQ(op.feature_dim, shape.feature_dim);
  }
  for (const WindowMixOp& op : OpsOf<WindowMixOp>(checkpoint->program)) {
    EXPECT_EQ(op.heads, shape.window_heads);
    EXPECT_EQ(op.window_left, shape.window_size / 2);
  }
  for (const ConvMixOp& op : OpsOf<ConvMixOp>(checkpoint->program)) {
    EXPECT_EQ(op.channels, shape.conv_channels);
    EXPECT_EQ(op.kernel, shape.conv_kernel);
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, ShapeTest,
    testing::Values(
        ShapeCase{"Base", {}}, ShapeCase{"FeatureDim8", {.feature_dim = 8}},
        ShapeCase{"FeatureDim5", {.feature_dim = 5}},
        ShapeCase{"OneHead", {.n_head = 1, .linear_heads = 1, .window_heads = 1}},
        ShapeCase{"DifferentHeads", {.linear_heads = 8, .window_heads = 2}},
        ShapeCase{"WideValues", {.linear_head_dim = 12}},
        ShapeCase{"OddWindow", {.window_size = 7}}, ShapeCase{"WindowOfOne", {.window_size = 1}},
        ShapeCase{"OnlyWindows", {.layers = "ww"}}, ShapeCase{"OnlyLinear", {.layers = "l"}},
        ShapeCase{"Reversed", {.layers = "wwllcc"}}, ShapeCase{"NoBias", {.conv_bias = false}},
        ShapeCase{"Kernel4", {.conv_channels = 24, .conv_kernel = 4}},
        ShapeCase{"OddWidths",
                  {.d_model = 30,
                   .n_head = 3,
                   .linear_heads = 5,
                   .window_heads = 3,
                   .conv_channels = 17,
                   .mlp_inner = 7}},
        ShapeCase{"NoPadding", {.pad_vocab_size_multiple = 1}}),
    [](const testing::TestParamInfo<ShapeCase>& test) { return test.param.name; });

TEST(CheckpointTest, StorageDoesNotChangeTheDigest) {
  const SyntheticShape shape;
  const std::string digest = WriteAndLoad(shape)->digest;
  EXPECT_EQ(digest.size(), 32u);
  for (const SyntheticOptions& options :
       {SyntheticOptions{.prefix = "model."}, SyntheticOptions{.lm_head = true},
        SyntheticOptions{.embedding = false, .lm_head = true}, SyntheticOptions{.shards = 3},
        SyntheticOptions{.shards = 2, .prefix = "model.", .lm_head = true, .extras = true},
        SyntheticOptions{.extras = true}}) {
    const auto checkpoint = WriteAndLoad(shape, options);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    EXPECT_EQ(checkpoint->digest, digest);
  }
}

TEST(CheckpointTest, DigestSeesWeightsDtypeAndConfiguration) {
  const SyntheticShape shape;
  std::vector<std::string> digests = {WriteAndLoad(shape)->digest,
                                      WriteAndLoad(shape, {}, 8)->digest,
                                      WriteAndLoad({.window_size = 10})->digest};
  for (const char* dtype : {"F16", "BF16"}) {
    const auto checkpoint = WriteAndLoad(shape, {.dtype = dtype});
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    digests.push_back(checkpoint->digest);
  }
  const auto flip = [](SyntheticFiles& files) {
    files.tensors.at("transformer.ln_f.weight").bytes[4] ^= std::byte{1};
  };
  digests.push_back(WriteAndLoad(shape, {.edit = flip})->digest);
  EXPECT_EQ(std::set<std::string>(digests.begin(), digests.end()).size(), digests.size());
}

struct BadCheckpoint {
  const char* name;
  std::function<void(SyntheticFiles&)> edit;
  const char* tensor;
  const char* reason;
};

class BadCheckpointTest : public testing::TestWithParam<BadCheckpoint> {};

// Layers: 0 conv, 1 linear, 2 window.
TEST_P(BadCheckpointTest, IsRefusedNamingFileTensorAndReason) {
  const auto checkpoint = WriteAndLoad({}, {.lm_head = true, .edit = GetParam().edit});
  ASSERT_EQ(checkpoint.status().code(), absl::StatusCode::kInvalidArgument) << checkpoint.status();
  EXPECT_THAT(std::string(checkpoint.status().message()),
              AllOf(HasSubstr("model.safetensors: tensor"), HasSubstr(GetParam().tensor),
                    HasSubstr(GetParam().reason)));
}

std::function<void(SyntheticFiles&)> Erase(const char* name) {
  return [name](SyntheticFiles& files) { files.tensors.erase(name); };
}
std::function<void(SyntheticFiles&)> Reshape(const char* name, std::vector<int64_t> shape) {
  return [name, shape](SyntheticFiles& files) {
    RawTensor& tensor = files.tensors.at(name);
    tensor.shape = shape;
    int64_t bytes = 4;
    for (int64_t dim : shape) bytes *= dim;
    tensor.bytes.resize(static_cast<size_t>(bytes));
  };
}
std::function<void(SyntheticFiles&)> SetFloat(const char* name, size_t index, float value) {
  return [name, index, value](SyntheticFiles& files) {
    std::memcpy(&files.tensors.at(name).bytes.at(index * 4), &value, sizeof(value));
  };
}
std::function<void(SyntheticFiles&)> SetConfig(const char* pointer, nlohmann::json value) {
  return [pointer, value](SyntheticFiles& files) {
    files.config[nlohmann::json::json_pointer(pointer)] = value;
  };
}

#define LAYER "transformer.layers."
INSTANTIATE_TEST_SUITE_P(
    All, BadCheckpointTest,
    testing::Values(
        BadCheckpoint{"MissingNorm", Erase("transformer.ln_f.weight"), "'transformer.ln_f.weight'",
                      "missing, expected shape [32]"},
        BadCheckpoint{"MissingBias", Erase(LAYER "0.mixer.in_proj.bias"), "0.mixer.in_proj.bias",
                      "missing, expected shape [128]"},
        BadCheckpoint{"WrongProjection", Reshape(LAYER "1.mixer.proj_q.weight", {32, 32}),
                      "1.mixer.proj_q.weight", "shape [32, 32], expected [64, 32]"},
        BadCheckpoint{"WrongRank", Reshape(LAYER "0.mixer.conv.conv.weight", {64, 3}),
                      "0.mixer.conv.conv.weight", "shape [64, 3], expected [any, 1, any]"},
        BadCheckpoint{"ValuesNotHeads", Reshape(LAYER "1.mixer.proj_v.weight", {30, 32}),
                      "1.mixer.proj_v.weight", "multiple of num_heads = 4"},
        BadCheckpoint{"OutputNotValues", Reshape(LAYER "1.mixer.proj_v.weight", {64, 32}),
                      "1.mixer.out_proj.weight", "shape [32, 32], expected [32, 64]"},
        BadCheckpoint{"QkvNotThree", Reshape(LAYER "2.mixer.Wqkv.weight", {95, 32}),
                      "2.mixer.Wqkv.weight", "multiple of 3"},
        BadCheckpoint{"OddHeadDim", Reshape(LAYER "2.mixer.Wqkv.weight", {60, 32}),
                      "2.mixer.Wqkv.weight", "head dim 5, expected an even one"},
        BadCheckpoint{"ManyTaps", Reshape(LAYER "0.mixer.conv.conv.weight", {64, 1, 65}),
                      "0.mixer.conv.conv.weight", "65 taps, at most 64"},
        BadCheckpoint{"MlpHalves", Reshape(LAYER "2.mlp.fc1.weight", {48, 32}), "2.mlp.fc1.weight",
                      "shape [48, 32], expected [96, 32]"},
        BadCheckpoint{"EmptyWidth", Reshape(LAYER "2.mlp.fc2.weight", {32, 0}), "2.mlp.fc2.weight",
                      "shape [32, 0], expected [32, any]"},
        BadCheckpoint{"Vocabulary", SetConfig("/vocab_size", 77), "lm_head.weight",
                      "shape [64, 32], expected [80, 32]"},
        BadCheckpoint{"TiedDiffer", SetFloat("lm_head.weight", 5, 1.25f), "'lm_head.weight'",
                      "differ"},
        BadCheckpoint{
            "Integers",
            [](SyntheticFiles& files) { files.tensors.at(LAYER "0.norm1.weight").dtype = "I32"; },
            "0.norm1.weight", "dtype I32, expected F32, F16 or BF16"},
        BadCheckpoint{"Unexpected",
                      [](SyntheticFiles& files) {
                        files.tensors["transformer.embeddings.position_embeddings.weight"] =
                            files.tensors.at(LAYER "0.norm1.weight");
                      },
                      "position_embeddings.weight", "unexpected"},
        BadCheckpoint{"BiasNotConfigured", SetConfig("/mixer/use_bias", false),
                      "0.mixer.in_proj.bias", "unexpected"},
        BadCheckpoint{"OtherMixer", SetConfig("/alt_mixer_layers", {0, 1}),
                      "0.mixer.in_proj.weight",
                      "belongs to BaseConv, but config.json makes layer 0 a LinearAttention"},
        BadCheckpoint{"NanWeight", SetFloat(LAYER "1.mlp.fc2.weight", 17, NAN), "1.mlp.fc2.weight",
                      "element 17 is NaN"},
        BadCheckpoint{"InfiniteWeight", SetFloat(LAYER "0.norm2.weight", 31, -INFINITY),
                      "0.norm2.weight", "element 31 is infinite"}),
    [](const testing::TestParamInfo<BadCheckpoint>& test) { return test.param.name; });

TEST(CheckpointTest, TwoSpellingsOfOneNameAreRefused) {
  const auto edit = [](SyntheticFiles& files) {
    files.tensors["model.transformer.ln_f.weight"] = files.tensors.at("transformer.ln_f.weight");
  };
  EXPECT_THAT(std::string(WriteAndLoad({}, {.edit = edit}).status().message()),
              AllOf(HasSubstr("'model.transformer.ln_f.weight'"), HasSubstr("same weight")));
}

TEST(CheckpointTest, BadShardIndexIsRefused) {
  const std::string dir = NewTestDir();
  WriteCheckpoint(dir, {}, 7, {.shards = 2});
  const std::string path = dir + "/model.safetensors.index.json";
  const nlohmann::json good = nlohmann::json::parse(ReadFile(path));
  const auto message = [&](const std::function<void(nlohmann::json&)>& edit) {
    nlohmann::json bad = good;
    edit(bad);
    WriteFile(path, bad.dump());
    return std::string(Load(dir).status().message());
  };
  const std::string name = "transformer.ln_f.weight";
  for (const char* escape : {"../secret", "/etc/passwd", "a/b.safetensors", "..", ""}) {
    EXPECT_THAT(message([&](nlohmann::json& json) { json["weight_map"][name] = escape; }),
                AllOf(HasSubstr(name), HasSubstr("a file in the same directory")));
  }
  EXPECT_THAT(message([&](nlohmann::json& json) { json["weight_map"][name] = 3; }),
              HasSubstr("is 3"));
  EXPECT_THAT(message([&](nlohmann::json& json) {
                json["weight_map"]["ghost"] = json["weight_map"][name];
              }),
              AllOf(HasSubstr("'ghost'"), HasSubstr("missing")));
  EXPECT_THAT(message([&](nlohmann::json& json) { json["weight_map"][name] = "none"; }),
              HasSubstr("/none: No such file"));
  EXPECT_THAT(message([](nlohmann::json& json) { json.erase("weight_map"); }),
              HasSubstr("weight_map is missing"));
}

TEST(CheckpointTest, MissingFilesAreNamed) {
  const std::string dir = NewTestDir();
  WriteCheckpoint(dir, {}, 7);
  std::filesystem::rename(dir + "/model.safetensors", dir + "/pytorch_model.bin");
  const absl::Status status = Load(dir).status();
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr(dir), HasSubstr("models/import_checkpoint.py")));
}

TEST(CheckpointTest, TruncatedWeightsAreRefused) {
  const std::string dir = NewTestDir();
  WriteCheckpoint(dir, {}, 7);
  const std::string path = dir + "/model.safetensors";
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 100);
  EXPECT_THAT(std::string(Load(dir).status().message()),
              AllOf(HasSubstr(path), HasSubstr("outside")));
}

TEST(WeightScanTest, FindsTheFirstNonFiniteOfEveryType) {
  struct Case {
    DType dtype;
    uint32_t largest, infinity, nan;
  };
  for (const Case& item :
       {Case{DType::kF32, 0xff7fffff, 0xff800000, 0x7f800001},
        Case{DType::kF16, 0xfbff, 0xfc00, 0x7c01}, Case{DType::kBF16, 0xff7f, 0xff80, 0x7f81}}) {
    const size_t width = item.dtype == DType::kF32 ? 4 : 2;
    for (int64_t count : {1, 2, 3, 7, 33, 40'001}) {
      std::vector<std::byte> data(static_cast<size_t>(count) * width);
      const auto put = [&](int64_t index, uint32_t bits) {
        std::memcpy(&data[static_cast<size_t>(index) * width], &bits, width);
      };
      for (int64_t i = 0; i < count; ++i) put(i, item.largest);
      EXPECT_EQ(FindNonFinite(data.data(), item.dtype, count), std::nullopt);
      for (int64_t bad : {int64_t{0}, count / 2, count - 1}) {
        for (uint32_t bits : {item.infinity, item.nan}) {
          put(bad, bits);
          EXPECT_EQ(FindNonFinite(data.data(), item.dtype, count), bad);
          put(bad, item.largest);
        }
      }
    }
  }
}

}  // namespace
}  // namespace based
