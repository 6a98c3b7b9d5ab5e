// The store of sessions by itself: keys, holders, bounds and who makes room for whom.
#include "engine/session_store.h"

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kImageBytes = 100;
constexpr int32_t kVocab = 130;
constexpr int64_t kSessionBytes = kImageBytes + 3 * 8;

class SessionStoreTest : public ::testing::Test {
 protected:
  void Make(int64_t sessions, int32_t per_tenant = 0,
            Clock::duration idle_limit = Clock::duration::max()) {
    store_ = std::make_unique<SessionStore>(
        SessionOptions{.memory = sessions * kSessionBytes + kSessionBytes / 2,
                       .image_bytes = kImageBytes,
                       .vocab_size = kVocab,
                       .max_per_tenant = per_tenant,
                       .idle_limit = idle_limit});
  }
  absl::StatusOr<std::shared_ptr<SessionLease>> Open(const std::string& tenant,
                                                     const std::string& id, bool create) {
    return store_->Open(tenant, {.id = id, .create = create, .tokens = {}});
  }
  static void Keep(SessionLease& lease, int64_t position, int32_t tail, std::vector<int32_t> added,
                   uint8_t byte = 1) {
    ASSERT_TRUE(lease
                    .Keep(position, tail, added,
                          [&](absl::Span<std::byte> image) {
                            EXPECT_EQ(image.size(), size_t{kImageBytes});
                            std::fill(image.begin(), image.end(), std::byte{byte});
                            return absl::OkStatus();
                          })
                    .ok());
  }
  // A session of `tenant` that is used now.
  absl::Status Use(const std::string& tenant, const std::string& id, bool create) {
    const auto lease = Open(tenant, id, create);
    if (!lease.ok()) return lease.status();
    Keep(**lease, 5, 7, {1, 2, 3, 4, 7});
    return absl::OkStatus();
  }
  std::vector<std::string> Ids(const std::string& tenant) {
    std::vector<std::string> ids;
    for (const SessionInfo& info : store_->List(tenant, "", 1000)) ids.push_back(info.id);
    return ids;
  }

  std::unique_ptr<SessionStore> store_;
};

TEST_F(SessionStoreTest, HoldsWhatWasKept) {
  Make(4);
  {
    const auto lease = Open("acme", "a", true);
    ASSERT_TRUE(lease.ok()) << lease.status();
    EXPECT_EQ((*lease)->state().tokens(), 0);
    Keep(**lease, 5, 129, {3, 64, 3, 63, 129}, 9);
  }
  const auto lease = Open("acme", "a", false);
  ASSERT_TRUE(lease.ok()) << lease.status();
  const SessionState& state = (*lease)->state();
  EXPECT_EQ(state.position, 5);
  EXPECT_EQ(state.tail, 129);
  EXPECT_EQ(state.tokens(), 6);
  EXPECT_EQ(state.image->at(99), std::byte{9});
  EXPECT_THAT(state.SeenIds(), ElementsAre(3, 63, 64, 129));
  const SessionUse use = store_->use();
  EXPECT_EQ(use.sessions, 1);
  EXPECT_EQ(use.bytes, kSessionBytes);
  EXPECT_EQ(use.created, 1);
  EXPECT_EQ(use.resumed, 0);
}

TEST_F(SessionStoreTest, ResumptionsAreCounted) {
  Make(4);
  ASSERT_TRUE(Use("", "a", true).ok());
  ASSERT_TRUE(Use("", "a", false).ok());
  { EXPECT_TRUE(Open("", "a", false).ok()); }  // ends with an error
  EXPECT_EQ(store_->use().resumed, 1);
  EXPECT_EQ(store_->use().reused_tokens, 5);
}

TEST_F(SessionStoreTest, LookupsAreCountedByWhatTheyFind) {
  Make(4);
  ASSERT_TRUE(Use("", "a", true).ok());
  EXPECT_FALSE(Open("", "a", true).ok());
  SessionUse use = store_->use();
  EXPECT_EQ(use.hits + use.misses + use.busy + use.mismatches, 0) << "making one looks for none";
  { EXPECT_TRUE(Open("", "a", false).ok()); }
  EXPECT_TRUE(store_->Fork("", "a", "b").ok());
  EXPECT_FALSE(Open("other", "a", false).ok());
  EXPECT_FALSE(store_->Open("", {.id = "a", .create = false, .tokens = 5}).ok());
  const auto held = Open("", "a", false);
  for (int i = 0; i < 4; ++i) EXPECT_FALSE(Open("", "a", false).ok());
  use = store_->use();
  EXPECT_EQ(use.hits, 3);
  EXPECT_EQ(use.misses, 1);
  EXPECT_EQ(use.mismatches, 1);
  EXPECT_EQ(use.busy, 4);
}

TEST_F(SessionStoreTest, WhatIsNotKeptIsAsItWas) {
  Make(4);
  { EXPECT_TRUE(Open("", "new", true).ok()); }
  EXPECT_TRUE(absl::IsNotFound(store_->Get("", "new").status()));
  EXPECT_EQ(store_->use().bytes, 0);
  ASSERT_TRUE(Use("", "old", true).ok());
  { EXPECT_TRUE(Open("", "old", false).ok()); }
  EXPECT_EQ(store_->Get("", "old")->tokens, 6);
}

TEST_F(SessionStoreTest, AStateThatWasHalfWrittenIsGone) {
  Make(4);
  ASSERT_TRUE(Use("", "a", true).ok());
  {
    const auto lease = Open("", "a", false);
    EXPECT_FALSE((*lease)
                     ->Keep(9, kNone, {},
                            [](absl::Span<std::byte>) { return absl::InternalError("device"); })
                     .ok());
  }
  EXPECT_TRUE(absl::IsNotFound(store_->Get("", "a").status()));
  EXPECT_EQ(store_->use().sessions, 0);
}

TEST_F(SessionStoreTest, OtherTenantsSessionsAreNotThere) {
  Make(8);
  ASSERT_TRUE(Use("acme", "a", true).ok());
  ASSERT_TRUE(Use("acme", "b", true).ok());
  ASSERT_TRUE(Use("acme\x01", "c", true).ok());
  const absl::Status absent = store_->Get("rival", "zzz").status();
  for (const absl::Status& status :
       {store_->Get("rival", "a").status(), Open("rival", "a", false).status(),
        store_->Fork("rival", "a", "x").status(), store_->Delete("rival", "a")}) {
    EXPECT_TRUE(absl::IsNotFound(status)) << status;
    EXPECT_EQ(SessionReasonOf(status), "SESSION_NOT_FOUND");
    // The same words but for the id.
    EXPECT_EQ(status.message().size(), absent.message().size() - 2);
  }
  EXPECT_THAT(Ids("rival"), ElementsAre());
  EXPECT_THAT(Ids("acme"), ElementsAre("a", "b"));
  EXPECT_TRUE(Use("rival", "a", true).ok());
}

TEST_F(SessionStoreTest, OneHolderAtATime) {
  Make(4);
  ASSERT_TRUE(Use("", "a", true).ok());
  const auto lease = Open("", "a", false);
  for (const absl::Status& status : {Open("", "a", false).status(), store_->Delete("", "a"),
                                     store_->Fork("", "a", "b").status()}) {
    EXPECT_TRUE(absl::IsAborted(status)) << status;
    EXPECT_EQ(SessionReasonOf(status), "SESSION_BUSY");
  }
  EXPECT_TRUE(absl::IsAlreadyExists(Open("", "a", true).status()));
  EXPECT_TRUE(store_->Get("", "a")->busy);
  EXPECT_EQ(store_->Get("", "a")->idle.count(), 0);
}

TEST_F(SessionStoreTest, ARepetitionIsRefused) {
  Make(4);
  ASSERT_TRUE(Use("", "a", true).ok());
  EXPECT_TRUE(store_->Open("", {.id = "a", .create = false, .tokens = 6}).ok());
  const absl::Status status = store_->Open("", {.id = "a", .create = false, .tokens = 5}).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(status.ToString(), HasSubstr("state.session_tokens is 5; session 'a' holds 6"));
  EXPECT_FALSE(store_->Get("", "a")->busy);
  EXPECT_FALSE(store_->Open("", {.id = "b", .create = true, .tokens = 5}).ok());
  EXPECT_EQ(store_->use().sessions, 1);
}

TEST_F(SessionStoreTest, TheLeastRecentlyUsedMakesRoom) {
  Make(3);
  for (const char* id : {"a", "b", "c"}) ASSERT_TRUE(Use("", id, true).ok());
  ASSERT_TRUE(Use("", "a", false).ok());
  ASSERT_TRUE(Use("", "d", true).ok());
  EXPECT_THAT(Ids(""), ElementsAre("a", "c", "d"));
  // What is held stays.
  const auto held = Open("", "c", false);
  ASSERT_TRUE(Use("", "e", true).ok());
  EXPECT_THAT(Ids(""), ElementsAre("c", "d", "e"));
  const auto d = Open("", "d", false);
  const auto e = Open("", "e", false);
  const absl::Status full = Open("", "f", true).status();
  EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
  EXPECT_EQ(SessionReasonOf(full), "SESSIONS_FULL");
  EXPECT_EQ(store_->use().evicted_memory, 2);
  EXPECT_EQ(store_->use().bytes, 3 * kSessionBytes);
}

TEST_F(SessionStoreTest, ATenantCannotPushOthersBelowItsOwnShare) {
  Make(6);
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(Use("greedy", std::to_string(i), true).ok());
  EXPECT_EQ(Ids("greedy").size(), 6u);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(Use("modest", std::to_string(i), true).ok());
  for (int i = 20; i < 40; ++i) ASSERT_TRUE(Use("greedy", std::to_string(i), true).ok());
  EXPECT_THAT(Ids("modest"), ElementsAre("0", "1", "2"));
  EXPECT_EQ(Ids("greedy").size(), 3u);
  // Not even where none of its own can go.
  std::vector<std::shared_ptr<SessionLease>> leases;
  for (const std::string& id : Ids("greedy")) leases.push_back(*Open("greedy", id, false));
  EXPECT_TRUE(absl::IsResourceExhausted(Use("greedy", "more", true)));
  EXPECT_THAT(Ids("modest"), ElementsAre("0", "1", "2"));
}

TEST_F(SessionStoreTest, ATenantAtItsLimitMakesRoomForItself) {
  Make(100, /*per_tenant=*/2);
  ASSERT_TRUE(Use("other", "x", true).ok());
  for (const char* id : {"a", "b", "c"}) ASSERT_TRUE(Use("acme", id, true).ok());
  EXPECT_THAT(Ids("acme"), ElementsAre("b", "c"));
  EXPECT_THAT(Ids("other"), ElementsAre("x"));
}

TEST_F(SessionStoreTest, WhatIsNotUsedGoes) {
  Make(8, 0, std::chrono::hours(1));
  ASSERT_TRUE(Use("", "a", true).ok());
  ASSERT_TRUE(Use("", "b", true).ok());
  const auto held = Open("", "b", false);
  store_->Expire(Clock::now() + std::chrono::minutes(59));
  EXPECT_EQ(store_->use().sessions, 2);
  store_->Expire(Clock::now() + std::chrono::hours(2));
  EXPECT_THAT(Ids(""), ElementsAre("b"));
  EXPECT_EQ(store_->use().evicted_idle, 1);
  EXPECT_EQ(store_->use().evicted_memory, 0);
}

TEST_F(SessionStoreTest, AForkIsACopy) {
  Make(2);
  ASSERT_TRUE(Use("", "a", true).ok());
  const auto info = store_->Fork("", "a", "b");
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->tokens, 6);
  EXPECT_TRUE(absl::IsAlreadyExists(store_->Fork("", "a", "b").status()));
  EXPECT_TRUE(absl::IsAlreadyExists(store_->Fork("", "a", "a").status()));
  {
    const auto copy = Open("", "b", false);
    EXPECT_EQ((*copy)->state().tail, 7);
    EXPECT_EQ((*copy)->state().SeenIds().size(), 5u);
    Keep(**copy, 9, 8, {8}, 2);
  }
  EXPECT_EQ((*Open("", "a", false))->state().image->front(), std::byte{1});
  EXPECT_EQ(store_->Get("", "a")->tokens, 6);
  // The source does not make room for its copy.
  ASSERT_TRUE(store_->Fork("", "a", "c").ok());
  EXPECT_THAT(Ids(""), ElementsAre("a", "c"));
}

TEST_F(SessionStoreTest, ListsByPages) {
  Make(10);
  for (const char* id : {"d", "b", "a", "c"}) ASSERT_TRUE(Use("t", id, true).ok());
  const auto page = store_->List("t", "a", 2);
  ASSERT_EQ(page.size(), 2u);
  EXPECT_EQ(page[0].id, "b");
  EXPECT_EQ(page[1].id, "c");
  EXPECT_EQ(page[0].bytes, kSessionBytes);
}

TEST_F(SessionStoreTest, OffWithoutMemory) {
  for (const int64_t memory : {int64_t{0}, kSessionBytes - 1}) {
    SessionStore store({.memory = memory, .image_bytes = kImageBytes, .vocab_size = kVocab});
    for (const absl::Status& status :
         {store.Open("", {.id = "a", .create = true, .tokens = {}}).status(),
          store.Get("", "a").status(), store.Delete("", "a")}) {
      EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
      EXPECT_THAT(status.ToString(), HasSubstr("--session_memory is "));
    }
  }
}

TEST_F(SessionStoreTest, IdsAreChecked) {
  for (const char* id : {"a", "A-z_0.9:x", "0"}) EXPECT_TRUE(CheckSessionId("id", id).ok()) << id;
  EXPECT_TRUE(CheckSessionId("id", std::string(128, 'a')).ok());
  for (const std::string& id :
       {std::string(), std::string(129, 'a'), std::string("a b"), std::string("a\nevent=x"),
        std::string("\xc3\xa9"), std::string("/"), std::string("a\0b", 3)}) {
    const absl::Status status = CheckSessionId("state.session", id);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << id;
    EXPECT_THAT(status.ToString(), HasSubstr("state.session is "));
    EXPECT_THAT(status.ToString(), ::testing::Not(HasSubstr("\n")));
  }
}

TEST_F(SessionStoreTest, ThreadsTakeTurns) {
  Make(3);
  ASSERT_TRUE(Use("", "shared", true).ok());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      for (int i = 0; i < 300; ++i) {
        Use("", "shared", false).IgnoreError();
        Use(std::to_string(t), std::to_string(i % 3), i % 2 == 0).IgnoreError();
        store_->Fork("", "shared", "copy").IgnoreError();
        store_->Delete("", "copy").IgnoreError();
        store_->use();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const SessionUse use = store_->use();
  EXPECT_LE(use.sessions, 3);
  EXPECT_EQ(use.bytes, use.sessions * kSessionBytes);
}

}  // namespace
}  // namespace based
