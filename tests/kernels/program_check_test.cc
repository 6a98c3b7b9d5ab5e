// CheckProgram: a sound program with one thing broken at a time, and what the message names.
#include "kernels/program_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"

namespace based {
namespace {

using ::testing::HasSubstr;

constexpr float kData[1] = {};

// Ops of SoundProgram, in order.
enum : size_t {
  kEmbed,
  kNorm,
  kConvIn,
  kConv,
  kBack,
  kTaylorIn,
  kTaylor,
  kWindowIn,
  kWindow,
  kLogits
};

// Width 4; 2 channels and kernel 3; 2 heads of feature_dim 3 and head_dim 2.
Program SoundProgram() {
  Program program;
  for (const int32_t width : {4, 4, 4, 2, 16, 4, 12, 4})
    program.buffers.push_back({.width = width});
  const auto weight = [&program](const char* name, int64_t rows, int64_t cols) {
    program.weights.push_back({.name = name, .data = kData, .rows = rows, .cols = cols});
    return static_cast<WeightId>(program.weights.size() - 1);
  };
  const WeightId table = weight("table", 10, 4);
  const WeightId norm = weight("norm", 1, 4);
  program.ops = {
      EmbedOp{.table = table, .out = 0},
      NormOp{.in = 0, .weight = norm, .out = 1},
      LinearOp{.in = 1, .weights = {weight("in", 4, 4)}, .bias = weight("bias", 1, 4), .out = 2},
      ConvMixOp{.in = 2, .taps = weight("taps", 2, 3), .channels = 2, .kernel = 3, .out = 3},
      LinearOp{.in = 3, .weights = {weight("back", 4, 2)}, .epilogue = Epilogue::kAdd, .out = 0},
      LinearOp{.in = 1, .weights = {weight("qk", 12, 4), weight("v", 4, 4)}, .out = 4},
      TaylorMixOp{.in = 4, .heads = 2, .feature_dim = 3, .head_dim = 2, .out = 5},
      LinearOp{.in = 5, .weights = {weight("qkv", 24, 4)}, .epilogue = Epilogue::kSwiGlu, .out = 6},
      WindowMixOp{.in = 6, .heads = 2, .head_dim = 2, .window_left = 3, .out = 7},
      LogitsOp{.in = 7, .norm_weight = norm, .table = table, .vocab_size = 9}};
  return program;
}

struct Damage {
  const char* name;
  std::function<void(Program&)> apply;
  std::vector<std::string> message;  // parts of the message
};

template <typename T>
T& OpAt(Program& program, size_t index) {
  return std::get<T>(program.ops[index]);
}

WeightView& Weight(Program& program, const std::string& name) {
  for (WeightView& view : program.weights) {
    if (view.name == name) return view;
  }
  ADD_FAILURE() << "no weight " << name;
  return program.weights[0];
}

const std::vector<Damage>& Damages() {
  static const auto* damages = new std::vector<Damage>{
      {"no_ops", [](Program& p) { p.ops.clear(); }, {"no ops"}},
      {"spare", [](Program& p) { p.spare_tokens = -1; }, {"spare_tokens is -1"}},
      {"buffer_width", [](Program& p) { p.buffers[3].width = 0; }, {"buffer 3", "0 wide"}},
      {"no_data", [](Program& p) { Weight(p, "taps").data = nullptr; }, {"\"taps\"", "no data"}},
      {"no_rows", [](Program& p) { Weight(p, "qk").rows = 0; }, {"\"qk\" is [0, 4]"}},
      {"no_logits", [](Program& p) { p.ops.pop_back(); }, {"op 8 (WindowMix)", "last op"}},
      {"early_logits",
       [](Program& p) { p.ops.insert(p.ops.begin() + 2, p.ops.back()); },
       {"op 2 (Logits)", "last op"}},
      {"unwritten",
       [](Program& p) { OpAt<NormOp>(p, kNorm).in = 7; },
       {"op 1 (Norm)", "reads buffer 7"}},
      {"add_to_unwritten",
       [](Program& p) { OpAt<LinearOp>(p, kConvIn).epilogue = Epilogue::kAdd; },
       {"op 2 (Linear)", "reads buffer 2"}},
      {"in_place",
       [](Program& p) { OpAt<NormOp>(p, kNorm).out = 0; },
       {"op 1 (Norm)", "both input and output"}},
      {"bad_in", [](Program& p) { OpAt<NormOp>(p, kNorm).in = 8; }, {"input buffer 8", "of 8"}},
      {"bad_out", [](Program& p) { OpAt<EmbedOp>(p, kEmbed).out = -1; }, {"output buffer -1"}},
      {"bad_weight", [](Program& p) { OpAt<NormOp>(p, kNorm).weight = 10; }, {"norm weight 10"}},
      {"table_width",
       [](Program& p) { Weight(p, "table").cols = 5; },
       {"op 0 (Embed)", "\"table\" is [10, 5]", "expected [10, 4]"}},
      {"norm_shape",
       [](Program& p) { Weight(p, "norm").rows = 2; },
       {"op 1 (Norm)", "\"norm\" is [2, 4]", "expected [1, 4]"}},
      {"eps", [](Program& p) { OpAt<TaylorMixOp>(p, kTaylor).eps = -1; }, {"op 6", "eps is -1"}},
      {"linear_cols",
       [](Program& p) { Weight(p, "v").cols = 3; },
       {"op 5 (Linear)", "\"v\" is [4, 3]", "expected [4, 4]"}},
      {"linear_rows",
       [](Program& p) { Weight(p, "v").rows = 5; },
       {"op 5 (Linear)", "buffer 4 is 16 wide, expected 17"}},
      {"linear_empty",
       [](Program& p) { OpAt<LinearOp>(p, kBack).weights.clear(); },
       {"op 4 (Linear)", "no weights"}},
      {"bias", [](Program& p) { Weight(p, "bias").cols = 3; }, {"\"bias\" is [1, 3]"}},
      {"swiglu_odd", [](Program& p) { Weight(p, "qkv").rows = 25; }, {"op 7", "25 rows", "even"}},
      {"swiglu_width", [](Program& p) { Weight(p, "qkv").rows = 22; }, {"12 wide, expected 11"}},
      {"taps", [](Program& p) { Weight(p, "taps").cols = 4; }, {"\"taps\" is [2, 4]"}},
      {"kernel", [](Program& p) { OpAt<ConvMixOp>(p, kConv).kernel = 0; }, {"kernel is 0"}},
      {"channels",
       [](Program& p) { OpAt<ConvMixOp>(p, kConv).channels = 3; },
       {"op 3 (ConvMix)", "buffer 2 is 4 wide, expected 6"}},
      {"taylor_in",
       [](Program& p) { OpAt<TaylorMixOp>(p, kTaylor).feature_dim = 4; },
       {"op 6 (TaylorMix)", "16 wide, expected 20"}},
      {"heads", [](Program& p) { OpAt<TaylorMixOp>(p, kTaylor).heads = 0; }, {"heads is 0"}},
      {"odd_head_dim",
       [](Program& p) { OpAt<WindowMixOp>(p, kWindow).head_dim = 3; },
       {"op 8 (WindowMix)", "head_dim is 3", "even"}},
      {"window",
       [](Program& p) { OpAt<WindowMixOp>(p, kWindow).window_left = -1; },
       {"window_left is -1"}},
      {"rope_base",
       [](Program& p) { OpAt<WindowMixOp>(p, kWindow).rope_base = 0.5; },
       {"rope_base is 0.5"}},
      {"vocab_zero",
       [](Program& p) { OpAt<LogitsOp>(p, kLogits).vocab_size = 0; },
       {"op 9 (Logits)", "vocab_size is 0", "1 to 10"}},
      {"vocab_above_table",
       [](Program& p) { OpAt<LogitsOp>(p, kLogits).vocab_size = 11; },
       {"vocab_size is 11", "1 to 10"}}};
  return *damages;
}

TEST(ProgramCheckTest, SoundProgramPasses) {
  const Program program = SoundProgram();
  const absl::Status status = CheckProgram(program);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(EmbedRows(program), 10);
  EXPECT_EQ(FinalLogits(program).vocab_size, 9);
}

class DamagedProgramTest : public ::testing::TestWithParam<Damage> {};

TEST_P(DamagedProgramTest, IsRefusedByName) {
  Program program = SoundProgram();
  GetParam().apply(program);
  const absl::Status status = CheckProgram(program);
  ASSERT_TRUE(absl::IsInvalidArgument(status)) << status;
  for (const std::string& part : GetParam().message) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  }
}

INSTANTIATE_TEST_SUITE_P(Damages, DamagedProgramTest, ::testing::ValuesIn(Damages()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace based
