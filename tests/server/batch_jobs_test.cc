// Batch jobs on disk and over a scripted engine: limits, restarts, damage.
#include "server/batch_jobs.h"

#include <filesystem>
#include <fstream>
#include <future>
#include <sstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/log.h"
#include "tests/server/fake_engine.h"

namespace based {
namespace {

using testing::HasSubstr;

const BatchModel kModel = {.openai = {.name = "fake"}, .digest = "d"};

std::string Lines(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    absl::StrAppend(&text, R"({"custom_id":"r)", i, R"(","prompt":"p)", i, R"(","max_tokens":2})",
                    "\n");
  }
  return text;
}

std::string ReadFile(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

int EntriesOf(const std::string& folder) {
  const std::filesystem::directory_iterator entries(folder);
  return static_cast<int>(std::distance(begin(entries), end(entries)));
}

class BatchJobsTest : public testing::Test {
 protected:
  void SetUp() override {
    SetLogOptions({.level = LogLevel::kOff});
    options_.dir = absl::StrCat(testing::TempDir(), "/batch_jobs_",
                                testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(options_.dir);
  }

  std::unique_ptr<BatchStore> OpenStore() {
    auto store = BatchStore::Open(options_);
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? *std::move(store) : nullptr;
  }

  // A job whose input comes in pieces of `piece` bytes.
  static absl::StatusOr<std::shared_ptr<BatchJob>> Add(BatchStore& store, const std::string& tenant,
                                                       const std::string& id,
                                                       const std::string& text,
                                                       size_t piece = 1 << 20) {
    auto upload = store.Begin(tenant, id, kModel);
    if (!upload.ok()) return upload.status();
    for (size_t at = 0; at < text.size(); at += piece) {
      const absl::Status added = (*upload)->Add(absl::string_view(text).substr(at, piece));
      if (!added.ok()) return added;
    }
    return store.Finish(tenant, id, **upload, kModel);
  }

  static void LoadWhole(BatchJob& job) {
    absl::StatusOr<bool> loaded = false;
    while (loaded.ok() && !*loaded) loaded = job.Load(kModel);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
  }

  static std::string AllResults(BatchJob& job, int64_t first = 0) {
    BatchCursor cursor{.next = first};
    bool skipping = false;
    std::string all;
    while (true) {
      const auto lines = job.Results(cursor, 50, skipping);
      EXPECT_TRUE(lines.ok()) << lines.status();
      if (lines->empty() && !skipping) return all;
      absl::StrAppend(&all, *lines);
    }
  }

  BatchOptions options_;
};

TEST_F(BatchJobsTest, AnInputMayBeCutAnywhere) {
  const auto store = OpenStore();
  const std::string text = Lines(5) + "\n \n" + R"({"prompt":"the last, without a break"})";
  std::string digest;
  for (const size_t piece : {size_t{1}, size_t{7}, size_t{64}, text.size()}) {
    const auto job = Add(*store, "t", absl::StrCat("job-", piece), text, piece);
    ASSERT_TRUE(job.ok()) << job.status();
    EXPECT_EQ((*job)->record().lines, 6);
    EXPECT_EQ(ReadFile((*job)->folder() + kBatchInput), text);
    if (digest.empty()) digest = (*job)->record().input;
    EXPECT_EQ((*job)->record().input, digest);
  }
}

TEST_F(BatchJobsTest, WhatIsRefusedLeavesNothing) {
  options_.lines = 10;
  options_.input_bytes = 17 << 20;
  std::string blank;  // lines of white space alone, longer than an input may be
  while (blank.size() < 18 << 20) blank += std::string(1 << 20, ' ') + "\n";
  const auto store = OpenStore();
  const struct {
    std::string text;
    const char* fault;
  } cases[] = {
      {"", "the input holds no line"},
      {"broken", "input:1: not JSON"},
      {Lines(1) + Lines(1), "custom_id is \"r0\", as on line 1"},
      {Lines(11), "--batch_lines"},
      {blank, "--batch_input_bytes"},
      {std::string((16 << 20) + 1, ' '), "longer than 16777216 bytes"},
      {std::string((16 << 20) + 1, ' ') + "\n", "longer than 16777216 bytes"},
  };
  for (const auto& bad : cases) {
    const auto job = Add(*store, "t", "bad", bad.text);
    EXPECT_THAT(std::string(job.status().message()), HasSubstr(bad.fault));
    EXPECT_EQ(EntriesOf(options_.dir + "/moving"), 0);
    EXPECT_EQ(EntriesOf(options_.dir + "/jobs"), 0);
  }
}

TEST_F(BatchJobsTest, ATenantsDiskIsItsOwn) {
  options_.tenant_disk = 300;
  options_.disk = 1000;
  const auto store = OpenStore();
  ASSERT_TRUE(Add(*store, "a", "one", Lines(3)).ok());
  // Two at a time pass together what one may have left.
  auto first = store->Begin("a", "two", kModel);
  auto second = store->Begin("a", "three", kModel);
  ASSERT_TRUE(first.ok() && second.ok());
  ASSERT_TRUE((*first)->Add(Lines(2)).ok());
  ASSERT_TRUE((*second)->Add(Lines(2)).ok());
  EXPECT_TRUE(store->Finish("a", "two", **first, kModel).ok());
  EXPECT_THAT(std::string(store->Finish("a", "three", **second, kModel).status().message()),
              HasSubstr("--batch_tenant_disk"));
  // Results count as inputs do; others go on.
  const auto job = *store->Find("a", "one");
  LoadWhole(*job);
  ASSERT_TRUE(job->Keep(0, false, std::string(200, 'x'), 1).ok());
  EXPECT_THAT(std::string(store->Room("a").message()), HasSubstr("--batch_tenant_disk"));
  EXPECT_TRUE(store->Room("b").ok());
  EXPECT_TRUE(Add(*store, "b", "one", Lines(3)).ok());
}

TEST_F(BatchJobsTest, JobsAreFoundAgainAndDamageIsLeftAlone) {
  std::string damaged;
  {
    const auto store = OpenStore();
    ASSERT_TRUE(Add(*store, "t", "sound", Lines(2)).ok());
    damaged = (*Add(*store, "t", "damaged", Lines(2)))->folder();
    EXPECT_TRUE(absl::IsFailedPrecondition(BatchStore::Open(options_).status()));  // locked
  }
  std::ofstream(damaged + "/job.json") << "{\"tenant\":";
  // As after a kill while an input came, and while a record was written.
  std::filesystem::create_directories(options_.dir + "/moving/1");
  std::ofstream(options_.dir + "/moving/1/input.jsonl") << "{";
  const auto store = OpenStore();
  EXPECT_EQ(EntriesOf(options_.dir + "/moving"), 0);
  EXPECT_EQ(store->All().size(), 1u);
  EXPECT_EQ((*store->Find("t", "sound"))->record().lines, 2);
  EXPECT_TRUE(std::filesystem::exists(damaged + "/job.json"));
  EXPECT_TRUE(absl::IsNotFound(store->Find("other", "sound").status()));
  EXPECT_FALSE(Add(*store, "t", "damaged", Lines(2)).ok());  // its folder is not overwritten
  EXPECT_EQ(ReadFile(damaged + "/job.json"), "{\"tenant\":");
}

TEST_F(BatchJobsTest, TheInputIsNotTrusted) {
  std::string folder;
  {
    const auto store = OpenStore();
    folder = (*Add(*store, "t", "a", Lines(3)))->folder();
  }
  std::ofstream(folder + kBatchInput) << Lines(2);
  const auto store = OpenStore();
  const auto job = *store->Find("t", "a");
  EXPECT_TRUE(absl::IsDataLoss(job->Load(kModel).status()));
  const BatchModel other = {.openai = {.name = "other"}, .digest = "e"};
  EXPECT_TRUE(absl::IsFailedPrecondition(job->Load(other).status()));
}

// Killed after any record, and within one; then after the end, before and after the merge.
TEST_F(BatchJobsTest, ResultsAreTheSameAfterAnyKill) {
  std::string expected;
  {
    const auto store = OpenStore();
    ASSERT_TRUE(Add(*store, "t", "a", Lines(6)).ok());
  }
  for (size_t entry = 0; entry < 6; ++entry) {
    const auto store = OpenStore();
    const auto job = *store->Find("t", "a");
    LoadWhole(*job);
    EXPECT_EQ(job->finished(), static_cast<int64_t>(entry));
    const std::string json = absl::StrCat("{\"n\":", entry, "}");
    ASSERT_TRUE(job->Keep(entry, entry == 2, json, 1).ok());
    absl::StrAppend(&expected, json, "\n");
    EXPECT_EQ(AllResults(*job), expected);
    std::ofstream(job->folder() + kBatchPartial, std::ios::app) << "0123456789abcdef " << entry;
  }
  for (int kill = 0; kill < 3; ++kill) {
    const auto store = OpenStore();
    const auto job = *store->Find("t", "a");
    if (kill == 0) {
      LoadWhole(*job);
      ASSERT_TRUE(job->complete());
      ASSERT_TRUE(job->End(BatchState::kCompleted).ok());
      continue;
    }
    ASSERT_TRUE(job->Settle().ok());
    EXPECT_EQ(job->finished(), 6);
    EXPECT_EQ(job->failed(), 1);
    EXPECT_EQ(AllResults(*job), expected);
    for (const int64_t first : {0, 1, 5, 6}) {
      const std::vector<std::string> lines = absl::StrSplit(AllResults(*job, first), '\n');
      EXPECT_EQ(static_cast<int64_t>(lines.size()) - 1, 6 - first);
    }
    EXPECT_FALSE(std::filesystem::exists(job->folder() + kBatchPartial));
  }
}

// What a job's thread does, waited for.
template <typename F>
auto Ask(BatchJobs& jobs, F ask) {
  std::promise<decltype(ask())> answer;
  EXPECT_TRUE(jobs.Post([&] { answer.set_value(ask()); }));
  return answer.get_future().get();
}

template <typename F>
bool WaitUntil(F holds) {
  for (int i = 0; i < 2000; ++i) {
    if (holds()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

absl::Status Submit(BatchJobs& jobs, const std::string& tenant, const std::string& id,
                    const std::string& text) {
  return Ask(jobs, [&]() -> absl::Status {
    auto upload = jobs.Begin(tenant, id);
    if (!upload.ok()) return upload.status();
    const absl::Status added = (*upload)->Add(text);
    return added.ok() ? jobs.Finish(tenant, id, *std::move(upload)).status() : added;
  });
}

int64_t FinishedOf(BatchJobs& jobs, const std::string& tenant, const std::string& id) {
  return Ask(jobs, [&] { return (*jobs.Find(tenant, id))->finished(); });
}

bool Settled(BatchJobs& jobs, const std::string& tenant, const std::string& id) {
  return Ask(jobs, [&] { return (*jobs.Find(tenant, id))->settled(); });
}

TEST_F(BatchJobsTest, LinesFillTheSlotsAndNoQueue) {
  FakeEngine engine({.hold = true});
  auto jobs = *BatchJobs::Open(options_);
  jobs->Start(engine, kModel);
  ASSERT_TRUE(Submit(*jobs, "a", "one", Lines(40)).ok());
  ASSERT_TRUE(Submit(*jobs, "a", "two", Lines(40)).ok());
  ASSERT_TRUE(Submit(*jobs, "b", "one", Lines(40)).ok());
  const auto in_flight = [&](const std::string& tenant, const std::string& id) {
    return Ask(*jobs, [&] { return jobs->InFlight(**jobs->Find(tenant, id)); });
  };
  const Capacity capacity = engine.capacity();
  ASSERT_TRUE(WaitUntil([&] { return in_flight("a", "one") >= capacity.slots_total; }));
  EXPECT_LE(engine.requests().size(), static_cast<size_t>(capacity.slots_total) + 4);
  EXPECT_EQ(in_flight("a", "two"), 0);  // of a tenant one job at a time
  for (const Request& request : engine.requests()) EXPECT_EQ(request.priority, Priority::kBatch);
  engine.Release();
  for (const auto& [tenant, id] : {std::pair("a", "one"), {"a", "two"}, {"b", "one"}}) {
    EXPECT_TRUE(WaitUntil([&] { return Settled(*jobs, tenant, id); })) << tenant << id;
    EXPECT_EQ(FinishedOf(*jobs, tenant, id), 40);
  }
  jobs->Stop();
  jobs->Shutdown();
}

// However often the daemon drains, every line is answered once.
TEST_F(BatchJobsTest, DrainsLoseAndRepeatNothing) {
  int64_t finished = 0;
  for (int start = 0; finished < 2000; ++start) {
    ASSERT_LT(start, 200);
    FakeEngine engine;
    auto jobs = *BatchJobs::Open(options_);
    jobs->Start(engine, kModel);
    if (start == 0) {
      ASSERT_TRUE(Submit(*jobs, "t", "a", Lines(2000)).ok());
    }
    ASSERT_TRUE(WaitUntil([&] { return FinishedOf(*jobs, "t", "a") > finished; }));
    jobs->Stop();
    engine.Drain(std::chrono::seconds(10));
    finished = FinishedOf(*jobs, "t", "a");
    jobs->Shutdown();
  }
  FakeEngine engine;
  auto jobs = *BatchJobs::Open(options_);
  jobs->Start(engine, kModel);
  ASSERT_TRUE(WaitUntil([&] { return Settled(*jobs, "t", "a"); }));
  const std::string results = Ask(*jobs, [&] { return AllResults(**jobs->Find("t", "a")); });
  std::vector<std::string> lines = absl::StrSplit(results, '\n', absl::SkipEmpty());
  ASSERT_EQ(lines.size(), 2000u);
  for (size_t i = 0; i < lines.size(); ++i) {
    EXPECT_THAT(lines[i], HasSubstr(absl::StrCat("\"custom_id\":\"r", i, "\"")));
  }
  jobs->Stop();
  jobs->Shutdown();
}

TEST_F(BatchJobsTest, CancelAndDeleteEndWhatIsInTheEngine) {
  FakeEngine engine({.hold = true});
  auto jobs = *BatchJobs::Open(options_);
  jobs->Start(engine, kModel);
  ASSERT_TRUE(Submit(*jobs, "t", "a", Lines(40)).ok());
  ASSERT_TRUE(WaitUntil([&] { return !engine.requests().empty(); }));
  EXPECT_TRUE(Ask(*jobs, [&] { return jobs->Cancel(**jobs->Find("t", "a")); }).ok());
  EXPECT_TRUE(WaitUntil([&] { return Settled(*jobs, "t", "a"); }));
  EXPECT_EQ(FinishedOf(*jobs, "t", "a"), 0);
  const size_t before = engine.requests().size();
  ASSERT_TRUE(Submit(*jobs, "t", "b", Lines(40)).ok());
  ASSERT_TRUE(WaitUntil([&] { return engine.requests().size() > before; }));
  std::promise<void> deleted;
  jobs->Post([&] { jobs->Delete(*jobs->Find("t", "b"), [&] { deleted.set_value(); }); });
  deleted.get_future().get();
  EXPECT_EQ(EntriesOf(options_.dir + "/jobs"), 1);
  EXPECT_FALSE(engine.cancels().empty());
  jobs->Stop();
  jobs->Shutdown();
}

}  // namespace
}  // namespace based
