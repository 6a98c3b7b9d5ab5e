// Batch work that makes room for interactive work: who is parked, who goes on, and that what was
// parked draws bit for bit what it would have drawn.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/model.h"
#include "engine/scheduler.h"
#include "gtest/gtest.h"
#include "kernels/backends.h"
#include "tests/engine/collecting_sink.h"

namespace based {
namespace {

class ParkingTest : public ::testing::Test {
 protected:
  void Submit(RequestId id, bool batch, int32_t tenant = 0, double weight = 1,
              int32_t completions = 1, int64_t max_tokens = 100) {
    SequenceSpec spec;
    spec.id = id;
    spec.prompt = {1, 2, 3};
    spec.max_tokens = max_tokens;
    spec.completions = completions;
    spec.batch = batch;
    spec.tenant = tenant;
    spec.weight = weight;
    spec.submitted = now_;
    scheduler_->Submit(std::move(spec));
  }
  // One step; returns the requests that started.
  std::vector<RequestId> Step() {
    scheduler_->Plan(now_, plan_, events_);
    std::vector<RequestId> started;
    for (const SchedulerEvent& event : events_) {
      if (event.kind == SchedulerEvent::Kind::kStarted) started.push_back(event.id);
    }
    events_.clear();
    parks_ = plan_.parks.size();
    resumes_ = plan_.resumes.size();
    if (plan_.empty()) return started;
    StepOutput output;
    output.ids.assign(plan_.table.samples.size(), 5);
    output.finite.assign(plan_.table.samples.size(), 1);
    scheduler_->Commit(output, events_);
    events_.clear();
    return started;
  }
  void End(RequestId id) {
    scheduler_->Cancel(id, absl::CancelledError("done"), events_);
    events_.clear();
  }
  void Make(SchedulerOptions options) {
    options.token_budget = 64;
    scheduler_ = std::make_unique<Scheduler>(options);
  }

  using Ids = std::vector<RequestId>;
  Clock::time_point now_ = Clock::time_point(std::chrono::hours(1));
  std::unique_ptr<Scheduler> scheduler_;
  StepPlan plan_;
  std::vector<SchedulerEvent> events_;
  size_t parks_ = 0, resumes_ = 0;
};

TEST_F(ParkingTest, InteractiveWorkWaitsForNoBatchWork) {
  Make({.slots = 2, .max_parked = 2});
  Submit(1, true);
  Submit(2, true);
  EXPECT_EQ(Step(), Ids({1, 2}));
  Submit(3, true);
  Submit(4, false);
  EXPECT_EQ(Step(), Ids({4}));
  EXPECT_EQ(parks_, 1u);
  EXPECT_EQ(plan_.parks[0].slot, 1);  // of request 2, the later one
  EXPECT_EQ(plan_.parks[0].position, 3);
  EXPECT_EQ(scheduler_->parked(), 1);
  EXPECT_EQ(scheduler_->park_images(), 1);
  Step();
  // What was parked goes on before what is queued.
  End(4);
  EXPECT_EQ(Step(), Ids({}));
  EXPECT_EQ(resumes_, 1u);
  EXPECT_EQ(plan_.resumes[0].position, 3);
  EXPECT_EQ(scheduler_->parked(), 0);
  EXPECT_EQ(scheduler_->park_images(), 1) << "its memory is kept for the next";
  End(1);
  EXPECT_EQ(Step(), Ids({3}));
}

TEST_F(ParkingTest, NoMoreAreParkedThanMemoryHolds) {
  Make({.slots = 3, .max_parked = 1});
  for (RequestId id = 1; id <= 3; ++id) Submit(id, true);
  Step();
  Submit(4, false);
  Submit(5, false);
  EXPECT_EQ(Step(), Ids({4}));
  EXPECT_EQ(Step(), Ids({}));
  EXPECT_EQ(scheduler_->parked(), 1);
}

TEST_F(ParkingTest, ReservedSlotsAreLeftByBatchWork) {
  Make({.slots = 3, .reserved_slots = 1});
  for (RequestId id = 1; id <= 3; ++id) Submit(id, true);
  EXPECT_EQ(Step(), Ids({1, 2}));
  Submit(4, false);
  EXPECT_EQ(Step(), Ids({4}));
  EXPECT_EQ(parks_, 0u);
}

// How many a request for as many completions as there are slots holds at most.
TEST_F(ParkingTest, ForksOfBatchWorkLeaveReservedSlotsToo) {
  for (const auto& [reserved, most] :
       {std::pair(0, 4), std::pair(1, 3), std::pair(2, 2), std::pair(3, 2)}) {
    Make({.slots = 4, .reserved_slots = reserved});
    Submit(1, true, 0, 1, /*completions=*/4, /*max_tokens=*/5);
    int32_t held = 0;
    for (int step = 0; step < 100 && !scheduler_->idle(); ++step) {
      Step();
      held = std::max(held, scheduler_->slots().active());
    }
    EXPECT_TRUE(scheduler_->idle()) << reserved << " reserved";
    EXPECT_EQ(held, most) << reserved << " reserved";
  }
}

TEST_F(ParkingTest, SourcesOfBatchWorkLeaveASlotToTheirForks) {
  Make({.slots = 4, .reserved_slots = 1});
  for (RequestId id = 1; id <= 5; ++id) Submit(id, true, 0, 1, 4, 5);
  for (int step = 0; step < 300 && !scheduler_->idle(); ++step) {
    Step();
    EXPECT_LE(scheduler_->slots().active(), 3);
  }
  EXPECT_TRUE(scheduler_->idle());
}

// A source of batch work that waits for a slot is passed by one that others make room for.
TEST_F(ParkingTest, ForksOfInteractiveWorkPassThoseOfBatchWork) {
  Make({.slots = 5, .max_parked = 2});
  Submit(1, true);
  Submit(2, true, 0, 1, /*completions=*/5);
  for (int step = 0; step < 3; ++step) Step();
  EXPECT_EQ(scheduler_->slots().free(), 0);
  EXPECT_EQ(scheduler_->pending_sources(), 1);
  Submit(3, false, 0, 1, /*completions=*/2);
  for (int step = 0; step < 4; ++step) Step();
  EXPECT_EQ(scheduler_->parked(), 2);
  EXPECT_EQ(scheduler_->pending_sources(), 1);
}

TEST_F(ParkingTest, BatchWorkThatWaitsTooLongIsInteractive) {
  Make({.slots = 1, .max_parked = 1, .batch_patience = std::chrono::seconds(10)});
  Submit(1, true);
  Step();
  Submit(2, false);
  EXPECT_EQ(Step(), Ids({2}));
  Submit(3, false);
  Submit(4, true);
  End(2);
  EXPECT_EQ(Step(), Ids({3}));
  now_ += std::chrono::seconds(10);
  Submit(5, false);
  End(3);
  Step();
  EXPECT_EQ(resumes_, 1u);  // 1, before 5
  EXPECT_EQ(Step(), Ids({}));
  EXPECT_EQ(parks_, 0u);  // and not again
  End(1);
  EXPECT_EQ(Step(), Ids({4}));  // has waited longer than 5
}

TEST_F(ParkingTest, ATenantBeyondItsShareMakesRoomForOneBehindIt) {
  Make({.slots = 4, .max_parked = 4});
  for (RequestId id = 1; id <= 8; ++id) Submit(id, false, 0);
  EXPECT_EQ(Step(), Ids({1, 2, 3, 4}));
  for (RequestId id = 11; id <= 14; ++id) Submit(id, false, 1);
  // Half of the slots, and no more.
  EXPECT_EQ(Step(), Ids({11, 12}));
  EXPECT_EQ(parks_, 2u);
  EXPECT_EQ(Step(), Ids({}));
  // The slot of one that ends goes to the tenant that is now below its share.
  End(11);
  EXPECT_EQ(Step(), Ids({13}));
  End(1);
  Step();
  EXPECT_EQ(resumes_, 1u);
}

class CountsParks : public Observer {
 public:
  void OnStep(const StepStats&) override {}
  void OnSlots(int32_t, int32_t, int32_t) override {}
  void OnParks(int32_t parks, int32_t) override { parks_ += parks; }
  void OnFirstToken(Priority, std::chrono::nanoseconds) override {}
  void OnInterToken(Priority, std::chrono::nanoseconds) override {}
  void OnFinished(Priority, const Finished&) override {}
  void OnError(const absl::Status&) override {}
  void OnRejected(const absl::Status&) override {}
  int32_t parks() const { return parks_; }

 private:
  std::atomic<int32_t> parks_{0};
};

// Slots = 1 and interactive requests at odd moments: the batch request is parked again and again.
class ParkedOutputTest : public ::testing::TestWithParam<const char*> {
 protected:
  std::unique_ptr<Engine> MakeEngine(int32_t slots) {
    auto backend = NewBackend({.kind = GetParam(), .threads = 2});
    EXPECT_TRUE(backend.ok());
    auto model =
        LoadModel({.model_dir = std::string(BASED_SOURCE_DIR) + "/tests/golden/tiny-a"}, **backend);
    EXPECT_TRUE(model.ok()) << model.status();
    backends_.push_back(*std::move(backend));
    auto engine = Engine::Create(*std::move(model), {.slots = slots}, &parks_);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *std::move(engine);
  }
  static Request RequestOf(std::vector<int32_t> prompt, int64_t max_tokens, Priority priority) {
    Request request;
    request.prompt_is_text = false;
    request.prompt_token_ids = std::move(prompt);
    request.sampling.seed = 11;
    request.stop.max_tokens = max_tokens;
    request.stop.ignore_eos = true;
    request.output = {.text = false, .token_ids = true, .logprobs = true};
    request.priority = priority;
    return request;
  }

  CountsParks parks_;                               // outlives the engines
  std::vector<std::unique_ptr<Backend>> backends_;  // outlive their engines
};

TEST_P(ParkedOutputTest, GoesOnBitForBit) {
  const Request batch = RequestOf({3, 1, 4, 1, 5}, 600, Priority::kBatch);
  const auto quiet = MakeEngine(2);
  auto alone = std::make_shared<CollectingSink>();
  ASSERT_TRUE(quiet->Submit(batch, alone).ok());
  ASSERT_TRUE(alone->WaitForEnd());

  // On a busy machine the batch request may end before an interactive one comes: try again.
  const auto engine = MakeEngine(1);
  for (int attempt = 0; attempt < 20 && parks_.parks() == 0; ++attempt) {
    auto parked = std::make_shared<CollectingSink>();
    ASSERT_TRUE(engine->Submit(batch, parked).ok());
    for (int i = 1; i <= 8; ++i) {
      parked->WaitForDeltas(20 * i);
      auto interactive = std::make_shared<CollectingSink>();
      ASSERT_TRUE(engine->Submit(RequestOf({7, 8}, 5, Priority::kInteractive), interactive).ok());
      ASSERT_TRUE(interactive->WaitForEnd());
    }
    ASSERT_TRUE(parked->WaitForEnd());
    EXPECT_EQ(parked->token_ids(), alone->token_ids());
    EXPECT_EQ(parked->finished()->cumulative_logprob, alone->finished()->cumulative_logprob);
  }
  EXPECT_GT(parks_.parks(), 0);
  const int64_t image_bytes = engine->model().executable->info().image_bytes;
  EXPECT_EQ(quiet->capacity().park_bytes, 0);
  EXPECT_EQ(engine->capacity().park_bytes, image_bytes);
  EXPECT_EQ(engine->capacity().park_limit_bytes, int64_t{1} << 30);
}

INSTANTIATE_TEST_SUITE_P(HostBackends, ParkedOutputTest, ::testing::Values("cpu", "reference"));

}  // namespace
}  // namespace based
