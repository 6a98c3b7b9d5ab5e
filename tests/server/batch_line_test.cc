// Lines of a batch job for the served model.
#include "server/batch_line.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const OpenAiModel kModel = {.name = "demo"};

TEST(BatchJobLine, IsBoundToTheModel) {
  const auto read = [](const char* text) { return ReadBatchJobLine(text, "input:4", kModel); };
  EXPECT_THAT(std::string(read(R"({"prompt":"x","model":"other"})").status().message()),
              HasSubstr("input:4: model is 'other'"));
  const auto chat = read(R"({"custom_id":"a","url":"/v1/chat/completions",
                             "body":{"messages":[{"role":"user","content":"x"}]}})");
  ASSERT_TRUE(chat.ok()) << chat.status();
  EXPECT_EQ(chat->request.requests[0].prompt_text, "### User:\nx\n\n### Assistant:\n");
  EXPECT_THAT(chat->request.requests[0].stop.strings, ElementsAre("\n### "));
}

TEST(BatchJobLine, FactsNameIgnoredFieldsUpToALimit) {
  std::set<std::string> ignored;
  std::string text = R"({"prompt":"x")";
  for (int i = 0; i < 50; ++i) absl::StrAppend(&text, ",\"zoo", i, "\":1");
  ASSERT_TRUE(FactsOfBatchJobLine(text + "}", "input:1", kModel, ignored).ok());
  EXPECT_EQ(ignored.size(), kMostIgnoredFields);
}

}  // namespace
}  // namespace based
