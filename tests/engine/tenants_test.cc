// Tenants and the queue's bounds as a caller of the engine meets them.
#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "engine/engine.h"
#include "engine/refusal.h"
#include "gtest/gtest.h"
#include "tests/engine/collecting_sink.h"
#include "tests/sim/sim_executable.h"

namespace based {
namespace {

class TenantsTest : public ::testing::TestWithParam<int32_t> {
 protected:
  void Make(const EngineOptions& options) {
    auto model = std::make_unique<Model>();
    model->config.vocab_size = SimModel().vocab_size;
    model->executable = std::make_unique<SimExecutable>(SimModel{.pipeline_depth = GetParam()});
    auto engine = Engine::Create(std::move(model), options, nullptr);
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
  }
  absl::StatusOr<RequestId> Submit(const std::string& tenant, int64_t max_tokens,
                                   std::shared_ptr<CollectingSink> sink) {
    Request request;
    request.prompt_is_text = false;
    request.prompt_token_ids = {1, 2, 3};
    request.stop.max_tokens = max_tokens;
    request.stop.ignore_eos = true;
    request.output = {.text = false, .token_ids = true};
    request.tenant = tenant;
    return engine_->Submit(std::move(request), std::move(sink));
  }
  // A first token may arrive before any step's cost is known.
  bool WaitsArePredicted() {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (engine_->capacity().predicted_wait.count() == 0) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }

  std::unique_ptr<Engine> engine_;
};

INSTANTIATE_TEST_SUITE_P(PipelineDepth, TenantsTest, ::testing::Values(1, 2));

TEST_P(TenantsTest, WhoHearsOfAnEndMayAskAgain) {
  Make({.slots = 4});
  ASSERT_TRUE(engine_->SetTenants({{.name = "acme", .max_concurrent = 1}}).ok());
  for (int i = 0; i < 50; ++i) {
    auto sink = std::make_shared<CollectingSink>();
    const auto id = Submit("acme", 3, sink);
    ASSERT_TRUE(id.ok()) << i << ": " << id.status();
    ASSERT_TRUE(sink->WaitForEnd());
  }
  auto endless = std::make_shared<CollectingSink>();
  const auto id = Submit("acme", 1'000'000, endless);
  ASSERT_TRUE(id.ok());
  const absl::Status refused = Submit("acme", 1, std::make_shared<CollectingSink>()).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(RefusalOf(refused)->reason, RefusalReason::kConcurrency);
  EXPECT_GT(RefusalOf(refused)->retry_after.count(), 0);
  engine_->Cancel(*id, absl::CancelledError("gone"));
  ASSERT_TRUE(endless->WaitForEnd());
  EXPECT_TRUE(Submit("acme", 1, std::make_shared<CollectingSink>()).ok());
}

TEST_P(TenantsTest, UseIsCounted) {
  Make({.slots = 4});
  ASSERT_TRUE(engine_->SetTenants({{.name = "acme", .weight = 3}}).ok());
  auto sink = std::make_shared<CollectingSink>();
  ASSERT_TRUE(Submit("acme", 10, sink).ok());
  ASSERT_TRUE(sink->WaitForEnd());
  EXPECT_EQ(Submit("nobody", 10, sink).status().code(), absl::StatusCode::kInvalidArgument);
  const std::vector<TenantUse> use = engine_->tenants();
  ASSERT_EQ(use.size(), 2u);
  EXPECT_EQ(use[0].name, "");
  EXPECT_EQ(use[0].admitted, 0);
  EXPECT_EQ(use[1].name, "acme");
  EXPECT_EQ(use[1].active, 0);
  EXPECT_EQ(use[1].admitted, 1);
  // The prompt and every token that was fed again; the last one is not.
  EXPECT_GE(use[1].tokens, 3 + 9);
}

TEST_P(TenantsTest, TheQueueHoldsSoManyTokens) {
  Make({.slots = 1, .max_queue = 100, .max_queue_tokens = 300});
  auto running = std::make_shared<CollectingSink>();
  const auto first = Submit("", 1'000'000, running);
  ASSERT_TRUE(first.ok());
  ASSERT_TRUE(running->WaitForDeltas(1));
  auto waiting = std::make_shared<CollectingSink>();
  ASSERT_TRUE(Submit("", 97, waiting).ok());  // 100 with the prompt
  ASSERT_TRUE(Submit("", 97, waiting).ok());
  const absl::Status refused = Submit("", 98, waiting).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(RefusalOf(refused)->reason, RefusalReason::kQueueTokens);
  EXPECT_EQ(engine_->capacity().queued_tokens, 200);
  EXPECT_EQ(engine_->capacity().queued_requests, 2);
  EXPECT_TRUE(WaitsArePredicted());
  engine_->Cancel(*first, absl::CancelledError("gone"));
  ASSERT_TRUE(running->WaitForEnd());
}

// Continuations are computed, so they count: against the rate and in what the tenant was served.
TEST_P(TenantsTest, ScoredContinuationsCountAgainstTheTenant) {
  Make({.slots = 4});
  ASSERT_TRUE(engine_->SetTenants({{.name = "acme", .tokens_per_second = 1}}).ok());
  const auto score = [&](std::shared_ptr<CollectingSink> sink) {
    Request request;
    request.prompt_is_text = false;
    request.prompt_token_ids = {1, 2, 3};
    request.continuations = {{.ids = std::vector<int32_t>(48, 4)},
                             {.ids = std::vector<int32_t>(48, 5)}};
    request.output = {.text = false, .token_ids = false};
    request.tenant = "acme";
    return engine_->Submit(std::move(request), std::move(sink));
  };
  auto sink = std::make_shared<CollectingSink>();
  ASSERT_TRUE(score(sink).ok());
  ASSERT_TRUE(sink->WaitForEnd());
  const absl::Status refused = score(std::make_shared<CollectingSink>()).status();
  ASSERT_TRUE(RefusalOf(refused).has_value()) << refused;
  EXPECT_EQ(RefusalOf(refused)->reason, RefusalReason::kTokenRate);
  // A second for each token; for the prompts alone it would be three.
  EXPECT_GT(RefusalOf(refused)->retry_after, std::chrono::seconds(20));
  // The prompt once, and of each continuation all that is fed: its last token is not.
  EXPECT_EQ(engine_->tenants().back().tokens, 3 - 1 + 2 * 48);
}

}  // namespace
}  // namespace based
