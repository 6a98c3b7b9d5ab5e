// What the engine says as OpenAI's answers, whole and streamed.
#include "server/openai_reply.h"

#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/openai_json.h"
#include "server/openai_logprobs.h"
#include "tests/server/fake_exchange.h"

namespace based {
namespace {

using nlohmann::json;

// 0 is "a", 1 a quote, 2 and 3 the halves of "é", 4 is special.
class Letters final : public Tokenizer {
 public:
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view) const override {
    return std::vector<int32_t>();
  }
  std::string_view Bytes(int32_t id, bool skip_special) const override {
    constexpr std::string_view kBytes[] = {"a", "\"", "\xC3", "\xA9", "<s>"};
    return id == 4 && skip_special ? "" : kBytes[id];
  }
  int32_t size() const override { return 5; }
};

class ReplyTest : public testing::Test {
 protected:
  OpenAiReplyOptions Options(bool chat = false) {
    return {.chat = chat, .id = "id-1", .created = 5, .model = "m\"", .fingerprint = "f",
            .tokenizer = &letters_};
  }

  std::unique_ptr<OpenAiReply> Make(bool stream, OpenAiReplyOptions options) {
    exchange_ = std::make_shared<FakeExchange>();
    return stream ? NewStreamReply(std::move(options), exchange_)
                  : NewWholeReply(std::move(options), exchange_);
  }

  json Whole() { return json::parse(exchange_->response().body); }
  std::vector<json> Events() { return EventsOf(exchange_->response().body); }

  Letters letters_;
  std::shared_ptr<FakeExchange> exchange_;
};

constexpr char kText[] = "one\n\"two\" \xC3\xA9";

TEST_F(ReplyTest, WholeCompletion) {
  auto reply = Make(false, Options());
  reply->Begin();
  EXPECT_TRUE(reply->OnDelta(0, {.text = kText, .tokens = 1}));
  EXPECT_TRUE(reply->OnDelta(0, {.text = "!", .tokens = 1}));
  reply->OnChoiceFinished(0, {.reason = FinishReason::kStopString, .stop_string = "x"});
  EXPECT_FALSE(exchange_->ended());
  reply->Finish({.prompt_tokens = 3, .completion_tokens = 2});
  EXPECT_TRUE(exchange_->ended());
  EXPECT_EQ(Whole(), json::parse(R"({"id":"id-1","object":"text_completion","created":5,
      "model":"m\"","system_fingerprint":"f",
      "choices":[{"index":0,"text":"one\n\"two\" é!","logprobs":null,"finish_reason":"stop",
                  "stop_reason":"x"}],
      "usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}})"));
}

TEST_F(ReplyTest, WholeChat) {
  auto reply = Make(false, Options(true));
  reply->OnDelta(0, {.text = "hi", .tokens = 1});
  reply->OnChoiceFinished(0, {.reason = FinishReason::kMaxTokens});
  reply->Finish({});
  EXPECT_EQ(Whole()["object"], "chat.completion");
  EXPECT_EQ(Whole()["choices"][0]["message"],
            json::parse(R"({"role":"assistant","content":"hi","refusal":null})"));
  EXPECT_EQ(Whole()["choices"][0]["finish_reason"], "length");
}

TEST_F(ReplyTest, ChoicesOfManyPrompts) {
  for (const bool stream : {false, true}) {
    OpenAiReplyOptions options = Options();
    options.prompts = options.n = 2;
    auto reply = Make(stream, options);
    reply->Begin();
    reply->OnDelta(1, {.text = "d", .tokens = 1, .index = 1});
    reply->OnDelta(0, {.text = "b", .tokens = 1, .index = 1});
    reply->OnChoiceFinished(1, {.index = 1});
    reply->Finish({});
    if (stream) {
      EXPECT_EQ(Events()[0]["choices"][0]["index"], 3);
      EXPECT_EQ(Events()[1]["choices"][0]["index"], 1);
    } else {
      EXPECT_EQ(Whole()["choices"][3]["text"], "d");
      EXPECT_EQ(Whole()["choices"][1]["text"], "b");
    }
  }
}

TEST_F(ReplyTest, StreamedCompletion) {
  OpenAiReplyOptions options = Options();
  options.include_usage = true;
  auto reply = Make(true, options);
  reply->Begin();
  EXPECT_TRUE(reply->OnDelta(0, {.text = kText, .tokens = 1}));
  EXPECT_TRUE(reply->OnDelta(0, {.text = "", .tokens = 1}));  // says nothing
  reply->OnChoiceFinished(0, {.reason = FinishReason::kStopToken, .stop_token_id = 4});
  reply->Finish({.prompt_tokens = 3, .completion_tokens = 2});
  EXPECT_TRUE(exchange_->ended());
  EXPECT_THAT(exchange_->response().content_type, testing::StartsWith("text/event-stream"));
  const auto events = Events();
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0], json::parse(R"({"id":"id-1","object":"text_completion","created":5,
      "model":"m\"","choices":[{"index":0,"text":"one\n\"two\" é","logprobs":null,
      "finish_reason":null}],"usage":null})"));
  EXPECT_EQ(events[1]["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(events[1]["choices"][0]["stop_reason"], 4);
  EXPECT_TRUE(events[2]["choices"].empty());
  EXPECT_EQ(events[2]["usage"]["total_tokens"], 5);
}

TEST_F(ReplyTest, StreamedChatBeginsWithTheRole) {
  auto reply = Make(true, Options(true));
  reply->Begin();
  reply->OnDelta(0, {.text = "hi", .tokens = 1});
  reply->OnChoiceFinished(0, {});
  reply->Finish({});
  const auto events = Events();
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0]["choices"][0]["delta"], json::parse(R"({"role":"assistant","content":""})"));
  EXPECT_EQ(events[1]["choices"][0]["delta"], json::parse(R"({"content":"hi"})"));
  EXPECT_EQ(events[2]["choices"][0]["delta"], json::object());
  EXPECT_FALSE(events[1].contains("usage"));
}

TEST_F(ReplyTest, TokenIds) {
  for (const bool stream : {false, true}) {
    OpenAiReplyOptions options = Options();
    options.token_ids = true;
    auto reply = Make(stream, options);
    reply->Begin();
    reply->OnDelta(0, {.token_ids = {7, 8}, .tokens = 2});
    reply->OnChoiceFinished(0, {});
    reply->Finish({});
    const json choice = stream ? Events()[0]["choices"][0] : Whole()["choices"][0];
    EXPECT_EQ(choice["token_ids"], json::parse("[7,8]"));
  }
}

// The prompt "a", quote, then one generated token of two alternatives.
TEST_F(ReplyTest, LegacyLogprobsWithEcho) {
  for (const bool stream : {false, true}) {
    OpenAiReplyOptions options = Options();
    options.logprobs = options.top_logprobs = true;
    auto reply = Make(stream, options);
    reply->Begin();
    reply->OnDelta(0, {.text = "a\"", .token_ids = {0, 1}});
    reply->OnDelta(0, {.prompt_logprobs = {{.token_id = 1, .logprob = -2}}});
    const TokenLogprob drawn{.token_id = 2, .logprob = -0.5, .alternatives = {{0, -0.25}}};
    reply->OnDelta(0, {.token_ids = {2}, .tokens = 1, .logprobs = {drawn}});
    reply->OnChoiceFinished(0, {});
    reply->Finish({});
    json joined = {{"tokens", json::array()}, {"token_logprobs", json::array()},
                   {"top_logprobs", json::array()}, {"text_offset", json::array()}};
    std::string text;
    const std::vector<json> parts = stream ? Events() : std::vector<json>{Whole()};
    for (const json& part : parts) {
      text += part["choices"][0]["text"].get<std::string>();
      const json& logprobs = part["choices"][0]["logprobs"];
      if (logprobs.is_null()) continue;
      for (auto& [key, list] : joined.items()) {
        list.insert(list.end(), logprobs[key].begin(), logprobs[key].end());
      }
    }
    EXPECT_EQ(text, "a\"");
    EXPECT_EQ(joined, json::parse(R"({"tokens":["a","\"","bytes:\\xc3"],
        "token_logprobs":[null,-2.0,-0.5],
        "top_logprobs":[null,{"\"":-2.0},{"a":-0.25,"bytes:\\xc3":-0.5}],
        "text_offset":[0,1,2]})"))
        << stream;
  }
}

TEST_F(ReplyTest, ChatLogprobs) {
  OpenAiReplyOptions options = Options(true);
  options.logprobs = options.top_logprobs = true;
  auto reply = Make(false, options);
  const TokenLogprob drawn{.token_id = 4, .logprob = -0.5, .alternatives = {{0, -0.25}, {4, -0.5}}};
  reply->OnDelta(0, {.tokens = 1, .logprobs = {drawn}});
  reply->OnChoiceFinished(0, {});
  reply->Finish({});
  EXPECT_EQ(Whole()["choices"][0]["logprobs"], json::parse(R"({"content":[{"token":"<s>",
      "logprob":-0.5,"bytes":[60,115,62],"top_logprobs":[
          {"token":"a","logprob":-0.25,"bytes":[97]},
          {"token":"<s>","logprob":-0.5,"bytes":[60,115,62]}]}],"refusal":null})"));
}

TEST_F(ReplyTest, SlowReaderIsToldWithoutWhatItHasNotRead) {
  OpenAiReplyOptions options = Options();
  options.queue_bytes = 1000;
  auto reply = Make(true, options);
  reply->Begin();
  int deltas = 0;
  while (reply->OnDelta(0, {.text = "word ", .tokens = 1})) ASSERT_LT(++deltas, 100);
  EXPECT_GT(deltas, 3);
  reply->Fail({.status = 429, .type = "t", .message = "too slow"});
  EXPECT_TRUE(exchange_->ended());
  EXPECT_EQ(exchange_->response().status, 200);  // it had begun
  EXPECT_THAT(exchange_->response().body, testing::Not(testing::HasSubstr("word")));
  EXPECT_THAT(exchange_->response().body, testing::StartsWith("data: {\"error\":"));
}

TEST_F(ReplyTest, EchoIsNoSlowReader) {
  OpenAiReplyOptions options = Options();
  options.queue_bytes = 1000;
  auto reply = Make(true, options);
  reply->Begin();
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(reply->OnDelta(0, {.text = std::string(60'000, 'x')}));
  }
  EXPECT_TRUE(reply->OnDelta(0, {.text = "word", .tokens = 1}));
}

TEST_F(ReplyTest, FailureBeforeTheBeginningIsTheAnswer) {
  for (const bool stream : {false, true}) {
    auto reply = Make(stream, Options());
    reply->OnDelta(0, {.text = "early", .tokens = 1});
    reply->Fail({.status = 429, .type = "t", .message = "full", .retry_after_ms = 10});
    EXPECT_EQ(exchange_->response().status, 429);
    EXPECT_EQ(Whole()["error"]["message"], "full");
    EXPECT_EQ(exchange_->Header("retry-after"), "1");
  }
}

TEST(Json, EscapesAndNumbers) {
  std::string all;
  for (int c = 1; c < 128; ++c) all += static_cast<char>(c);
  all += "\xE2\x82\xAC";
  all += '\0';
  EXPECT_EQ(json::parse(JsonString(all)), all);
  std::string number;
  AppendJsonLogprob(-std::numeric_limits<double>::infinity(), number);
  EXPECT_EQ(number, "-9999");
  number.clear();
  AppendJsonLogprob(-1.1f, number);
  EXPECT_EQ(number, "-1.1");
}

}  // namespace
}  // namespace based
