// Lines of a batch job as requests of the engine.
#include "server/batch_line.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

using testing::HasSubstr;

const OpenAiModel kModel = {.name = "demo"};

absl::StatusOr<BatchJobLine> Read(const std::string& text) {
  return ReadBatchJobLine(text, "input:4", kModel);
}

TEST(BatchJobLine, RunsAtBatchPriorityWhateverItSays) {
  const auto line = Read(R"({"prompt":["a","b"],"priority":"interactive","n":2,"best_of":3})");
  ASSERT_TRUE(line.ok()) << line.status();
  ASSERT_EQ(line->request.requests.size(), 2u);
  for (const Request& one : line->request.requests) EXPECT_EQ(one.priority, Priority::kBatch);
  EXPECT_EQ(line->sequences(), 6);
  EXPECT_EQ(line->request.requests[0].stop.max_tokens, 256);  // the plain form's default
}

// A schema says in which order keys are generated.
TEST(BatchJobLine, ASchemaKeepsTheOrderOfItsKeys) {
  const char* const schema = R"({"type":"object","properties":{"z":{},"a":{}}})";
  for (const std::string& text :
       {absl::StrCat(R"({"prompt":"x","guided_json":)", schema, "}"),
        absl::StrCat(R"({"custom_id":"a","url":"/v1/completions","body":{"prompt":"x",
                         "response_format":{"type":"json_schema","json_schema":{"schema":)",
                     schema, "}}}}")}) {
    const auto line = Read(text);
    ASSERT_TRUE(line.ok()) << line.status();
    const ConstraintAsk& ask = line->request.requests[0].constraint;
    EXPECT_EQ(ask.kind, ConstraintAsk::Kind::kJsonSchema);
    EXPECT_EQ(ask.text, schema);
  }
}

TEST(BatchJobLine, ErrorsBeginWithThePlace) {
  const struct {
    const char* text;
    const char* fault;
  } cases[] = {
      {R"({"prompt":"x","stream":true})", "input:4: stream is true; expected false"},
      {R"({"prompt":"x","model":"other"})", "input:4: model is 'other'"},
      {R"({"prompt":"x","guided_regex":1})", "input:4: guided_regex is 1"},
      {R"({"prompt":"x","guided_regex":"a","guided_choice":["a"]})", "input:4: guided_choice is"},
      {R"({"custom_id":"a","url":"/v1/chat/completions","body":{}})", "input:4: messages is"},
  };
  for (const auto& bad : cases) {
    EXPECT_THAT(std::string(Read(bad.text).status().message()), HasSubstr(bad.fault)) << bad.text;
  }
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
