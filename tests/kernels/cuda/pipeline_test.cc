// Loaded checkpoints on the GPU as the engine drives them: two steps in flight, a token too many at
// every stop, at every fold phase, mixed at random with chunks, forks and restores, against the
// CPU, which is fed what the GPU drew.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "engine/checkpoint.h"
#include "engine/model_config.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cuda/cuda_backend.h"

namespace based {
namespace {

constexpr int32_t kSlots = 4;

class CudaPipelineTest
    : public ::testing::TestWithParam<std::tuple<const char*, CudaPrecision>> {
 protected:
  void SetUp() override {
    const auto& [fixture, precision] = GetParam();
    const auto cuda = NewCudaBackend({.precision = precision});
    if (absl::IsUnavailable(cuda.status())) GTEST_SKIP() << cuda.status();
    ASSERT_TRUE(cuda.ok()) << cuda.status();
    const std::string dir = std::string(BASED_SOURCE_DIR "/tests/golden/") + fixture;
    const auto config = LoadModelConfig(dir + "/config.json");
    ASSERT_TRUE(config.ok()) << config.status();
    vocabulary_ = config->vocab_size;
    auto checkpoint = LoadCheckpoint(dir, *config);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    checkpoint_ = *std::move(checkpoint);
    cpu_backend_ = NewCpuBackend({.threads = 2});
    cuda_ = Make(**cuda);
    cpu_ = Make(*cpu_backend_);
  }

  std::unique_ptr<Executable> Make(Backend& backend) {
    auto executable = backend.Compile(checkpoint_.program,
                                      {.max_rows = 256, .max_spans = 16, .max_samples = 256});
    EXPECT_TRUE(executable.ok()) << executable.status();
    EXPECT_TRUE((*executable)->CreateSlots(kSlots).ok());
    return *std::move(executable);
  }

  int32_t Below(int32_t n) { return static_cast<int32_t>(random_() % static_cast<uint32_t>(n)); }
  int32_t Token() { return Below(vocabulary_); }

  static std::vector<double> Logits(Executable& executable, StepTable table) {
    for (size_t row = 0; row < table.tokens.size(); ++row) {
      table.samples.push_back(
          {.row = static_cast<int32_t>(row), .params = {}, .sample = false, .logits = true});
    }
    StepOutput output;
    EXPECT_TRUE(executable.Launch(table).ok());
    EXPECT_TRUE(executable.Collect(output).ok());
    return output.logits;
  }

  // One chunk of a slot on both, whose logits are compared.
  void Chunk(int32_t slot, int32_t length) {
    StepTable table;
    table.spans = {{.slot = slot, .row = 0, .length = length, .position = position_[slot]}};
    for (int32_t i = 0; i < length; ++i) table.tokens.push_back(Token());
    table.sources.assign(table.tokens.size(), kNone);
    position_[slot] += length;
    const std::vector<double> expected = Logits(*cpu_, table);
    const std::vector<double> actual = Logits(*cuda_, table);
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t i = 0; i < actual.size(); ++i) {
      error_ += (actual[i] - expected[i]) * (actual[i] - expected[i]);
      norm_ += expected[i] * expected[i];
    }
  }

  // Step `step` of a decode of `slots`: from a token of the host's, then from the step before.
  StepTable DecodeStep(const std::vector<int32_t>& slots, int32_t step,
                       const std::vector<int32_t>& first) {
    StepTable table;
    for (size_t i = 0; i < slots.size(); ++i) {
      const auto row = static_cast<int32_t>(i);
      const int32_t slot = slots[i];
      table.spans.push_back(
          {.slot = slot, .row = row, .length = 1, .position = position_[slot] + step});
      table.tokens.push_back(step == 0 ? first[i] : kTokenFromPrevious);
      table.sources.push_back(step == 0 ? kNone : row);
      SampleRow sample{.row = row};
      sample.params = {.temperature = 0.8f, .seed = 3, .position = position_[slot] + step + 1};
      table.samples.push_back(sample);
    }
    return table;
  }

  // Decodes `steps` tokens of each slot with two steps in flight, so that one more is fed than
  // counts.
  void Decode(const std::vector<int32_t>& slots, int32_t steps) {
    std::vector<int32_t> fed(slots.size());
    for (int32_t& token : fed) token = Token();
    ASSERT_TRUE(cuda_->Launch(DecodeStep(slots, 0, fed)).ok());
    for (int32_t step = 0; step < steps; ++step) {
      ASSERT_TRUE(cuda_->Launch(DecodeStep(slots, step + 1, {})).ok());
      StepOutput drawn;
      ASSERT_TRUE(cuda_->Collect(drawn).ok());
      StepTable table;
      for (size_t i = 0; i < slots.size(); ++i) {
        table.spans.push_back({.slot = slots[i],
                               .row = static_cast<int32_t>(i),
                               .length = 1,
                               .position = position_[slots[i]] + step});
        table.tokens.push_back(fed[i]);
        table.sources.push_back(kNone);
      }
      Logits(*cpu_, table);
      fed = drawn.ids;
    }
    StepOutput overrun;
    ASSERT_TRUE(cuda_->Collect(overrun).ok());
    for (const int32_t slot : slots) position_[slot] += steps;
  }

  void Fork(int32_t from, int32_t to) {
    ASSERT_TRUE(cuda_->CopySlots({SlotCopy{.from = from, .to = to}}).ok());
    ASSERT_TRUE(cpu_->CopySlots({SlotCopy{.from = from, .to = to}}).ok());
    position_[to] = position_[from];
  }

  // Over an image of each side, through a slot that was used and cleared.
  void Restore(int32_t from, int32_t to) {
    for (Executable* executable : {cuda_.get(), cpu_.get()}) {
      std::vector<std::byte> image(static_cast<size_t>(executable->info().image_bytes));
      ASSERT_TRUE(executable->ExportSlot(from, position_[from], absl::MakeSpan(image)).ok());
      ASSERT_TRUE(executable->ClearSlots({to}).ok());
      ASSERT_TRUE(executable->ImportSlot(to, position_[from], image).ok());
    }
    position_[to] = position_[from];
  }

  double tolerance() const { return std::get<1>(GetParam()) == CudaPrecision::kF32 ? 1e-4 : 3e-2; }

  std::mt19937 random_{29};
  int32_t vocabulary_ = 0;
  Checkpoint checkpoint_;
  std::unique_ptr<Backend> cpu_backend_;
  std::unique_ptr<Executable> cuda_;
  std::unique_ptr<Executable> cpu_;
  int64_t position_[kSlots] = {};
  double error_ = 0;
  double norm_ = 0;
};

TEST_P(CudaPipelineTest, StopsAtEveryFoldPhase) {
  ASSERT_EQ(cuda_->info().pipeline_depth, 2);
  for (int32_t prompt = 1; prompt <= 3; ++prompt) {
    for (int32_t steps = 1; steps <= 17; ++steps) {
      ASSERT_TRUE(cuda_->ClearSlots({0}).ok() && cpu_->ClearSlots({0}).ok());
      position_[0] = 0;
      Chunk(0, 9 * prompt);
      Decode({0}, steps);
      Chunk(0, 1);
      Chunk(0, 12);
    }
  }
  EXPECT_LE(std::sqrt(error_ / norm_), tolerance());
}

// A stopped sequence's state is exported or copied after the overrun, as the engine does it.
TEST_P(CudaPipelineTest, RandomHistoriesEqualTheReference) {
  for (int32_t round = 0; round < 160; ++round) {
    const int32_t slot = Below(kSlots);
    const int32_t other = (slot + 1 + Below(kSlots - 1)) % kSlots;
    switch (Below(6)) {
      case 0:
      case 1:
        Chunk(slot, 1 + Below(40));
        break;
      case 2:
        Decode({slot}, 1 + Below(20));
        break;
      case 3:
        Decode({other, slot}, 1 + Below(20));
        break;
      case 4:
        Decode({slot}, 1 + Below(9));
        Fork(slot, other);
        break;
      default:
        Decode({slot}, 1 + Below(9));
        Restore(slot, other);
        break;
    }
    if (HasFatalFailure()) return;
  }
  for (int32_t slot = 0; slot < kSlots; ++slot) Chunk(slot, 30);
  EXPECT_LE(std::sqrt(error_ / norm_), tolerance());
}

INSTANTIATE_TEST_SUITE_P(Fixtures, CudaPipelineTest,
                         ::testing::Combine(::testing::Values("tiny-a", "tiny-b"),
                                            ::testing::Values(CudaPrecision::kF32,
                                                              CudaPrecision::kBF16)),
                         [](const auto& test) {
                           const bool fp32 = std::get<1>(test.param) == CudaPrecision::kF32;
                           return std::string(std::get<0>(test.param)).substr(5) +
                                  (fp32 ? "_fp32" : "_bf16");
                         });

}  // namespace
}  // namespace based
