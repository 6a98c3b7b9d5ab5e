// Inputs of a batch: the checks between lines, shards and the order.
#include "client/batch_input.h"

#include <fstream>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/batch_outcome.h"
#include "client/command.h"
#include "engine/batch_result.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string WriteFile(const std::string& name, const std::string& text) {
  const std::string path = testing::TempDir() + "/" + name;
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

std::string ErrorOf(const std::string& path) {
  const auto plan = ReadBatchInput(path, {});
  return plan.ok() ? "" : std::string(plan.status().message());
}

TEST(BatchInput, FaultsBetweenLinesNameBoth) {
  const std::string path = WriteFile("faults.jsonl", R"({"custom_id":"a","prompt":"x","model":"m"})"
                                                     "\n\n"
                                                     R"({"custom_id":"a","prompt":"y"})"
                                                     "\n"
                                                     R"({"prompt":"z","model":"other"})"
                                                     "\n{broken\n");
  const std::string error = ErrorOf(path);
  EXPECT_THAT(error, HasSubstr(absl::StrCat(path, ":3: custom_id is \"a\", as on line 1")));
  EXPECT_THAT(error, HasSubstr(absl::StrCat(path, ":4: model is \"other\", expected \"m\"")));
  EXPECT_THAT(error, HasSubstr(absl::StrCat(path, ":5: not JSON")));
}

TEST(BatchInput, ManyFaultsAreCut) {
  std::string text;
  for (int i = 0; i < 30; ++i) absl::StrAppend(&text, "broken\n");
  const std::string error = ErrorOf(WriteFile("many.jsonl", text));
  EXPECT_THAT(error, HasSubstr("many.jsonl:10:"));
  EXPECT_THAT(error, Not(HasSubstr("many.jsonl:11:")));
  EXPECT_THAT(error, HasSubstr("30 faults, the first of them:\n"));
}

TEST(BatchInput, IgnoredFieldsAreCountedByName) {
  std::string text = R"({"prompt":"x","a":1,"b":2})"
                     "\n"
                     R"({"prompt":"x","a":1})"
                     "\n";
  BatchInputNotes notes;
  const IgnoredFields& ignored = notes.ignored;
  ASSERT_TRUE(ReadBatchInput(WriteFile("ignored.jsonl", text), {}, &notes).ok());
  EXPECT_EQ(ignored, (IgnoredFields{{"a", 2}, {"b", 1}}));
  text = R"({"prompt":"x")";
  for (int i = 0; i < 30; ++i) absl::StrAppend(&text, ",\"f", i, "\":1");
  notes = {};
  ASSERT_TRUE(ReadBatchInput(WriteFile("ignored.jsonl", text + "}"), {}, &notes).ok());
  EXPECT_EQ(ignored.size(), kMostIgnoredFields);
}

TEST(BatchInput, TheFirstChatIsNoted) {
  BatchInputNotes notes;
  const std::string chat = R"({"custom_id":"N","url":"/v1/chat/completions",)"
                           R"("body":{"messages":[{"role":"user","content":"a"}]}})";
  const std::string path =
      WriteFile("chats.jsonl", absl::StrCat("{\"prompt\":\"x\"}\n", chat, "\n",
                                            absl::StrReplaceAll(chat, {{"N", "M"}}), "\n"));
  ASSERT_TRUE(ReadBatchInput(path, {}, &notes).ok());
  EXPECT_EQ(notes.first_chat, path + ":2");
}

TEST(BatchInput, PiecesMakeTheSamePlan) {
  std::string text;
  for (int i = 0; i < 20; ++i) absl::StrAppend(&text, "{\"prompt\":\"", i, "\"}\n\n");
  const std::string path = WriteFile("pieces.jsonl", text);
  const auto whole = ReadBatchInput(path, {});
  ASSERT_TRUE(whole.ok()) << whole.status();
  const auto facts = [](absl::string_view, const std::string&) { return BatchLineFacts{}; };
  for (const int64_t bytes : {1, 20, 1000}) {
    auto reader = BatchPlanReader::Open(path, facts);
    ASSERT_TRUE(reader.ok()) << reader.status();
    int pieces = 1;
    while (!*(*reader)->ReadSome(bytes)) ++pieces;
    EXPECT_GE(pieces, static_cast<int64_t>(text.size()) / (bytes + 20));
    const auto plan = (*reader)->Finish({});
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(plan->digest(), whole->digest());
    EXPECT_EQ(plan->entries().size(), 20u);
  }
}

TEST(BatchInput, MissingFileAndDirectory) {
  EXPECT_THAT(ErrorOf("/nowhere/in.jsonl"), HasSubstr("cannot read /nowhere/in.jsonl"));
  EXPECT_THAT(ErrorOf(testing::TempDir()), HasSubstr("not a regular file"));
}

TEST(BatchInput, ShardsPutTogetherAreTheWhole) {
  std::string text;
  for (int i = 0; i < 23; ++i) absl::StrAppend(&text, "{\"prompt\":\"", i, "\"}\n");
  const std::string path = WriteFile("shards.jsonl", text);
  std::vector<std::string> prompts;
  std::set<std::string> digests;
  for (int64_t i = 0; i < 5; ++i) {
    const auto plan = ReadBatchInput(path, {.index = i, .count = 5});
    ASSERT_TRUE(plan.ok()) << plan.status();
    digests.insert(plan->digest());
    for (size_t entry = 0; entry < plan->entries().size(); ++entry) {
      prompts.push_back(LineOf(*plan, entry)->request.text());
    }
  }
  EXPECT_EQ(digests.size(), 5u);
  ASSERT_EQ(prompts.size(), 23u);
  for (int i = 0; i < 23; ++i) EXPECT_EQ(prompts[i], absl::StrCat(i));
}

TEST(ParseShard, TakesPartsFromZero) {
  ASSERT_TRUE(ParseShard("2/3").ok());
  for (const char* bad :
       {"3/3", "-1/3", "1", "1/0", "a/b", "1/2/3", "", "4611686018427387904/9223372036854775807"}) {
    EXPECT_TRUE(IsUsageError(ParseShard(bad).status())) << bad;
  }
}

TEST(BatchInput, LongestFirstAndPrefixesTogether) {
  const std::string path = WriteFile("order.jsonl", R"({"prompt":"aaa","max_tokens":10})"
                                                    "\n"
                                                    R"({"prompt":"bbb","max_tokens":1000})"
                                                    "\n"
                                                    R"({"prompt":"ccc","max_tokens":1000})"
                                                    "\n"
                                                    R"({"prompt":"bbb","max_tokens":1010})"
                                                    "\n"
                                                    R"({"prompt":"ccc","max_tokens":1005})"
                                                    "\n");
  const auto plan = ReadBatchInput(path, {});
  ASSERT_TRUE(plan.ok()) << plan.status();
  const std::vector<int32_t> order = plan->Order();
  ASSERT_EQ(order.size(), 5u);
  EXPECT_EQ(order[4], 0);
  const auto prompt = [&](size_t at) {
    return LineOf(*plan, static_cast<size_t>(order[at]))->request.text();
  };
  EXPECT_EQ(prompt(0), prompt(1));
  EXPECT_EQ(prompt(2), prompt(3));
}

TEST(BatchInput, AChangedFileIsNoticed) {
  const std::string path =
      WriteFile("changed.jsonl", "{\"prompt\":\"one\"}\n{\"prompt\":\"two\"}\n");
  const auto plan = ReadBatchInput(path, {});
  ASSERT_TRUE(plan.ok());
  WriteFile("changed.jsonl", "{\"prompt\":\"one\"}\n{\"prompt\":\"owt\"}\n");
  EXPECT_TRUE(LineOf(*plan, 0).ok());
  EXPECT_TRUE(absl::IsDataLoss(LineOf(*plan, 1).status()));
  WriteFile("changed.jsonl", "{}");
  EXPECT_TRUE(absl::IsDataLoss(LineOf(*plan, 0).status()));
}

TEST(FailuresInOutput, KnowsItsInput) {
  const std::string path = WriteFile("known.jsonl", "{\"prompt\":\"a\"}\n{\"prompt\":\"b\"}\n");
  const auto plan = ReadBatchInput(path, {});
  ASSERT_TRUE(plan.ok());
  const auto failures = [&](const std::string& output, const BatchPlan& of) {
    return *FailuresInOutput(WriteFile("known.out", output), of);
  };
  std::string text;
  for (int i = 1; i <= 2; ++i) {
    BatchOutcome outcome{.choices = {{.text = ",\"error\":null}"}}};
    if (i == 2) outcome.status = absl::InternalError(",\"error\":null}");
    absl::StrAppend(&text, BatchOutcomeJson({.input = plan->digest()}, {}, i, outcome), "\n");
  }
  EXPECT_EQ(failures(text, *plan), 1);
  EXPECT_FALSE(failures(text + "{}\n", *plan).has_value());
  EXPECT_FALSE(failures(text.substr(0, text.find('\n') + 1), *plan).has_value());
  const auto other = ReadBatchInput(WriteFile("other.jsonl", "{\"prompt\":\"a\"}\n"), {});
  EXPECT_FALSE(failures(text, *other).has_value());
}

TEST(CheckSomeSucceeded, OneIsEnough) {
  EXPECT_TRUE(CheckSomeSucceeded(2, 3, "out").ok());
  EXPECT_TRUE(CheckSomeSucceeded(0, 0, "out").ok());
  EXPECT_EQ(CheckSomeSucceeded(3, 3, "out").message(),
            "all 3 lines have an error in place of a result, see out");
  EXPECT_FALSE(CheckSomeSucceeded(1, 1, "out").ok());
}

}  // namespace
}  // namespace based
