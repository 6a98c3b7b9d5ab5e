// The checkpoint of a batch under kills, damage and other people's files.
#include "engine/batch_journal.h"

#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

using testing::HasSubstr;

const BatchIdentity kIdentity = {.input = "d1", .model = "m1", .lines = 40};

class BatchJournalTest : public testing::Test {
 protected:
  void SetUp() override {
    output_ = absl::StrCat(testing::TempDir(), "/journal_",
                           testing::UnitTest::GetInstance()->current_test_info()->name());
    for (const char* suffix : {"", ".partial", ".new"}) std::filesystem::remove(output_ + suffix);
  }
  std::string Partial() const { return output_ + ".partial"; }

  std::unique_ptr<BatchJournal> Open() {
    auto journal = BatchJournal::Open(output_, kIdentity);
    EXPECT_TRUE(journal.ok()) << journal.status();
    return journal.ok() ? *std::move(journal) : nullptr;
  }
  static std::string Json(size_t entry) {
    return absl::StrCat("{\"n\":", entry, ",\"text\":\"", std::string(entry * 3, 'x'), "\"}");
  }
  static std::string Read(const std::string& path) {
    std::ostringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
  }
  static void Write(const std::string& path, const std::string& text) {
    std::ofstream(path, std::ios::binary) << text;
  }
  // Adds what is missing, entry by entry from the last.
  static void FillUp(BatchJournal& journal) {
    for (size_t entry = 40; entry-- > 0;) {
      if (journal.Has(entry)) continue;
      ASSERT_TRUE(journal.Append(entry, entry == 3, Json(entry)).ok());
    }
  }

  std::string output_;
};

TEST_F(BatchJournalTest, MergesInOrder) {
  auto journal = Open();
  FillUp(*journal);
  EXPECT_EQ(journal->failed(), 1);
  ASSERT_TRUE(journal->Finish().ok());
  std::string expected;
  for (size_t entry = 0; entry < 40; ++entry) absl::StrAppend(&expected, Json(entry), "\n");
  EXPECT_EQ(Read(output_), expected);
  EXPECT_FALSE(std::filesystem::exists(Partial()));
}

// Wherever the file is cut, what was whole before is kept, and the end is the same.
TEST_F(BatchJournalTest, AnyCutIsRecovered) {
  auto journal = Open();
  FillUp(*journal);
  journal.reset();
  const std::string whole = Read(Partial());
  std::mt19937 random(5);
  for (int i = 0; i < 100; ++i) {
    const size_t cut = i < 50 ? static_cast<size_t>(i) * 2 : random() % whole.size();
    Write(Partial(), whole.substr(0, cut));
    journal = Open();
    ASSERT_NE(journal, nullptr);
    const auto breaks = std::count(whole.begin(), whole.begin() + cut, '\n');
    EXPECT_EQ(journal->finished(), std::max<int64_t>(breaks - 1, 0)) << cut;
    FillUp(*journal);
    ASSERT_TRUE(journal->Finish().ok());
    EXPECT_EQ(std::count(whole.begin(), whole.end(), '\n') - 1, 40);
    const std::string merged = Read(output_);
    for (size_t entry = 0; entry < 40; ++entry) EXPECT_THAT(merged, HasSubstr(Json(entry)));
    std::filesystem::remove(output_);
  }
}

TEST_F(BatchJournalTest, DamageInTheMiddleCutsTheRest) {
  auto journal = Open();
  FillUp(*journal);
  journal.reset();
  std::string text = Read(Partial());
  text[text.size() / 2] ^= 1;
  Write(Partial(), text);
  journal = Open();
  EXPECT_GT(journal->finished(), 5);
  EXPECT_LT(journal->finished(), 35);
  EXPECT_GT(journal->cut_bytes(), 0);
  FillUp(*journal);
  EXPECT_TRUE(journal->Finish().ok());
}

TEST_F(BatchJournalTest, ACopiedRecordIsNotTakenTwice) {
  auto journal = Open();
  FillUp(*journal);
  journal.reset();
  const std::string text = Read(Partial());
  const size_t first = text.find('\n') + 1;
  Write(Partial(), text + text.substr(first, text.find('\n', first) + 1 - first));
  EXPECT_EQ(Open()->finished(), 40);
}

TEST_F(BatchJournalTest, ACompleteOneIsMergedAgain) {
  auto journal = Open();
  FillUp(*journal);
  journal.reset();
  std::filesystem::copy_file(Partial(), output_);  // as after a kill before the checkpoint went
  journal = Open();
  ASSERT_TRUE(journal->Finish().ok());
  EXPECT_EQ(Read(output_).find("based-batch"), std::string::npos);
}

TEST_F(BatchJournalTest, RefusesOthersFiles) {
  const auto error = [this](const BatchIdentity& identity) {
    const auto journal = BatchJournal::Open(output_, identity);
    return journal.ok() ? "" : std::string(journal.status().message());
  };
  auto journal = Open();
  EXPECT_THAT(error(kIdentity), HasSubstr("another process"));
  ASSERT_TRUE(journal->Append(1, false, "{}").ok());
  journal.reset();
  EXPECT_THAT(error({.input = "d2", .model = "m1", .lines = 40}), HasSubstr("another batch"));
  EXPECT_THAT(error({.input = "d1", .model = "m2", .lines = 40}), HasSubstr("another batch"));
  Write(output_, "mine\n");
  EXPECT_THAT(error(kIdentity), HasSubstr("move one of them away"));
  EXPECT_EQ(Read(output_), "mine\n");
  Write(Partial(), "a letter\n");
  EXPECT_THAT(error(kIdentity), HasSubstr("not the checkpoint of a batch"));
  EXPECT_EQ(Read(Partial()), "a letter\n");
}

TEST_F(BatchJournalTest, UnwritableDirectory) {
  const auto journal = BatchJournal::Open("/nowhere/out.jsonl", kIdentity);
  EXPECT_THAT(std::string(journal.status().message()),
              HasSubstr("cannot write /nowhere/out.jsonl.partial"));
}

}  // namespace
}  // namespace based
