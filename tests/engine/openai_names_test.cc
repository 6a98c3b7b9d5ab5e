// The engine's messages in OpenAI's words.
#include "engine/openai_names.h"

#include <string>

#include "absl/strings/cord.h"
#include "gtest/gtest.h"

namespace based {
namespace {

std::string Of(absl::string_view message, const OpenAiNames& names = {}, int32_t prompt = 0) {
  return std::string(InOpenAiNames(absl::InvalidArgumentError(message), names, prompt).message());
}

TEST(InOpenAiNames, NamesFieldsAsOpenAiDoes) {
  EXPECT_EQ(Of("stop.min_tokens is 9; expected a number in [0, 7] (stop.max_tokens)"),
            "min_tokens is 9; expected a number in [0, 7] (max_tokens)");
  EXPECT_EQ(Of("sampling.top_p is 2; expected"), "top_p is 2; expected");
  EXPECT_EQ(Of("sampling.bad_words and stop.ignore_eos leave"), "bad_words and ignore_eos leave");
  EXPECT_EQ(Of("stop.strings[3] is 0 bytes long"), "stop[3] is 0 bytes long");
  EXPECT_EQ(Of("stop.token_ids[3] is -1;"), "stop_token_ids[3] is -1;");
  EXPECT_EQ(Of("token_ids.ids[0] is 99;"), "prompt[0] is 99;");
  EXPECT_EQ(Of("text is 5 tokens long;"), "prompt is 5 tokens long;");
  EXPECT_EQ(Of("a key of sampling.logit_bias is 9;"), "a key of logit_bias is 9;");
  EXPECT_EQ(Of("output.top_logprobs is 30;"), "logprobs is 30;");
  const OpenAiNames chat = {.endpoint = OpenAiEndpoint::kChat};
  EXPECT_EQ(Of("output.top_logprobs is 30;", chat), "top_logprobs is 30;");
  EXPECT_EQ(Of("text is 5 tokens long;", chat), "messages is 5 tokens long;");
  EXPECT_EQ(Of("chat.messages[1].role is 7;", chat), "messages[1].role is 7;");
  EXPECT_EQ(Of("the daemon is draining", chat), "the daemon is draining");
}

TEST(InOpenAiNames, SaysTheNameThatWasSent) {
  EXPECT_EQ(Of("stop.max_tokens is 0;", {.max_tokens = "max_completion_tokens"}),
            "max_completion_tokens is 0;");
  EXPECT_EQ(Of("token_ids.ids[0] is 99;", {.prompts = true}, 1), "prompt[1][0] is 99;");
  EXPECT_EQ(Of("text is 5 tokens long;", {.prompts = true}, 2), "prompt[2] is 5 tokens long;");
  EXPECT_EQ(Of("stop.strings[0] is 0 bytes", {.one_stop = true}), "stop is 0 bytes");
  EXPECT_EQ(Of("sampling.bad_words[0] is", {.one_bad_word = true}), "bad_words is");
  EXPECT_EQ(Of("constraint.json_schema: at /type: 7", {.constraint = "guided_json"}),
            "guided_json: at /type: 7");
  EXPECT_EQ(Of("constraint.regex and sampling.bad_words leave", {.constraint = "guided_regex"}),
            "guided_regex and bad_words leave");
}

TEST(InOpenAiNames, KeepsCodeAndPayloads) {
  absl::Status status = absl::ResourceExhaustedError("stop.strings is");
  status.SetPayload("url", absl::Cord("x"));
  const absl::Status renamed = InOpenAiNames(status, {});
  EXPECT_EQ(renamed.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(renamed.GetPayload("url"), absl::Cord("x"));
  EXPECT_TRUE(InOpenAiNames(absl::OkStatus(), {}).ok());
}

}  // namespace
}  // namespace based
