// Lines of a batch as requests of the engine.
#include "engine/batch_ask.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

absl::StatusOr<BatchAsk> Read(const std::string& text) { return ReadBatchAsk(text, "input:4"); }

TEST(BatchAsk, RunsAtBatchPriorityWhateverItSays) {
  const auto line = Read(R"({"prompt":["a","b"],"priority":"interactive","n":2,"best_of":3})");
  ASSERT_TRUE(line.ok()) << line.status();
  ASSERT_EQ(line->request.requests.size(), 2u);
  for (const Request& one : line->request.requests) EXPECT_EQ(one.priority, Priority::kBatch);
  EXPECT_EQ(line->sequences(), 6);
  EXPECT_EQ(line->Facts().sequences, 6);
  EXPECT_EQ(line->request.requests[0].stop.max_tokens, 256);  // the plain form's default
}

// A schema says in which order keys are generated.
TEST(BatchAsk, ASchemaKeepsTheOrderOfItsKeys) {
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

TEST(BatchAsk, WhatMeansNothingIsNamed) {
  const auto line = Read(
      R"({"custom_id":"a","url":"/v1/completions","odd":1,"none":null,"body":{"prompt":"x",
          "service_tier":"flex","metadata":null,"logprobs":null,"suffix":"","user":"u"}})");
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_THAT(line->request.ignored, ElementsAre("service_tier", "odd"));
}

TEST(BatchAsk, ChatsAreToldApartByTheirBeginning) {
  const auto prefix = [](const std::string& content) {
    return Read(absl::StrCat(R"({"custom_id":"a","url":"/v1/chat/completions",
        "body":{"messages":[{"role":"user","content":")",
                             content, R"("}]}})"))
        ->Facts()
        .prefix;
  };
  EXPECT_EQ(prefix("x"), prefix("x"));
  EXPECT_NE(prefix("x"), prefix("y"));
}

TEST(BatchAsk, ErrorsBeginWithThePlace) {
  const struct {
    const char* text;
    const char* fault;
  } cases[] = {
      {R"({"prompt":"x","stream":true})", "input:4: stream is true; expected false"},
      {R"({"prompt":"x","guided_regex":1})", "input:4: guided_regex is 1"},
      {R"({"prompt":"x","guided_regex":"a","guided_choice":["a"]})", "input:4: guided_choice is"},
      {R"({"custom_id":"a","url":"/v1/chat/completions","body":{}})", "input:4: messages is"},
  };
  for (const auto& bad : cases) {
    EXPECT_THAT(std::string(Read(bad.text).status().message()), HasSubstr(bad.fault)) << bad.text;
  }
}

}  // namespace
}  // namespace based
