// Events of a stream of completions: how many tokens they bring, and errors.
#include "client/completion_event.h"

#include "gtest/gtest.h"

namespace based {
namespace {

int32_t TokensOf(std::string_view json) {
  const auto event = ReadCompletionEvent(json);
  EXPECT_TRUE(event.ok()) << event.status();
  return event.ok() ? event->tokens : -1;
}

TEST(CompletionEvent, CountsTheIdsOfItsChoicesAlone) {
  EXPECT_EQ(TokensOf(R"({"id":"x","created":7,"choices":[{"index":0,"text":"\"token_ids\":[1]",
      "token_ids":[5,6,7],"logprobs":null}]})"),
            3);
  EXPECT_EQ(TokensOf(R"({"choices":[{"token_ids":[1],"index":3},{"index":4,"token_ids":[2,9]}]})"),
            3);
  EXPECT_EQ(TokensOf(R"({"token_ids":[1],"choices":[{"logprobs":{"token_ids":[1,2]},"index":5}],
      "usage":{"choices":[{"token_ids":[1]}]},"prompt":[{"token_ids":[1]}]})"),
            0);
  EXPECT_EQ(TokensOf(R"({"choices":[],"usage":{"completion_tokens":9}})"), 0);
}

TEST(CompletionEvent, ErrorsComeWithCodeAndMessage) {
  const auto event = ReadCompletionEvent(
      R"({"error":{"message":"full","type":"t","param":null,"code":"rate_limit_exceeded"}})");
  ASSERT_TRUE(event.ok()) << event.status();
  EXPECT_TRUE(event->failed);
  EXPECT_EQ(event->error_code, "rate_limit_exceeded");
  EXPECT_EQ(event->error_message, "full");
  const auto fine = ReadCompletionEvent(R"({"error":null,"code":"x","choices":[{"code":"y"}]})");
  ASSERT_TRUE(fine.ok()) << fine.status();
  EXPECT_FALSE(fine->failed);
  EXPECT_EQ(fine->error_code, "");
}

TEST(CompletionEvent, OthersAreRefused) {
  for (const char* bad : {"", "7", "[]", "\"x\"", "{", "{}x", "<html>", "{\"choices\":[{]}"}) {
    EXPECT_FALSE(ReadCompletionEvent(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace based
