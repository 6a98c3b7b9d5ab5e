// The shapes of the released models through the fast kernels, against the CPU backend (which the op
// suite holds to the fp64 reference, too slow for these shapes): prefill and decode in any mixture,
// stepping back at every fold phase, forks, graphs, batch invariance.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cuda/cuda_backend.h"
#include "tests/kernels/cpu/synthetic_model.h"

namespace based {
namespace {

using Logits = std::vector<double>;

struct Feed {
  int32_t slot = 0;
  int64_t position = 0;
  std::vector<int32_t> tokens;
};

double RelativeError(const Logits& actual, const Logits& expected) {
  if (actual.size() != expected.size()) return INFINITY;
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    error += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  return std::sqrt(error / norm);
}

// Shapes of the compiled kernels, weights of either type.
struct Case {
  int32_t head_dim;
  DType dtype;
  int32_t feature_dim = 16;
  double tolerance() const { return dtype == DType::kF32 ? 2e-5 : 2e-2; }
};

class CudaFastPathTest : public ::testing::TestWithParam<Case> {
 protected:
  static constexpr int32_t kVocabulary = 61;

  void SetUp() override {
    const auto cuda = NewCudaBackend({});
    if (absl::IsUnavailable(cuda.status())) GTEST_SKIP() << cuda.status();
    shape_ = {.layers = "clwlw",
              .width = 4 * GetParam().head_dim,
              .heads = 4,
              .feature_dim = GetParam().feature_dim,
              .window_left = 128,
              .vocab = kVocabulary,
              .padded_vocab = 64,
              .dtype = GetParam().dtype,
              .seed = 7};
    model_ = std::make_unique<SyntheticModel>(shape_);
    program_ = model_->program();
    program_.spare_tokens = 1;
    std::mt19937 random(11);
    tokens_.resize(700);
    for (int32_t& token : tokens_) token = static_cast<int32_t>(random() % kVocabulary);
  }

  std::unique_ptr<Executable> Make(const CudaBackendOptions& options, int32_t slots = 4) {
    auto backend = NewCudaBackend(options);
    EXPECT_TRUE(backend.ok()) << backend.status();
    return MakeOn(**backend, slots);
  }

  std::unique_ptr<Executable> MakeReference() {
    reference_ = NewCpuBackend({});
    return MakeOn(*reference_, 4);
  }

  std::unique_ptr<Executable> MakeOn(Backend& backend, int32_t slots) {
    auto executable =
        backend.Compile(program_, {.max_rows = 700, .max_spans = 64, .max_samples = 700});
    EXPECT_TRUE(executable.ok()) << executable.status();
    EXPECT_TRUE((*executable)->CreateSlots(slots).ok());
    return *std::move(executable);
  }

  // Raw logits of every row.
  static Logits Step(Executable& executable, const std::vector<Feed>& feeds) {
    StepTable table;
    for (const Feed& feed : feeds) {
      table.spans.push_back({.slot = feed.slot,
                             .row = static_cast<int32_t>(table.tokens.size()),
                             .length = static_cast<int32_t>(feed.tokens.size()),
                             .position = feed.position});
      table.tokens.insert(table.tokens.end(), feed.tokens.begin(), feed.tokens.end());
    }
    for (size_t row = 0; row < table.tokens.size(); ++row) {
      table.samples.push_back(
          {.row = static_cast<int32_t>(row), .params = {}, .sample = false, .logits = true});
    }
    StepOutput output;
    const absl::Status launched = executable.Launch(table);
    EXPECT_TRUE(launched.ok()) << launched;
    if (!launched.ok()) return {};
    const absl::Status collected = executable.Collect(output);
    EXPECT_TRUE(collected.ok()) << collected;
    return output.logits;
  }

  std::vector<int32_t> Part(int64_t begin, int64_t end) const {
    return {tokens_.begin() + begin, tokens_.begin() + end};
  }

  // tokens_[begin, end) of a slot, cut into spans of the lengths of `cuts`, repeated.
  Logits Sequence(Executable& executable, int32_t slot, int64_t begin, int64_t end,
                  const std::vector<int32_t>& cuts) {
    Logits logits;
    size_t cut = 0;
    for (int64_t at = begin; at < end;) {
      const int64_t stop = std::min(end, at + cuts[cut++ % cuts.size()]);
      const Logits part =
          Step(executable, {{.slot = slot, .position = at, .tokens = Part(at, stop)}});
      logits.insert(logits.end(), part.begin(), part.end());
      at = stop;
    }
    return logits;
  }

  ModelShape shape_;
  std::unique_ptr<SyntheticModel> model_;
  Program program_;
  std::unique_ptr<Backend> reference_;
  std::vector<int32_t> tokens_;
};

TEST_P(CudaFastPathTest, AnyCutEqualsTheReference) {
  const auto reference = MakeReference();
  const auto cuda = Make({});
  const auto generic = Make({.generic_only = true});
  const Logits expected = Sequence(*reference, 0, 0, 500, {500});
  const std::vector<std::vector<int32_t>> cuts = {
      {500}, {1}, {2}, {7}, {33}, {160}, {161}, {64, 1, 1, 130, 9}, {1, 300, 3, 1, 1, 1, 1, 40}};
  for (const std::vector<int32_t>& cut : cuts) {
    SCOPED_TRACE(::testing::PrintToString(cut));
    ASSERT_TRUE(cuda->ClearSlots({1}).ok());
    EXPECT_LE(RelativeError(Sequence(*cuda, 1, 0, 500, cut), expected), GetParam().tolerance());
  }
  EXPECT_LE(RelativeError(Sequence(*generic, 1, 0, 500, {500}), expected), GetParam().tolerance());
  const auto plain = Make({.fold_interval = 1});
  EXPECT_LE(RelativeError(Sequence(*plain, 1, 0, 500, {170, 1, 1, 1}), expected),
            GetParam().tolerance());
}

TEST_P(CudaFastPathTest, StepsBackOneTokenAtEveryFoldPhase) {
  const auto reference = MakeReference();
  const auto cuda = Make({});
  for (int64_t stop = 150; stop < 159; ++stop) {
    for (const int32_t cut : {1, 50}) {
      SCOPED_TRACE(::testing::PrintToString(std::tuple(stop, cut)));
      ASSERT_TRUE(reference->ClearSlots({0}).ok());
      ASSERT_TRUE(cuda->ClearSlots({0}).ok());
      Sequence(*reference, 0, 0, stop, {cut});
      Sequence(*cuda, 0, 0, stop, {cut});
      Step(*cuda, {{.slot = 0, .position = stop, .tokens = {60}}});  // the overrun
      const Logits expected = Sequence(*reference, 0, stop, stop + 40, {1, 1, 12});
      const Logits actual = Sequence(*cuda, 0, stop, stop + 40, {1, 1, 12});
      EXPECT_LE(RelativeError(actual, expected), GetParam().tolerance());
    }
  }
}

// Random interleavings of chunks, decodes, forks, restores and overruns of four sequences.
TEST_P(CudaFastPathTest, RandomHistoriesEqualTheReference) {
  const auto reference = MakeReference();
  const auto cuda = Make({});
  std::mt19937 random(5);
  const auto below = [&](int32_t n) { return static_cast<int32_t>(random() % n); };
  int64_t position[4] = {0, 0, 0, 0};
  Logits actual;
  Logits expected;
  for (int32_t round = 0; round < 60; ++round) {
    std::vector<Feed> feeds;
    for (int32_t slot = 0; slot < 4; ++slot) {
      if (below(4) == 0) continue;
      const int32_t length = below(3) == 0 ? 1 + below(90) : 1;
      const int64_t begin = below(600);
      feeds.push_back({slot, position[slot], Part(begin, begin + length)});
      position[slot] += length;
    }
    if (feeds.empty()) continue;
    const Logits from_cuda = Step(*cuda, feeds);
    const Logits from_reference = Step(*reference, feeds);
    actual.insert(actual.end(), from_cuda.begin(), from_cuda.end());
    expected.insert(expected.end(), from_reference.begin(), from_reference.end());
    const int32_t slot = below(4);
    const int32_t other = (slot + 1 + below(3)) % 4;
    switch (below(4)) {
      case 0: {
        const SlotCopy copy = {.from = slot, .to = other};
        ASSERT_TRUE(cuda->CopySlots({copy}).ok());
        ASSERT_TRUE(reference->CopySlots({copy}).ok());
        position[other] = position[slot];
        break;
      }
      case 1: {
        std::vector<std::byte> image(static_cast<size_t>(cuda->info().image_bytes));
        ASSERT_TRUE(cuda->ExportSlot(slot, position[slot], absl::MakeSpan(image)).ok());
        ASSERT_TRUE(cuda->ImportSlot(other, position[slot], image).ok());
        ASSERT_TRUE(reference->CopySlots({SlotCopy{.from = slot, .to = other}}).ok());
        position[other] = position[slot];
        break;
      }
      case 2:
        Step(*cuda, {{slot, position[slot], {3}}});
        break;
      default:
        break;
    }
  }
  EXPECT_LE(RelativeError(actual, expected), GetParam().tolerance());
}

TEST_P(CudaFastPathTest, GraphsDrawWhatEagerStepsDraw) {
  const auto graphs = Make({}, 64);
  const auto eager = Make({.graphs = false}, 64);
  const std::vector<uint32_t> mask = {0x12345678, 0x0ABCDEF1};
  const SampleRules rules{.repetition_penalty = 1.2f,
                          .typical_p = 0.9f,
                          .counts = {{4, 1}, {9, 2}},
                          .banned = {5},
                          .mask = mask};
  const auto decode = [&](Executable& executable) {
    std::vector<int32_t> drawn;
    for (int32_t step = 0; step < 24; ++step) {
      StepTable table;
      const int32_t rows = 1 + (step * 7) % 13;
      for (int32_t row = 0; row < rows; ++row) {
        table.tokens.push_back((step + row) % kVocabulary);
        table.spans.push_back(
            {.slot = row + 20 * (step % 2), .row = row, .length = 1, .position = step / 2});
        SampleRow sample{.row = row};
        sample.params = {.temperature = row % 3 == 0 ? 0.0f : 1.0f,
                         .top_k = row % 5 == 4 ? 7 : 0,
                         .top_p = row % 2 == 0 ? 0.8f : 1.0f,
                         .seed = 99,
                         .position = step};
        // Steps with rules between steps without.
        if (step % 3 == 1 && row % 2 == 0) sample.rules = &rules;
        if (step % 4 == 1) sample.top_logprobs = row % 4;
        table.samples.push_back(sample);
      }
      StepOutput output;
      EXPECT_TRUE(executable.Launch(table).ok());
      EXPECT_TRUE(executable.Collect(output).ok());
      drawn.insert(drawn.end(), output.ids.begin(), output.ids.end());
      for (const TokenScore& score : output.top) drawn.push_back(score.id);
      for (size_t i = 0; i < table.samples.size(); ++i) {
        const auto id = static_cast<size_t>(output.ids[i]);
        if (table.samples[i].rules == nullptr) continue;
        EXPECT_TRUE((mask[id / 32] >> (id % 32) & 1) != 0 && id != 5) << id;
      }
    }
    return drawn;
  };
  const std::vector<int32_t> expected = decode(*eager);
  const std::vector<int32_t> actual = decode(*graphs);
  ASSERT_EQ(actual.size(), expected.size());
  // Other GEMM algorithms at padded rows may tip a draw that lies on the edge.
  size_t same = 0;
  for (size_t i = 0; i < actual.size(); ++i) same += actual[i] == expected[i] ? 1 : 0;
  EXPECT_GE(static_cast<double>(same), 0.98 * static_cast<double>(actual.size()));
}

TEST_P(CudaFastPathTest, BatchInvariantRowsDoNotDependOnTheBatch) {
  const auto cuda = Make({.batch_invariant = true}, 64);
  const Logits alone = Sequence(*cuda, 0, 0, 120, {57, 1, 1, 1});
  int64_t at = 0;
  Logits batched;
  for (int32_t step = 0; at < 120; ++step) {
    const int64_t length = std::min<int64_t>(120 - at, step % 4 == 0 ? 57 : 1);
    std::vector<Feed> feeds;
    for (int32_t slot = 1; slot < 30; ++slot) feeds.push_back({slot, step, {slot}});
    feeds.insert(feeds.begin() + 11, Feed{40, at, Part(at, at + length)});
    const Logits all = Step(*cuda, feeds);
    const auto first = all.begin() + 11 * 64;
    batched.insert(batched.end(), first, first + length * 64);
    at += length;
  }
  EXPECT_EQ(batched, alone);
}

INSTANTIATE_TEST_SUITE_P(Shapes, CudaFastPathTest,
                         ::testing::Values(Case{112, DType::kF32}, Case{112, DType::kBF16},
                                           Case{64, DType::kF32}, Case{64, DType::kBF16},
                                           Case{32, DType::kBF16}, Case{96, DType::kBF16},
                                           Case{128, DType::kBF16}, Case{128, DType::kF32},
                                           Case{112, DType::kBF16, 8}, Case{64, DType::kBF16, 8},
                                           Case{64, DType::kF32, 8}, Case{32, DType::kBF16, 8},
                                           Case{96, DType::kF32, 8}, Case{128, DType::kBF16, 8}),
                         [](const auto& test) {
                           return std::to_string(test.param.head_dim) +
                                  (test.param.dtype == DType::kF32 ? "_fp32" : "_bf16") + "_f" +
                                  std::to_string(test.param.feature_dim);
                         });

// One head of linear attention after a million tokens. Tokens are drawn from few, so that the fp64
// answer is a sum over their counts.
class CudaLongLifeTest : public ::testing::TestWithParam<DType> {
 protected:
  static constexpr int32_t kTokens = 64;
  static constexpr int32_t kF = 16;
  static constexpr int32_t kE = 112;
  static constexpr int32_t kWidth = 2 * kF + kE;

  // Values that bf16 holds exactly.
  WeightView Weight(const std::string& name, int64_t rows, int64_t cols,
                    const std::vector<float>& values) {
    std::vector<std::byte>& bytes = storage_.emplace_back();
    for (const float value : values) {
      const auto* first = reinterpret_cast<const std::byte*>(&value);
      const bool fp32 = GetParam() == DType::kF32;
      bytes.insert(bytes.end(), fp32 ? first : first + 2, first + 4);
    }
    return {.name = name, .data = bytes.data(), .dtype = GetParam(), .rows = rows, .cols = cols};
  }

  Program MakeProgram() {
    std::mt19937 random(17);
    std::normal_distribution<float> normal;
    rows_.resize(kTokens * kWidth);
    for (float& value : rows_) value = std::nearbyint(normal(random) * 32) / 32;
    std::vector<float> identity(kE * kE);
    for (int32_t i = 0; i < kE; ++i) identity[static_cast<size_t>(i * kE + i)] = 1;
    Program program;
    program.buffers = {{.width = kWidth}, {.width = kE}};
    program.weights = {Weight("rows", kTokens, kWidth, rows_),
                       Weight("identity", kE, kE, identity)};
    program.ops = {EmbedOp{.table = 0, .out = 0},
                   TaylorMixOp{.in = 0, .heads = 1, .feature_dim = kF, .head_dim = kE, .out = 1},
                   LogitsOp{.in = 1, .table = 1, .vocab_size = kTokens}};
    program.spare_tokens = 1;
    return program;
  }

  // Output for a query of token `last` after these counts of tokens, `last` among them.
  std::vector<double> Expected(const std::vector<int64_t>& counts, int32_t last) const {
    const auto at = [&](int32_t token, int32_t i) {
      return static_cast<double>(rows_[static_cast<size_t>(token * kWidth + i)]);
    };
    std::vector<double> out(kE, 0.0);
    double denominator = 0;
    for (int32_t token = 0; token < kTokens; ++token) {
      double dot = 0;
      for (int32_t i = 0; i < kF; ++i) dot += at(last, i) * at(token, kF + i);
      const double s = dot / 4;
      const double weight =
          static_cast<double>(counts[static_cast<size_t>(token)]) * (1 + s + s * s / 2);
      denominator += weight;
      for (int32_t e = 0; e < kE; ++e)
        out[static_cast<size_t>(e)] += weight * at(token, 2 * kF + e);
    }
    for (double& value : out) value /= denominator;
    return out;
  }

  std::vector<std::vector<std::byte>> storage_;
  std::vector<float> rows_;
};

TEST_P(CudaLongLifeTest, MillionTokensLoseNothing) {
  const auto backend = NewCudaBackend({});
  if (absl::IsUnavailable(backend.status())) GTEST_SKIP() << backend.status();
  ASSERT_TRUE(backend.ok()) << backend.status();
  storage_.reserve(2);
  const auto executable =
      (*backend)->Compile(MakeProgram(), {.max_rows = 4096, .max_spans = 1, .max_samples = 1});
  ASSERT_TRUE(executable.ok()) << executable.status();
  ASSERT_TRUE((*executable)->CreateSlots(1).ok());
  std::mt19937 random(23);
  std::vector<int64_t> counts(kTokens, 0);
  int64_t position = 0;
  double worst = 0;
  while (position < 1'000'000) {
    // Long chunks, and a run of decodes now and then.
    const int64_t length = position % 97 < 60 ? 4096 : 1;
    StepTable table;
    for (int64_t i = 0; i < length; ++i) {
      table.tokens.push_back(static_cast<int32_t>(random() % kTokens));
      ++counts[static_cast<size_t>(table.tokens.back())];
    }
    table.spans = {
        {.slot = 0, .row = 0, .length = static_cast<int32_t>(length), .position = position}};
    table.samples = {
        {.row = static_cast<int32_t>(length) - 1, .params = {}, .sample = false, .logits = true}};
    StepOutput output;
    ASSERT_TRUE((*executable)->Launch(table).ok());
    ASSERT_TRUE((*executable)->Collect(output).ok());
    worst = std::max(worst, RelativeError(output.logits, Expected(counts, table.tokens.back())));
    position += length;
  }
  RecordProperty("rel_err", std::to_string(worst * 1e9) + "e-9");
  EXPECT_LE(worst, GetParam() == DType::kF32 ? 1e-4 : 1e-2);
}

INSTANTIATE_TEST_SUITE_P(Types, CudaLongLifeTest, ::testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& test) {
                           return test.param == DType::kF32 ? "fp32" : "bf16";
                         });

// Widths whose decode takes the GEMV kernels, against GEMMs.
class CudaGemvTest : public ::testing::TestWithParam<int32_t> {};

TEST_P(CudaGemvTest, EqualsTheGemm) {
  const auto backend = NewCudaBackend({});
  if (absl::IsUnavailable(backend.status())) GTEST_SKIP() << backend.status();
  ASSERT_TRUE(backend.ok()) << backend.status();
  const auto generic = NewCudaBackend({.generic_only = true});
  const SyntheticModel model(
      {.layers = "c", .width = GetParam(), .heads = 16, .dtype = DType::kBF16});
  const auto fast_executable =
      (*backend)->Compile(model.program(), {.max_rows = 8, .max_spans = 8});
  const auto slow_executable =
      (*generic)->Compile(model.program(), {.max_rows = 8, .max_spans = 8});
  ASSERT_TRUE(fast_executable.ok() && slow_executable.ok()) << fast_executable.status();
  ASSERT_TRUE((*fast_executable)->CreateSlots(8).ok() && (*slow_executable)->CreateSlots(8).ok());
  for (const int32_t rows : {1, 2, 3, 4}) {
    StepTable table;
    for (int32_t row = 0; row < rows; ++row) {
      table.tokens.push_back(row * 11 + rows);
      table.spans.push_back({.slot = row, .row = row, .length = 1, .position = rows - 1});
      table.samples.push_back({.row = row, .params = {}, .sample = false, .logits = true});
    }
    StepOutput fast;
    StepOutput slow;
    ASSERT_TRUE((*fast_executable)->Launch(table).ok() && (*slow_executable)->Launch(table).ok());
    ASSERT_TRUE((*fast_executable)->Collect(fast).ok() && (*slow_executable)->Collect(slow).ok());
    EXPECT_LE(RelativeError(fast.logits, slow.logits), 1e-2) << rows << " rows";
  }
}

INSTANTIATE_TEST_SUITE_P(Widths, CudaGemvTest, ::testing::Values(1024, 1792));

}  // namespace
}  // namespace based
