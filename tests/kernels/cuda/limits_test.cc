// What a card with too little memory, or with a model that overflows, does to an engine on it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/engine/collecting_sink.h"
#include "tests/kernels/cuda/device_memory.h"
#include "tests/kernels/cuda/engine_on_device.h"

namespace based {
namespace {

using ::testing::HasSubstr;

class CudaLimitsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto backend = NewCudaBackend(options_);
    if (absl::IsUnavailable(backend.status())) GTEST_SKIP() << backend.status();
    ASSERT_TRUE(backend.ok()) << backend.status();
    host_ = std::make_unique<EngineOnDevice>(*std::move(backend));
  }

  // Long and short prompts, more of them than a step takes.
  static std::vector<std::vector<int32_t>> Run(Engine& engine) {
    std::vector<std::shared_ptr<CollectingSink>> sinks;
    for (int32_t i = 0; i < 40; ++i) {
      std::vector<int32_t> prompt;
      for (int32_t t = 0; t < 3 + i % 7 * 60; ++t) prompt.push_back((i * 5 + t * 3) % kVocabulary);
      Request request = IdsRequest(prompt, 20 + i);
      request.sampling.temperature = i % 2 == 0 ? 0.0f : 1.0f;
      request.sampling.top_k = i % 4 == 1 ? 10 : 0;
      sinks.push_back(std::make_shared<CollectingSink>());
      EXPECT_TRUE(engine.Submit(std::move(request), sinks.back()).ok());
    }
    std::vector<std::vector<int32_t>> ids;
    for (const auto& sink : sinks) {
      EXPECT_TRUE(sink->WaitForEnd());
      EXPECT_TRUE(sink->finished().has_value()) << sink->error();
      ids.push_back(sink->token_ids());
    }
    return ids;
  }

  CudaBackendOptions options_;
  std::unique_ptr<EngineOnDevice> host_;
};

TEST_F(CudaLimitsTest, NothingIsAllocatedOnceItServes) {
  const auto engine = host_->Start({.slots = 24});
  ASSERT_TRUE(engine.ok()) << engine.status();
  const TakenMemory taken;
  ASSERT_TRUE(taken.any());
  Run(**engine);
  EXPECT_TRUE((*engine)->health().ok()) << (*engine)->health();
}

TEST_F(CudaLimitsTest, ACardWithoutFreeMemoryIsRefused) {
  const TakenMemory taken;
  const auto engine = host_->Start({});
  EXPECT_TRUE(absl::IsResourceExhausted(engine.status())) << engine.status();
  EXPECT_THAT(std::string(engine.status().message()), HasSubstr("bytes for"));
}

TEST_F(CudaLimitsTest, AsManySlotsAsTheMemoryHolds) {
  const auto engine = host_->Start({});
  ASSERT_TRUE(engine.ok()) << engine.status();
  const Capacity capacity = (*engine)->capacity();
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  ASSERT_EQ(cudaMemGetInfo(&free_bytes, &total_bytes), cudaSuccess);
  EXPECT_EQ(capacity.pool_bytes, capacity.slots_total * capacity.slot_bytes);
  EXPECT_GT(capacity.pool_bytes, static_cast<int64_t>(total_bytes / 2));
  // The reserve is left; what the driver keeps beside it is not ours.
  EXPECT_GT(free_bytes, static_cast<size_t>(options_.reserve_bytes) / 2);
}

class CudaTooSmallTest : public CudaLimitsTest {
 protected:
  CudaTooSmallTest() { options_.reserve_bytes = int64_t{1} << 50; }
};

TEST_F(CudaTooSmallTest, ACardThatHoldsNoSlotIsRefusedWithTheSizes) {
  const auto engine = host_->Start({});
  EXPECT_TRUE(absl::IsResourceExhausted(engine.status())) << engine.status();
  EXPECT_THAT(std::string(engine.status().message()), HasSubstr("not enough memory for one slot"));
}

TEST_F(CudaLimitsTest, LogitsThatAreNotFiniteEndThatRequestAlone) {
  const auto engine = host_->Start({.slots = 8});
  ASSERT_TRUE(engine.ok()) << engine.status();
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (int32_t i = 0; i < 16; ++i) {
    sinks.push_back(std::make_shared<CollectingSink>());
    const std::vector<int32_t> prompt = {i, i % 5 == 2 ? kPoison : i + 1, 3};
    ASSERT_TRUE((*engine)->Submit(IdsRequest(prompt, 50), sinks.back()).ok());
  }
  for (int32_t i = 0; i < 16; ++i) {
    CollectingSink& sink = *sinks[static_cast<size_t>(i)];
    ASSERT_TRUE(sink.WaitForEnd());
    if (i % 5 == 2) {
      EXPECT_EQ(sink.error().code(), absl::StatusCode::kInternal) << i;
    } else {
      EXPECT_TRUE(sink.finished().has_value()) << i << ": " << sink.error();
    }
  }
  EXPECT_TRUE((*engine)->health().ok());
  // Its slot is clean for the next one.
  for (int32_t i = 0; i < 16; ++i) {
    auto sink = std::make_shared<CollectingSink>();
    ASSERT_TRUE((*engine)->Submit(IdsRequest({i, i + 1}, 5), sink).ok());
    ASSERT_TRUE(sink->WaitForEnd());
    EXPECT_TRUE(sink->finished().has_value()) << i << ": " << sink->error();
  }
}

}  // namespace
}  // namespace based
