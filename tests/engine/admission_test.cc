// Who is let in: tenants and their limits, bounds of the queue, deadlines, predicted waits.
#include "engine/admission.h"

#include <cmath>

#include "engine/refusal.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using ::testing::StartsWith;

AdmissionAsk Ask(absl::string_view tenant = "", int64_t prompt = 10, int64_t output = 0) {
  return {
      .tenant = tenant,
      .load = {.requests = 1, .prompt_tokens = prompt, .output_tokens = output, .completions = 1}};
}

// Two full slots with 20 tokens left each; a step takes 1 ms, a prompt token 0.1 ms.
EngineLoad BusyLoad() {
  EngineLoad load;
  load.slots = 2;
  load.running.resize(2, {.output_tokens = 50, .drawn_tokens = 30});
  load.step_seconds = load.one_row_seconds = 1e-3;
  load.prompt_seconds = 1e-4;
  load.row_budget = 256;
  return load;
}

class AdmissionTest : public ::testing::Test {
 protected:
  Refusal RefusalOfAsk(const AdmissionAsk& ask, absl::StatusCode code) {
    const absl::Status status = admission_.Admit(ask, now_).status();
    EXPECT_EQ(status.code(), code) << status;
    const std::optional<Refusal> refusal = RefusalOf(status);
    EXPECT_TRUE(refusal.has_value()) << status;
    return refusal.value_or(Refusal());
  }
  void Admit(const AdmissionAsk& ask) {
    absl::StatusOr<AdmissionTicket> ticket = admission_.Admit(ask, now_);
    ASSERT_TRUE(ticket.ok()) << ticket.status();
    tickets_.push_back(*std::move(ticket));
  }

  Clock::time_point now_ = Clock::time_point(std::chrono::hours(1));
  Admission admission_{{.max_requests = 100, .max_tokens = 1000}};
  std::vector<AdmissionTicket> tickets_;
};

TEST_F(AdmissionTest, WithoutTenantsEveryNameIsTheDefault) {
  Admit(Ask("anybody"));
  EXPECT_EQ(tickets_[0].tenant, 0);
  ASSERT_TRUE(admission_.SetTenants({{.name = "acme", .weight = 2}}).ok());
  Admit(Ask("acme"));
  Admit(Ask(""));
  EXPECT_EQ(tickets_[1].tenant, 1);
  EXPECT_EQ(tickets_[1].weight, 2);
  EXPECT_EQ(tickets_[2].tenant, 0);
  const absl::Status unknown = admission_.Admit(Ask("anybody"), now_).status();
  EXPECT_EQ(unknown.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(unknown.message()), StartsWith("tenant is 'anybody'"));
}

TEST_F(AdmissionTest, LimitsThatMakeNoSenseAreRefusedAndNothingChanges) {
  ASSERT_TRUE(admission_.SetTenants({{.name = "acme"}}).ok());
  for (const auto& [limits, what] : std::vector<std::pair<TenantLimits, std::string>>{
           {{.name = "b", .weight = 0}, "weight of tenant 'b' is 0"},
           {{.name = "b", .weight = std::nan("")}, "weight of tenant 'b'"},
           {{.name = "b", .requests_per_second = -1}, "requests_per_second of tenant 'b' is -1"},
           {{.name = "b", .tokens_per_second = -2}, "tokens_per_second of tenant 'b' is -2"},
           {{.name = "", .max_concurrent = -1}, "max_concurrent of the default tenant is -1"},
           {{.name = "c"}, "tenant 'c' is given twice"}}) {
    const absl::Status status = admission_.SetTenants({{.name = "c"}, limits});
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), StartsWith(what));
  }
  Admit(Ask("acme"));
}

TEST_F(AdmissionTest, RequestRateIsASecondsBurstThenTheRate) {
  ASSERT_TRUE(admission_.SetTenants({{.name = "acme", .requests_per_second = 4}}).ok());
  for (int i = 0; i < 4; ++i) Admit(Ask("acme"));
  const Refusal refusal = RefusalOfAsk(Ask("acme"), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(refusal.reason, RefusalReason::kRequestRate);
  EXPECT_EQ(refusal.retry_after, milliseconds(250));
  now_ += milliseconds(249);
  RefusalOfAsk(Ask("acme"), absl::StatusCode::kResourceExhausted);
  now_ += milliseconds(1);
  Admit(Ask("acme"));
  Admit(Ask());  // others are not held
  now_ += std::chrono::hours(1);
  for (int i = 0; i < 4; ++i) Admit(Ask("acme"));
  RefusalOfAsk(Ask("acme"), absl::StatusCode::kResourceExhausted);
}

TEST_F(AdmissionTest, TokenRateLetsOneLargeRequestInAndThenWaitsForWhatItOwes) {
  ASSERT_TRUE(admission_.SetTenants({{.name = "acme", .tokens_per_second = 100}}).ok());
  Admit(Ask("acme", 50, 250));
  const Refusal refusal = RefusalOfAsk(Ask("acme", 10, 40), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(refusal.reason, RefusalReason::kTokenRate);
  EXPECT_EQ(refusal.retry_after, milliseconds(2500));
  now_ += milliseconds(2500);
  Admit(Ask("acme", 10, 40));
}

TEST_F(AdmissionTest, ConcurrencyCountsUntilTheLeaseIsGone) {
  ASSERT_TRUE(admission_.SetTenants({{.name = "acme", .max_concurrent = 2}}).ok());
  Admit(Ask("acme"));
  Admit(Ask("acme"));
  EXPECT_EQ(RefusalOfAsk(Ask("acme"), absl::StatusCode::kResourceExhausted).reason,
            RefusalReason::kConcurrency);
  // A reload forgets neither what runs nor what was counted.
  ASSERT_TRUE(admission_.SetTenants({{.name = "acme", .max_concurrent = 2}, {.name = "b"}}).ok());
  RefusalOfAsk(Ask("acme"), absl::StatusCode::kResourceExhausted);
  tickets_.pop_back();
  Admit(Ask("acme"));
  const std::vector<TenantUse> use = admission_.use();
  ASSERT_EQ(use.size(), 3u);
  EXPECT_EQ(use[1].name, "acme");
  EXPECT_EQ(use[1].active, 2);
  EXPECT_EQ(use[1].admitted, 3);
  EXPECT_EQ(use[1].refused, 2);
}

TEST_F(AdmissionTest, TheQueueIsBoundedByRequestsAndByTokens) {
  Admit(Ask("", 600, 300));
  Refusal refusal = RefusalOfAsk(Ask("", 50, 51), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(refusal.reason, RefusalReason::kQueueTokens);
  EXPECT_EQ(refusal.retry_after, milliseconds(1000));  // nothing is measured yet
  for (int i = 0; i < 99; ++i) Admit(Ask("", 1));
  refusal = RefusalOfAsk(Ask("", 1), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(refusal.reason, RefusalReason::kQueueFull);
  EXPECT_EQ(admission_.CheckRoom("", false).code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(AdmissionTest, OneRequestMayAlwaysWait) { Admit(Ask("", 5000, 5000)); }

TEST_F(AdmissionTest, ATenantThatFloodsLeavesRoomInTheQueue) {
  ASSERT_TRUE(admission_.SetTenants({{.name = "greedy"}, {.name = "polite"}}).ok());
  int admitted = 0;
  while (admitted < 100 && admission_.Admit(Ask("greedy", 1), now_).ok()) ++admitted;
  EXPECT_EQ(admitted, 80);
  for (int i = 0; i < 10; ++i) Admit(Ask("polite", 1));
}

TEST_F(AdmissionTest, DeadlinesThatCannotBeMetAreRefused) {
  admission_.SetLoad(BusyLoad());
  AdmissionAsk ask = Ask("", 100, 10);
  // A slot comes in 20 ms, or in 10 if we are lucky, and the prompt takes 10 ms.
  ask.deadline = now_ + milliseconds(19);
  const absl::Status status = admission_.Admit(ask, now_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()), HasSubstr("it is 19 ms away, a slot at least 10 ms"));
  EXPECT_EQ(RefusalOf(status)->reason, RefusalReason::kDeadline);
  EXPECT_EQ(RefusalOf(status)->retry_after, milliseconds(0));
  ask.deadline = now_ + milliseconds(21);
  Admit(ask);
  EXPECT_EQ(tickets_[0].predicted_wait, milliseconds(20));
  ask.deadline = now_;
  EXPECT_EQ(admission_.Admit(ask, now_).status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(AdmissionTest, NothingMeasuredRefusesNoDeadlineButOneThatHasPassed) {
  AdmissionAsk ask = Ask("", 100, 10);
  ask.deadline = now_ + milliseconds(1);
  Admit(ask);
  ask.deadline = now_ - milliseconds(1);
  EXPECT_EQ(admission_.Admit(ask, now_).status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(AdmissionTest, ARetryIsAskedForWhenASlotIsThoughtToBeFree) {
  Admission admission({.max_requests = 1, .max_tokens = 1000});
  admission.SetLoad(BusyLoad());
  ASSERT_TRUE(admission.Admit(Ask("", 10, 100), now_).ok());
  EXPECT_EQ(admission.predicted_wait(), milliseconds(20));
  // Behind the one that waits: the other slot.
  const absl::Status status = admission.Admit(Ask(), now_).status();
  EXPECT_EQ(RefusalOf(status)->retry_after, milliseconds(20));
  // From 10 ms to a minute.
  EngineLoad load = BusyLoad();
  for (const auto& [step, retry] : {std::pair(1e-6, 10), std::pair(10.0, 60'000)}) {
    load.step_seconds = load.one_row_seconds = step;
    admission.SetLoad(load);
    ASSERT_TRUE(admission.Admit(Ask("", 10, 100), now_).ok());
    EXPECT_EQ(RefusalOf(admission.Admit(Ask(), now_).status())->retry_after, milliseconds(retry));
  }
}

TEST(RefusalOf, IsOnlyWhatRefuseMade) {
  EXPECT_EQ(RefusalOf(absl::ResourceExhaustedError("full")), std::nullopt);
  const absl::Status status = Refuse(absl::StatusCode::kResourceExhausted, "full",
                                     {RefusalReason::kTokenRate, milliseconds(77)});
  EXPECT_EQ(status.message(), "full");
  EXPECT_EQ(RefusalOf(status)->reason, RefusalReason::kTokenRate);
  EXPECT_EQ(RefusalOf(status)->retry_after, milliseconds(77));
}

}  // namespace
}  // namespace based
