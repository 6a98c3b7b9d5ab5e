// OpenAI's and vLLM's fields for the form of a text: what they ask for, and what is refused.
#include "engine/openai_constraint.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

using Kind = ConstraintAsk::Kind;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

absl::StatusOr<ConstraintAsk> Read(const std::string& body) {
  return ReadOpenAiConstraint(json::parse(body), body);
}

ConstraintAsk Asked(const std::string& body) {
  absl::StatusOr<ConstraintAsk> ask = Read(body);
  EXPECT_TRUE(ask.ok()) << ask.status();
  return ask.ok() ? *ask : ConstraintAsk{};
}

TEST(OpenAiConstraint, NothingIsAskedFor) {
  EXPECT_EQ(Asked("{}").kind, Kind::kNothing);
  EXPECT_EQ(Asked(R"({"response_format":null,"guided_regex":null})").kind, Kind::kNothing);
  EXPECT_EQ(Asked(R"({"response_format":{"type":"text"}})").kind, Kind::kNothing);
}

TEST(OpenAiConstraint, EveryFormIsRead) {
  const ConstraintAsk object = Asked(R"({"response_format":{"type":"json_object"}})");
  EXPECT_EQ(object.kind, Kind::kJsonSchema);
  EXPECT_EQ(object.text, R"({"type":"object"})");
  const ConstraintAsk schema = Asked(
      R"({"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"b":1}}}})");
  EXPECT_EQ(schema.kind, Kind::kJsonSchema);
  EXPECT_EQ(schema.field, "response_format.json_schema.schema");
  EXPECT_EQ(Asked(R"({"guided_regex":"a+"})").kind, Kind::kRegex);
  EXPECT_EQ(Asked(R"({"guided_grammar":"root ::= \"a\""})").text, "root ::= \"a\"");
  EXPECT_THAT(Asked(R"({"guided_choice":["yes","no"]})").choices, ElementsAre("yes", "no"));
  EXPECT_EQ(Asked(R"({"guided_json":"{\"type\":\"null\"}"})").text, R"({"type":"null"})");
  EXPECT_EQ(Asked(R"({"structured_outputs":{"json":{"type":"null"}}})").text, R"({"type":"null"})");
  EXPECT_EQ(Asked(R"({"structured_outputs":{"regex":"a"}})").field, "structured_outputs.regex");
  EXPECT_THAT(Asked(R"({"structured_outputs":{"choice":["a"]}})").choices, ElementsAre("a"));
  EXPECT_EQ(Asked(R"({"structured_outputs":{"json_object":true}})").kind, Kind::kJsonSchema);
}

// The order of properties is that of the text.
TEST(OpenAiConstraint, SchemasKeepTheOrderOfTheirKeys) {
  const std::string schema =
      R"({"z":{"q":1,"b":[{"y":0,"x":0}]},"a":2,"guided_json":{"d":1,"c":2}})";
  EXPECT_EQ(Asked(R"({"prompt":"a","guided_json":)" + schema + R"(,"n":1})").text, schema);
  EXPECT_EQ(
      Asked(R"({"response_format":{"type":"json_schema","json_schema":{"strict":true,"schema":)" +
            schema + R"(,"name":"n"}},"z":{"schema":3}})")
          .text,
      schema);
  EXPECT_EQ(Asked(R"({"structured_outputs":{"json":)" + schema + "}}").text, schema);
}

TEST(OpenAiConstraint, WrongFormsAreNamed) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"response_format":"json"})", "response_format is"},
      {R"({"response_format":{}})", "response_format.type is null"},
      {R"({"response_format":{"type":"structural_tag"}})", "response_format.type is"},
      {R"({"response_format":{"type":"json_schema"}})", "response_format.json_schema is null"},
      {R"({"guided_json":7})", "guided_json is 7"},
      {R"({"guided_regex":["a"]})", "guided_regex is"},
      {R"({"guided_choice":["a",1]})", "guided_choice is"},
      {R"({"guided_choice":"a"})", "guided_choice is"},
      {R"({"structured_outputs":{"regex":"a","choice":["b"]}})", "structured_outputs is"},
      {R"({"structured_outputs":{"whitespace":"a"}})", "structured_outputs.whitespace is"},
      {R"({"guided_regex":"a","guided_choice":["b"]})", "guided_choice is set beside guided_regex"},
  };
  for (const auto& [body, message] : cases) {
    const absl::Status status = Read(body).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << body;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message)) << body;
  }
  std::string wide = R"({"guided_json":{"enum":[0)";
  while (wide.size() < (1 << 18) + 100) wide += ",123456789";
  EXPECT_THAT(std::string(Read(wide + "]}}").status().message()),
              HasSubstr("expected at most 262144"));
}

}  // namespace
}  // namespace based
