// What surrounds the requests of a batch, and the text of a body inside of it.
#include "engine/batch_envelope.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

using testing::HasSubstr;

absl::StatusOr<BatchEnvelope> Parse(const std::string& text) {
  return ParseBatchEnvelope(text, "in.jsonl:3");
}

// The raw text must be the body, whatever stands beside it.
TEST(BatchEnvelope, TheTextOfABodyIsFound) {
  const std::string body = R"({"z":{"body":1},"a":["}",",\"",{"body":"]"}],"m":"\\"})";
  const char* const around[][2] = {
      {R"({"custom_id":"a","url":"/v1/completions","body":)", "}"},
      {R"({"body": )", R"( , "url":"/v1/completions","custom_id":"\",\"body\":{}"})"},
      {R"({"b\u006fdy":)", R"(,"custom_id":"body","url":"/v1/completions"})"},
      {R"({"x":{"body":[1]},"y":["body",{}],"custom_id":"a","body":)",
       R"(,"url":"/v1/completions","method":"POST"})"},
  };
  for (const auto& [before, after] : around) {
    const std::string line = absl::StrCat(before, body, after);
    const auto read = Parse(line);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(nlohmann::json::parse(read->raw), nlohmann::json::parse(body)) << line;
    EXPECT_EQ(read->body, nlohmann::json::parse(body));
    EXPECT_LT(read->raw.find("\"z\""), read->raw.find("\"a\"")) << line;
  }
}

TEST(BatchEnvelope, ThePlainFormIsItsOwnBody) {
  const std::string line = R"({"custom_id":"a","prompt":"x"})";
  const auto read = Parse(line);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->form, BatchForm::kPlain);
  EXPECT_EQ(read->raw, line);
  EXPECT_EQ(read->body, nlohmann::json::parse(R"({"prompt":"x"})"));
}

TEST(BatchEnvelope, BodiesMayNestAsDeepAsOverHttp) {
  const auto line = [](int levels) {
    return absl::StrCat(R"({"custom_id":"a","url":"/v1/completions","body":{"x":)",
                        std::string(static_cast<size_t>(levels), '['),
                        std::string(static_cast<size_t>(levels), ']'), "}}");
  };
  EXPECT_TRUE(Parse(line(63)).ok());
  EXPECT_THAT(std::string(Parse(line(64)).status().message()), HasSubstr("in.jsonl:3"));
}

}  // namespace
}  // namespace based
