// Turns of tenants: shares by weight, order within a tenant, credit, aging.
#include "engine/fair_queue.h"

#include <map>
#include <random>

#include "gtest/gtest.h"

namespace based {
namespace {

FairQueue::Entry EntryOf(RequestId id, int32_t tenant, int64_t tokens, double weight = 1) {
  return {.id = id,
          .tenant = tenant,
          .weight = weight,
          .load = {.requests = 1, .prompt_tokens = tokens}};
}

std::vector<RequestId> PopAll(FairQueue& queue, bool batch = false) {
  std::vector<RequestId> ids;
  while (queue.Front(batch) != nullptr) ids.push_back(queue.Pop(batch).id);
  return ids;
}

TEST(FairQueue, OneTenantIsFifo) {
  FairQueue queue(0);
  for (RequestId id = 1; id <= 4; ++id)
    queue.Push(EntryOf(id, 0, 10 * static_cast<int64_t>(id)), false);
  EXPECT_EQ(queue.size(), 4);
  EXPECT_EQ(PopAll(queue), std::vector<RequestId>({1, 2, 3, 4}));
  EXPECT_EQ(queue.size(), 0);
}

TEST(FairQueue, ATenantThatComesLaterPassesTheOneWithMuchWaiting) {
  FairQueue queue(0);
  for (RequestId id = 1; id <= 6; ++id) queue.Push(EntryOf(id, 0, 10), false);
  EXPECT_EQ(queue.Pop(false).id, 1u);
  EXPECT_EQ(queue.Pop(false).id, 2u);
  queue.Push(EntryOf(100, 1, 10), false);
  queue.Push(EntryOf(101, 1, 10), false);
  EXPECT_EQ(PopAll(queue), std::vector<RequestId>({100, 3, 101, 4, 5, 6}));
}

// Always something waiting, costs at random: what each has been given differs from its share by
// no more than its own largest request and the other's, whatever the weights.
TEST(FairQueue, BackloggedTenantsGetTokensByWeight) {
  std::mt19937 random(7);
  for (int round = 0; round < 50; ++round) {
    FairQueue queue(0);
    const int32_t tenants = 2 + static_cast<int32_t>(random() % 4);
    constexpr int64_t kLargest = 100;
    std::vector<double> weights, given(static_cast<size_t>(tenants), 0);
    RequestId id = 0;
    for (int32_t t = 0; t < tenants; ++t) {
      weights.push_back(1 + static_cast<double>(random() % 5));
      for (int i = 0; i < 3; ++i)
        queue.Push(EntryOf(++id, t, 1 + random() % kLargest, weights.back()), false);
    }
    for (int i = 0; i < 2000; ++i) {
      const FairQueue::Entry entry = queue.Pop(false);
      const auto tenant = static_cast<size_t>(entry.tenant);
      given[tenant] += static_cast<double>(entry.load.tokens());
      queue.Push(EntryOf(++id, entry.tenant, 1 + random() % kLargest, weights[tenant]), false);
      for (size_t a = 0; a < given.size(); ++a) {
        for (size_t b = 0; b < given.size(); ++b) {
          ASSERT_LE(given[a] / weights[a] - given[b] / weights[b],
                    kLargest / weights[a] + kLargest / weights[b]);
        }
      }
    }
  }
}

TEST(FairQueue, WhatWasNotTakenIsGivenBack) {
  FairQueue queue(0);
  for (RequestId id = 1; id <= 3; ++id) queue.Push(EntryOf(id, 0, 100), false);
  for (RequestId id = 11; id <= 13; ++id) queue.Push(EntryOf(id, 1, 100), false);
  EXPECT_EQ(queue.Pop(false).id, 1u);
  EXPECT_EQ(queue.Pop(false).id, 11u);
  EXPECT_EQ(queue.Pop(false).id, 2u);
  queue.Refund(0, false, 150);  // it took 50 of the 200
  EXPECT_EQ(PopAll(queue), std::vector<RequestId>({3, 12, 13}));
}

TEST(FairQueue, AnIdleTenantSavesUpABurstAndNoMore) {
  FairQueue queue(/*burst_tokens=*/25);
  for (RequestId id = 1; id <= 20; ++id) queue.Push(EntryOf(id, 0, 10), false);
  for (int i = 0; i < 10; ++i) queue.Pop(false);
  for (RequestId id = 101; id <= 106; ++id) queue.Push(EntryOf(id, 1, 10), false);
  EXPECT_TRUE(queue.FrontIsBehind(false));
  // Virtual time is 90 and its tag 65: three before it has caught up, then turns.
  EXPECT_EQ(PopAll(queue), std::vector<RequestId>({101, 102, 103, 104, 11, 105, 12, 106, 13, 14, 15,
                                                   16, 17, 18, 19, 20}));
}

TEST(FairQueue, NobodyIsBehindAlone) {
  FairQueue queue(1000);
  for (RequestId id = 1; id <= 5; ++id) queue.Push(EntryOf(id, 0, 10), false);
  while (queue.Front(false) != nullptr) {
    EXPECT_FALSE(queue.FrontIsBehind(false));
    queue.Pop(false);
  }
}

TEST(FairQueue, ErasedRequestsCostNothing) {
  FairQueue queue(0);
  for (RequestId id = 1; id <= 4; ++id) queue.Push(EntryOf(id, 0, 1000), false);
  queue.Push(EntryOf(10, 1, 10), false);
  queue.Push(EntryOf(11, 1, 10), false);
  for (RequestId id = 1; id <= 3; ++id) queue.Erase(id, 0);
  queue.Erase(99, 0);
  EXPECT_EQ(queue.size(), 3);
  EXPECT_EQ(PopAll(queue), std::vector<RequestId>({4, 10, 11}));
}

TEST(FairQueue, BatchRequestsAgeIntoTheOthersInOrderOfArrival) {
  FairQueue queue(0);
  const Clock::time_point start;
  const auto at = [&](RequestId id, int ms) {
    FairQueue::Entry entry = EntryOf(id, 0, 10);
    entry.since = start + std::chrono::milliseconds(ms);
    return entry;
  };
  queue.Push(at(1, 0), /*batch=*/true);
  queue.Push(at(2, 10), /*batch=*/false);
  queue.Push(at(3, 20), /*batch=*/true);
  queue.Push(at(4, 30), /*batch=*/false);
  queue.Age(start + std::chrono::milliseconds(5));
  EXPECT_EQ(queue.Front(false)->id, 1u);
  EXPECT_TRUE(queue.Front(false)->aged);
  EXPECT_EQ(queue.Front(true)->id, 3u);
  queue.Age(start + std::chrono::milliseconds(50));
  EXPECT_EQ(PopAll(queue), std::vector<RequestId>({1, 2, 3, 4}));
  EXPECT_EQ(queue.Front(true), nullptr);
}

TEST(FairQueue, TellsWhatWaitsPerTenant) {
  FairQueue queue(0);
  queue.Push(EntryOf(1, 2, 30, 4), false);
  queue.Push(EntryOf(2, 2, 5, 4), true);
  EngineLoad load;
  queue.AddTo(load);
  const std::vector<TenantLoad>& tenants = load.tenants;
  ASSERT_EQ(tenants.size(), 3u);
  EXPECT_EQ(tenants[2].interactive.tokens(), 30);
  EXPECT_EQ(tenants[2].batch.tokens(), 5);
  EXPECT_EQ(tenants[2].weight, 4);
  EXPECT_EQ(tenants[0].interactive.requests, 0);
  ASSERT_EQ(load.waiting.size(), 2u);
  EXPECT_EQ(load.waiting[0].prompt_tokens, 30);
  EXPECT_FALSE(load.waiting[0].batch);
  EXPECT_TRUE(load.waiting[1].batch);
}

// By the turns it tells, those that wait are sorted as they will be served; a request that comes
// now stands where TurnOf says.
TEST(FairQueue, TellsTheTurns) {
  FairQueue queue(50);
  for (int i = 0; i < 5; ++i) {
    queue.Push(EntryOf(static_cast<RequestId>(10 + i), 0, 30, 1), false);
    queue.Push(EntryOf(static_cast<RequestId>(20 + i), 1, 70 - 10 * i, 2), false);
  }
  for (int i = 0; i < 3; ++i) queue.Pop(false);
  EngineLoad load;
  queue.AddTo(load);
  const double turn = load.TurnOf(2, 1, false);
  int before = 0;
  for (const SequenceLoad& waiting : load.waiting) before += waiting.turn <= turn ? 1 : 0;
  std::vector<SequenceLoad> told = load.waiting;
  std::stable_sort(told.begin(), told.end(),
                   [](const auto& a, const auto& b) { return a.turn < b.turn; });
  queue.Push(EntryOf(30, 2, 11, 1), false);
  for (int i = 0; i < before; ++i) {
    const FairQueue::Entry entry = queue.Pop(false);
    EXPECT_EQ(entry.load.tokens(), told[static_cast<size_t>(i)].prompt_tokens) << i;
  }
  EXPECT_EQ(queue.Front(false)->id, 30u);
}

TEST(FairQueue, TellsOneOfSoMany) {
  FairQueue queue(0);
  for (RequestId id = 1; id <= 100; ++id)
    queue.Push(EntryOf(id, static_cast<int32_t>(id % 7), 10), false);
  EngineLoad load;
  load.every = 8;
  queue.AddTo(load);
  EXPECT_EQ(load.waiting.size(), 13u);
  EXPECT_EQ(load.waiting_requests, 100);
  EXPECT_EQ(load.queued().requests, 100);
}

}  // namespace
}  // namespace based
