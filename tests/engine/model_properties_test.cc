// What defines this model family, on both golden checkpoints and every backend: the logits of a
// token depend on the tokens before it alone. Whole or chunked, solo or in any batch, in any slot,
// copied, exported or after other sequences: the same. On the reference to 1e-12, on the CPU bit
// for bit, on CUDA within a norm (and bit for bit where the same spans run; with batch_invariant
// beside any others).
#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "engine/model.h"
#include "gtest/gtest.h"
#include "kernels/backends.h"
#ifdef BASED_WITH_CUDA
#include "kernels/cuda/cuda_backend.h"
#endif

namespace based {
namespace {

constexpr int32_t kSlots = 6;

absl::StatusOr<std::unique_ptr<Backend>> TestBackend(const std::string& name) {
#ifdef BASED_WITH_CUDA
  if (absl::StartsWith(name, "cuda")) {
    return NewCudaBackend({.batch_invariant = absl::StrContains(name, "invariant"),
                           .precision = absl::StrContains(name, "bf16") ? CudaPrecision::kBF16
                                                                        : CudaPrecision::kF32});
  }
#endif
  return NewBackend({.kind = name, .threads = 2});
}

std::vector<std::string> BackendNames() {
  std::vector<std::string> names = {"reference", "cpu"};
#ifdef BASED_WITH_CUDA
  names.insert(names.end(),
               {"cuda_fp32", "cuda_bf16", "cuda_fp32_invariant", "cuda_bf16_invariant"});
#endif
  return names;
}

struct Sequence {
  int32_t slot = 0;
  std::vector<int32_t> tokens;
  int64_t position = 0;
  std::vector<int32_t> spans;               // lengths
  std::vector<std::vector<double>> logits;  // per token

  int64_t left() const { return static_cast<int64_t>(tokens.size()) - position; }
};

class ModelPropertiesTest : public ::testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  void SetUp() override {
    const auto& [backend_name, fixture] = GetParam();
    auto backend = TestBackend(backend_name);
    if (absl::IsUnavailable(backend.status())) GTEST_SKIP() << backend.status();
    ASSERT_TRUE(backend.ok()) << backend.status();
    backend_ = *std::move(backend);
    auto model = LoadModel(
        {.model_dir = std::string(BASED_SOURCE_DIR) + "/tests/golden/" + fixture}, *backend_);
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
    ASSERT_TRUE(model_->executable->CreateSlots(kSlots).ok());
  }

  Sequence MakeSequence(int32_t slot, size_t length) {
    Sequence sequence{.slot = slot};
    std::uniform_int_distribution<int32_t> id(0, model_->config.vocab_size - 1);
    for (size_t i = 0; i < length; ++i) sequence.tokens.push_back(id(random_));
    return sequence;
  }

  void Clear(int32_t slot) { ASSERT_TRUE(model_->executable->ClearSlots({slot}).ok()); }

  // One step that advances each sequence by its count of tokens, taking every row's logits.
  void Step(const std::vector<std::pair<Sequence*, int32_t>>& parts) {
    StepTable table;
    for (const auto& [sequence, length] : parts) {
      const auto row = static_cast<int32_t>(table.tokens.size());
      table.spans.push_back({sequence->slot, row, length, sequence->position});
      for (int32_t i = 0; i < length; ++i) {
        table.samples.push_back({.row = row + i, .sample = false, .logits = true});
        table.tokens.push_back(sequence->tokens[static_cast<size_t>(sequence->position + i)]);
        table.sources.push_back(kNone);
      }
      sequence->position += length;
      sequence->spans.push_back(length);
    }
    StepOutput output;
    ASSERT_TRUE(model_->executable->Launch(table).ok());
    ASSERT_TRUE(model_->executable->Collect(output).ok());
    const auto width = static_cast<int64_t>(model_->config.padded_vocab_size);
    auto next = output.logits.begin();
    for (const auto& [sequence, length] : parts) {
      for (int32_t i = 0; i < length; ++i, next += width) {
        sequence->logits.emplace_back(next, next + width);
      }
    }
  }

  // The sequence by itself in one span.
  std::vector<std::vector<double>> Whole(const std::vector<int32_t>& tokens) {
    Sequence sequence{.slot = 0, .tokens = tokens};
    Clear(0);
    Step({{&sequence, static_cast<int32_t>(tokens.size())}});
    return sequence.logits;
  }

  // The sequence by itself in the spans that it had.
  std::vector<std::vector<double>> Alone(const Sequence& in) {
    Sequence sequence{.slot = 2, .tokens = in.tokens};
    Clear(2);
    for (const int32_t length : in.spans) Step({{&sequence, length}});
    return sequence.logits;
  }

  bool Is(absl::string_view part) const { return absl::StrContains(std::get<0>(GetParam()), part); }

  // What the sums of any two ways of computing may differ by: ||a - b|| / ||b|| over the sequence.
  double Bound() const {
    if (Is("reference")) return 1e-12;
    if (Is("cpu")) return 0;
    return Is("bf16") ? 3e-2 : 1e-4;
  }

  static void ExpectSame(const std::vector<std::vector<double>>& actual,
                         const std::vector<std::vector<double>>& expected, double bound) {
    ASSERT_EQ(actual.size(), expected.size());
    double error = 0;
    double norm = 0;
    for (size_t t = 0; t < actual.size(); ++t) {
      ASSERT_EQ(actual[t].size(), expected[t].size());
      for (size_t i = 0; i < actual[t].size(); ++i) {
        error += (actual[t][i] - expected[t][i]) * (actual[t][i] - expected[t][i]);
        norm += expected[t][i] * expected[t][i];
      }
    }
    ASSERT_GT(norm, 0);
    ASSERT_LE(std::sqrt(error / norm), bound);
  }

  void ExpectSame(const std::vector<std::vector<double>>& actual,
                  const std::vector<std::vector<double>>& expected) const {
    ExpectSame(actual, expected, Bound());
  }

  std::vector<Sequence> RandomTraffic();

  int32_t Uniform(int32_t low, int32_t high) {
    return std::uniform_int_distribution<int32_t>(low, high)(random_);
  }

  std::mt19937 random_{20240211};
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
};

TEST_P(ModelPropertiesTest, TokenByTokenIsWhole) {
  Sequence sequence = MakeSequence(3, 70);
  Clear(3);
  while (sequence.left() > 0) Step({{&sequence, 1}});
  ExpectSame(sequence.logits, Whole(sequence.tokens));
}

TEST_P(ModelPropertiesTest, AnyChunkingIsWhole) {
  for (int trial = 0; trial < 6; ++trial) {
    Sequence sequence = MakeSequence(1, static_cast<size_t>(Uniform(30, 90)));
    Clear(1);
    while (sequence.left() > 0) {
      const auto most = static_cast<int32_t>(std::min<int64_t>(sequence.left(), 23));
      Step({{&sequence, Uniform(1, most)}});
    }
    ExpectSame(sequence.logits, Whole(sequence.tokens));
  }
}

// Sequences of random lengths come, go and are abandoned in all slots, in random spans.
std::vector<Sequence> ModelPropertiesTest::RandomTraffic() {
  std::vector<Sequence> finished;
  std::map<int32_t, Sequence> live;
  while (finished.size() < 14) {
    for (int32_t slot = 0; slot < kSlots; ++slot) {
      if (live.contains(slot) || Uniform(0, 2) > 0) continue;
      live[slot] = MakeSequence(slot, static_cast<size_t>(Uniform(1, 60)));
      Clear(slot);
    }
    std::vector<std::pair<Sequence*, int32_t>> parts;
    for (auto& [slot, sequence] : live) {
      if (Uniform(0, 3) == 0) continue;
      const auto most = static_cast<int32_t>(std::min<int64_t>(sequence.left(), 19));
      parts.emplace_back(&sequence, Uniform(0, 1) == 0 ? 1 : Uniform(1, most));
    }
    if (parts.empty()) continue;
    std::shuffle(parts.begin(), parts.end(), random_);
    Step(parts);
    for (auto it = live.begin(); it != live.end();) {
      const bool cancelled = Uniform(0, 40) == 0;
      if (it->second.left() == 0) finished.push_back(it->second);
      it = it->second.left() == 0 || cancelled ? live.erase(it) : std::next(it);
    }
  }
  return finished;
}

TEST_P(ModelPropertiesTest, AnyBatchInAnySlotIsSolo) {
  const bool invariant = Is("cpu") || Is("invariant");
  for (const Sequence& sequence : RandomTraffic()) {
    ExpectSame(sequence.logits, Whole(sequence.tokens));
    ExpectSame(sequence.logits, Alone(sequence), invariant ? 0 : Bound());
  }
}

// The same spans in a slot that has served others and in one that has not: to the bit everywhere.
TEST_P(ModelPropertiesTest, AClearedSlotIsAFreshOne) {
  Sequence before = MakeSequence(5, 60);
  Step({{&before, 41}});
  while (before.left() > 0) Step({{&before, 1}});
  Clear(5);
  Sequence used = MakeSequence(5, 50);
  Sequence fresh = used;
  fresh.slot = 3;
  for (Sequence* sequence : {&used, &fresh}) {
    while (sequence->left() > 0) Step({{sequence, sequence->left() > 17 ? 11 : 1}});
  }
  ExpectSame(used.logits, fresh.logits, 0);
}

TEST_P(ModelPropertiesTest, ACopiedOrRestoredSlotContinuesAsTheOriginal) {
  for (const int32_t cut : {1, 2, 7, 8, 9, 16, 33}) {
    Sequence original = MakeSequence(0, static_cast<size_t>(cut) + 30);
    Clear(0);
    Step({{&original, cut}});
    Executable& executable = *model_->executable;
    ASSERT_TRUE(executable.CopySlots({{.from = 0, .to = 4}}).ok());
    std::vector<std::byte> image(static_cast<size_t>(executable.info().image_bytes));
    ASSERT_TRUE(executable.ExportSlot(0, cut, absl::MakeSpan(image)).ok());
    ASSERT_TRUE(executable.ImportSlot(5, cut, image).ok());
    Sequence copy = original;
    copy.slot = 4;
    Sequence restored = original;
    restored.slot = 5;
    while (original.left() > 0) Step({{&restored, 1}, {&original, 1}, {&copy, 1}});
    ExpectSame(copy.logits, original.logits);
    ExpectSame(restored.logits, original.logits);
    ExpectSame(original.logits, Whole(original.tokens));
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, ModelPropertiesTest,
                         ::testing::Combine(::testing::ValuesIn(BackendNames()),
                                            ::testing::Values("tiny-a", "tiny-b")),
                         [](const auto& test) {
                           std::string name =
                               std::get<0>(test.param) + "_" + std::get<1>(test.param);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace based
