// A fault of the device under a running engine. In a program of its own: the process cannot use the
// device again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/engine/collecting_sink.h"
#include "tests/kernels/cuda/engine_on_device.h"
#include "tests/kernels/cuda/trap.h"

namespace based {
namespace {

TEST(CudaFault, EndsEveryRequestAndIsToldByHealth) {
  auto backend = NewCudaBackend({});
  if (absl::IsUnavailable(backend.status())) GTEST_SKIP() << backend.status();
  ASSERT_TRUE(backend.ok()) << backend.status();
  EngineOnDevice host(*std::move(backend));
  auto engine = host.Start({.slots = 8});
  ASSERT_TRUE(engine.ok()) << engine.status();
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (int32_t i = 0; i < 12; ++i) {
    sinks.push_back(std::make_shared<CollectingSink>());
    Request request = IdsRequest({i}, 1'000'000);
    if (i % 2 == 1) request.sampling.frequency_penalty = 0.1f;  // its rules follow its steps
    ASSERT_TRUE((*engine)->Submit(request, sinks.back()).ok());
  }
  ASSERT_TRUE(sinks[0]->WaitForDeltas(20));
  EXPECT_NE(RunTrap(), cudaSuccess);
  for (const auto& sink : sinks) {
    ASSERT_TRUE(sink->WaitForEnd());
    EXPECT_EQ(sink->error().code(), absl::StatusCode::kUnavailable) << sink->error();
    EXPECT_THAT(std::string(sink->error().message()), ::testing::HasSubstr("the device failed"));
    for (const int32_t id : sink->token_ids()) EXPECT_TRUE(id >= 0 && id < kVocabulary) << id;
  }
  EXPECT_TRUE(absl::IsUnavailable((*engine)->health())) << (*engine)->health();
  const auto refused = (*engine)->Submit(IdsRequest({1}, 1), std::make_shared<CollectingSink>());
  EXPECT_TRUE(absl::IsUnavailable(refused.status())) << refused.status();
  EXPECT_EQ((*engine)->capacity().slots_active, 0);
}

}  // namespace
}  // namespace based
