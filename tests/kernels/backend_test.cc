// The contract of backend.h on every backend, with a small model of every op: batches, slots,
// copies, images and tokens taken from the step before.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/backends.h"
#include "tests/kernels/op_fixture.h"

namespace based {
namespace {

constexpr int32_t kVocabSize = 61;
constexpr int32_t kPadded = 64;
constexpr int32_t kModelWidth = 48;

// Three layers, one of each mixer, as the engine builds them: pre-norm, residual, SwiGLU.
class HybridModel : public TestModel {
 public:
  HybridModel() {
    residual_ = AddBuffer(kModelWidth, /*residual=*/true);
    normed_ = AddBuffer(kModelWidth);
    const WeightId table = AddWeight(DType::kBF16, random_.Normal(kPadded, kModelWidth));
    AddOp(EmbedOp{.table = table, .out = residual_});

    const BufferId conv_in = NormedLinear(2 * 96);
    const BufferId conv_out = AddBuffer(96);
    const WeightId taps = AddWeight(DType::kF32, random_.Normal(96, 3, 0.5));
    AddOp(ConvMixOp{.in = conv_in, .taps = taps, .channels = 96, .kernel = 3, .out = conv_out});
    AddBack(conv_out, 96);

    const BufferId taylor_in = NormedLinear(3 * (2 * 16 + 16));
    const BufferId taylor_out = AddBuffer(48);
    AddOp(TaylorMixOp{
        .in = taylor_in, .heads = 3, .feature_dim = 16, .head_dim = 16, .out = taylor_out});
    AddBack(taylor_out, 48);

    const BufferId window_in = NormedLinear(3 * 3 * 16);
    const BufferId window_out = AddBuffer(48);
    AddOp(WindowMixOp{
        .in = window_in, .heads = 3, .head_dim = 16, .window_left = 8, .out = window_out});
    AddBack(window_out, 48);

    AddOp(LogitsOp{.in = residual_,
                   .norm_weight = AddWeight(DType::kBF16, random_.Normal(1, kModelWidth)),
                   .table = table,
                   .vocab_size = kVocabSize});
    program().spare_tokens = 1;
  }

 private:
  WeightId RandomMatrix(int32_t rows, int32_t cols) {
    return AddWeight(DType::kBF16, random_.Normal(rows, cols, 1 / std::sqrt(cols)));
  }

  BufferId NormedLinear(int32_t width) {
    const WeightId norm = AddWeight(DType::kBF16, random_.Normal(1, kModelWidth));
    AddOp(NormOp{.in = residual_, .weight = norm, .out = normed_});
    const BufferId out = AddBuffer(width);
    AddOp(LinearOp{.in = normed_, .weights = {RandomMatrix(width, kModelWidth)}, .out = out});
    return out;
  }

  // residual += W in, then residual += the MLP of it.
  void AddBack(BufferId in, int32_t width) {
    AddOp(LinearOp{.in = in,
                   .weights = {RandomMatrix(kModelWidth, width)},
                   .epilogue = Epilogue::kAdd,
                   .out = residual_});
    const WeightId norm = AddWeight(DType::kBF16, random_.Normal(1, kModelWidth));
    AddOp(NormOp{.in = residual_, .weight = norm, .out = normed_});
    const BufferId hidden = AddBuffer(64);
    AddOp(LinearOp{.in = normed_,
                   .weights = {RandomMatrix(128, kModelWidth)},
                   .epilogue = Epilogue::kSwiGlu,
                   .out = hidden});
    AddOp(LinearOp{.in = hidden,
                   .weights = {RandomMatrix(kModelWidth, 64)},
                   .epilogue = Epilogue::kAdd,
                   .out = residual_});
  }

  RandomData random_{61};
  BufferId residual_ = kNone;
  BufferId normed_ = kNone;
};

// Logits of this model have a spread of about 7, and an error of one op passes through about twenty
// others that neither grow nor shrink it much: 100 roundings of a number of size 10.
double ModelTolerance(const std::string& backend) { return 100 * 10 * UnitRoundoff(backend); }

class BackendTest : public ::testing::TestWithParam<std::string> {
 protected:
  // To the bit where the backend promises it, else to the model's tolerance.
  void ExpectSame(const Rows& actual, const Rows& expected) const {
    if (IsSplitInvariant(GetParam())) {
      EXPECT_EQ(actual, expected);
      return;
    }
    const Rows ones(expected.size(), std::vector<double>(expected[0].size(), 1.0));
    ExpectClose(actual, {expected, ones}, ModelTolerance(GetParam()));
  }

  static std::vector<int32_t> Part(const std::vector<int32_t>& tokens, size_t begin, size_t end) {
    return {tokens.begin() + static_cast<ptrdiff_t>(begin),
            tokens.begin() + static_cast<ptrdiff_t>(end)};
  }

  // All rows of `feeds`, split by feed.
  static std::vector<Rows> StepByFeed(Runner& runner, const std::vector<Feed>& feeds) {
    const Rows all = runner.Logits(feeds);
    std::vector<Rows> parts;
    auto next = all.begin();
    for (const Feed& feed : feeds) {
      parts.emplace_back(next, next + static_cast<ptrdiff_t>(feed.tokens.size()));
      next += static_cast<ptrdiff_t>(feed.tokens.size());
    }
    return parts;
  }

  HybridModel model_;
  RandomData random_{62};
};

TEST_P(BackendTest, AgreesWithTheReference) {
  BASED_MAKE_RUNNER(runner, GetParam(), model_.program());
  const auto reference = Runner::Create("reference", model_.program());
  ASSERT_TRUE(reference.ok()) << reference.status();
  const std::vector<int32_t> tokens = random_.Ids(150, kVocabSize);
  const Rows expected = (*reference)->Sequence(tokens, 150);
  const Rows ones(expected.size(), std::vector<double>(kPadded, 1.0));
  ExpectClose(runner.Sequence(tokens, 150), {expected, ones}, ModelTolerance(GetParam()));
}

TEST_P(BackendTest, ResultDoesNotDependOnChunks) {
  BASED_MAKE_RUNNER(runner, GetParam(), model_.program());
  const std::vector<int32_t> tokens = random_.Ids(131, kVocabSize);
  const Rows whole = runner.Sequence(tokens, tokens.size());
  for (const size_t chunk : {size_t{1}, size_t{3}, size_t{16}, size_t{50}, size_t{64}}) {
    SCOPED_TRACE(chunk);
    ExpectSame(runner.Sequence(tokens, chunk), whole);
  }
}

TEST_P(BackendTest, ResultDoesNotDependOnTheBatch) {
  BASED_MAKE_RUNNER(runner, GetParam(), model_.program());
  const std::vector<int32_t> a = random_.Ids(40, kVocabSize);
  const std::vector<int32_t> b = random_.Ids(70, kVocabSize);
  const std::vector<int32_t> c = random_.Ids(5, kVocabSize);
  const Rows alone_a = runner.Sequence(a, a.size());
  const Rows alone_b = runner.Sequence(b, b.size());
  const Rows alone_c = runner.Sequence(c, c.size());
  for (int32_t slot = 0; slot < 4; ++slot) runner.Clear(slot);

  // Slots, order and lengths mixed: decode beside prefill, sequences that come and go.
  const auto first = StepByFeed(
      runner, {{.slot = 3, .tokens = Part(a, 0, 11)}, {.slot = 1, .tokens = Part(b, 0, 1)}});
  const auto second = StepByFeed(runner, {{.slot = 1, .position = 1, .tokens = Part(b, 1, 69)},
                                          {.slot = 0, .tokens = c},
                                          {.slot = 3, .position = 11, .tokens = Part(a, 11, 12)}});
  const auto third = StepByFeed(runner, {{.slot = 3, .position = 12, .tokens = Part(a, 12, 40)},
                                         {.slot = 1, .position = 69, .tokens = Part(b, 69, 70)}});
  const auto join = [](std::vector<Rows> parts) {
    Rows rows;
    for (const Rows& part : parts) rows.insert(rows.end(), part.begin(), part.end());
    return rows;
  };
  ExpectSame(join({first[0], second[2], third[0]}), alone_a);
  ExpectSame(join({first[1], second[0], third[1]}), alone_b);
  ExpectSame(second[1], alone_c);
}

TEST_P(BackendTest, ClearedSlotIsAFreshOne) {
  BASED_MAKE_RUNNER(runner, GetParam(), model_.program());
  const std::vector<int32_t> tokens = random_.Ids(30, kVocabSize);
  // Slot 2 as CreateSlots left it, against slot 0 used and cleared: same shapes, same bits.
  const Rows fresh = runner.Logits({{.slot = 2, .tokens = tokens}});
  runner.Logits({{.slot = 0, .tokens = random_.Ids(90, kVocabSize)}});
  const Rows dirty = runner.Logits({{.slot = 0, .position = 90, .tokens = tokens}});
  runner.Clear(0);
  EXPECT_EQ(runner.Logits({{.slot = 0, .tokens = tokens}}), fresh);
  EXPECT_NE(dirty, fresh);  // or else the state were of no effect
}

TEST_P(BackendTest, CopiedSlotGoesOnToTheSameBits) {
  BASED_MAKE_RUNNER(runner, GetParam(), model_.program());
  runner.Logits({{.slot = 0, .tokens = random_.Ids(37, kVocabSize)}});
  runner.Logits({{.slot = 1, .tokens = random_.Ids(23, kVocabSize)}});
  runner.Logits({{.slot = 3, .tokens = random_.Ids(50, kVocabSize)}});
  const std::vector<SlotCopy> copies = {{.from = 0, .to = 2}, {.from = 1, .to = 3}};
  ASSERT_TRUE(runner.executable().CopySlots(copies).ok());
  const std::vector<int32_t> tokens = random_.Ids(45, kVocabSize);
  for (const auto& [from, to, position] : {std::tuple{0, 2, 37}, std::tuple{1, 3, 23}}) {
    const Rows original = runner.Logits({{.slot = from, .position = position, .tokens = tokens}});
    EXPECT_EQ(runner.Logits({{.slot = to, .position = position, .tokens = tokens}}), original);
  }
}

TEST_P(BackendTest, ImageRestoresTheSlotBitForBit) {
  BASED_MAKE_RUNNER(runner, GetParam(), model_.program());
  for (const int32_t length : {1, 5, 37, 64}) {
    SCOPED_TRACE(length);
    runner.Clear(0);
    runner.Logits({{.slot = 0, .tokens = random_.Ids(length, kVocabSize)}});
    const std::vector<std::byte> image = runner.Export(0, length);
    runner.Clear(3);
    runner.Logits({{.slot = 3, .tokens = random_.Ids(19, kVocabSize)}});
    runner.Import(3, length, image);
    EXPECT_EQ(runner.Export(3, length), image);
    const std::vector<int32_t> tokens = random_.Ids(20, kVocabSize);
    const Rows original = runner.Logits({{.slot = 0, .position = length, .tokens = tokens}});
    EXPECT_EQ(runner.Logits({{.slot = 3, .position = length, .tokens = tokens}}), original);
  }
}

// A greedy decode whose tokens never pass through the host equals one whose tokens do.
TEST_P(BackendTest, TakesTokensFromTheStepBefore) {
  BASED_MAKE_RUNNER(runner, GetParam(), model_.program());
  const std::vector<int32_t> prompts[] = {random_.Ids(9, kVocabSize), random_.Ids(4, kVocabSize)};
  const SampleRow draw{.row = 0, .params = {.temperature = 1.0f, .seed = 77}};
  const auto decode = [&](bool from_previous) {
    std::vector<int32_t> drawn;
    runner.Clear(0);
    runner.Clear(1);
    StepTable table =
        MakeStep({{.slot = 0, .tokens = prompts[0]}, {.slot = 1, .tokens = prompts[1]}});
    table.samples = {draw, draw};
    table.samples[0].row = 12;  // the samples in the other order than the rows
    table.samples[1].row = 8;
    StepOutput output = runner.Run(table);
    for (int32_t step = 0; step < 12; ++step) {
      drawn.insert(drawn.end(), output.ids.begin(), output.ids.end());
      const std::vector<int32_t> sources =
          step == 0 ? std::vector<int32_t>{1, 0} : std::vector<int32_t>{0, 1};
      table = MakeStep({{.slot = 0, .position = 9 + step, .tokens = {0}},
                        {.slot = 1, .position = 4 + step, .tokens = {0}}});
      table.samples = {draw, draw};
      for (size_t row = 0; row < 2; ++row) {
        table.samples[row].row = static_cast<int32_t>(row);
        table.samples[row].params.position = step + 1;
        const size_t source = static_cast<size_t>(sources[row]);
        table.tokens[row] = from_previous ? kTokenFromPrevious : output.ids[source];
      }
      if (from_previous) table.sources = sources;
      output = runner.Run(table);
    }
    return drawn;
  };
  EXPECT_EQ(decode(true), decode(false));
}

// As many steps as info() allows may be launched before the first is collected; results come oldest
// first.
TEST_P(BackendTest, KeepsItsPipelineFull) {
  BASED_MAKE_RUNNER(runner, GetParam(), model_.program());
  Executable& executable = runner.executable();
  const int32_t depth = executable.info().pipeline_depth;
  const std::vector<int32_t> tokens = random_.Ids(depth, kVocabSize);
  std::vector<Rows> expected;
  for (int32_t i = 0; i < depth; ++i) {
    expected.push_back(runner.Logits({{.slot = 1, .position = i, .tokens = {tokens[i]}}}));
  }
  for (int32_t i = 0; i < depth; ++i) {
    ASSERT_TRUE(
        executable.Launch(MakeStep({{.slot = 0, .position = i, .tokens = {tokens[i]}}})).ok());
  }
  for (int32_t i = 0; i < depth; ++i) {
    StepOutput output;
    ASSERT_TRUE(executable.Collect(output).ok());
    EXPECT_EQ(output.logits, expected[i][0]) << "step " << i;
  }
}

TEST_P(BackendTest, ReportsSizesAndRefusesSlotsThatDoNotFit) {
  BASED_MAKE_RUNNER(runner, GetParam(), model_.program());
  const ExecutableInfo& info = runner.executable().info();
  EXPECT_EQ(info.backend, GetParam());
  EXPECT_FALSE(info.device.empty());
  EXPECT_FALSE(info.state_layout.empty());
  EXPECT_GT(info.weight_bytes, 0);
  EXPECT_GT(info.workspace_bytes, 0);
  EXPECT_GE(info.image_bytes, 4 * (2 * 96 + 3 * 152 * 17));  // taps, S and z in 4 bytes at least
  EXPECT_GT(info.slot_bytes, 0);
  EXPECT_GT(info.available_bytes, 0);

  const auto backend = NewBackend({.kind = GetParam(), .threads = 1});
  ASSERT_TRUE(backend.ok()) << backend.status();
  const auto executable = (*backend)->Compile(model_.program(), {});
  ASSERT_TRUE(executable.ok()) << executable.status();
  EXPECT_EQ((*executable)->info().state_layout, info.state_layout);
  EXPECT_TRUE(absl::IsResourceExhausted((*executable)->CreateSlots(2'000'000'000)));
}

TEST_P(BackendTest, CompileNamesTheWeightOfWrongShape) {
  const auto backend = NewBackend({.kind = GetParam(), .threads = 1});
  if (absl::IsUnavailable(backend.status())) GTEST_SKIP() << backend.status();
  ASSERT_TRUE(backend.ok()) << backend.status();
  const WeightId last = std::get<LogitsOp>(model_.program().ops.back()).norm_weight;
  WeightView& norm = model_.program().weights[static_cast<size_t>(last)];
  norm.cols -= 1;
  const auto executable = (*backend)->Compile(model_.program(), {});
  EXPECT_TRUE(absl::IsInvalidArgument(executable.status())) << executable.status();
  EXPECT_NE(executable.status().message().find(norm.name), std::string::npos)
      << executable.status();
}

INSTANTIATE_TEST_SUITE_P(Backends, BackendTest, ::testing::ValuesIn(TestBackends()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace based
