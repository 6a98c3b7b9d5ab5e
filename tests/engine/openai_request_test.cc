// What OpenAI's request bodies become, and what is wrong with them.
#include "engine/openai_request.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

absl::StatusOr<OpenAiRequest> Complete(const std::string& body) {
  return ReadOpenAiRequest(json::parse(body), body, OpenAiEndpoint::kCompletions);
}

absl::StatusOr<OpenAiRequest> Chat(const std::string& body) {
  return ReadOpenAiRequest(json::parse(body), body, OpenAiEndpoint::kChat);
}

std::string With(const std::string& fields) { return R"({"prompt":"x",)" + fields + "}"; }

TEST(ReadCompletion, DefaultsAreOpenAis) {
  const auto call = Complete(R"({"prompt":"hello"})");
  ASSERT_TRUE(call.ok()) << call.status();
  ASSERT_EQ(call->requests.size(), 1u);
  const Request& request = call->requests[0];
  EXPECT_TRUE(request.prompt_is_text);
  EXPECT_EQ(request.prompt_text, "hello");
  EXPECT_EQ(request.stop.max_tokens, 16);
  EXPECT_EQ(request.sampling.temperature, 1.0f);
  EXPECT_EQ(request.sampling.top_p, 1.0f);
  EXPECT_FALSE(request.sampling.seed.has_value());
  EXPECT_EQ(request.n, 1);
  EXPECT_EQ(request.best_of, 1);
  EXPECT_TRUE(request.output.text);
  EXPECT_FALSE(request.output.token_ids);
  EXPECT_FALSE(request.output.logprobs);
  EXPECT_FALSE(call->stream);
}

TEST(ReadCompletion, MapsEveryOption) {
  const auto call = Complete(With(R"(
      "model":"demo","max_tokens":7,"temperature":0.5,"top_p":0.9,"n":2,"best_of":3,"logprobs":4,
      "echo":true,"stop":["a","b"],"presence_penalty":0.25,"frequency_penalty":-0.5,
      "logit_bias":{"5":1.5,"7":-100},"seed":11,"user":"me","top_k":9,"min_p":0.125,
      "typical_p":0.75,"repetition_penalty":1.25,"min_tokens":2,"ignore_eos":true,
      "stop_token_ids":[3],"include_stop_str_in_output":true,"allowed_token_ids":[5,7],
      "bad_words":["w"])"));
  ASSERT_TRUE(call.ok()) << call.status();
  const Request& request = call->requests[0];
  EXPECT_EQ(request.stop.max_tokens, 7);
  EXPECT_EQ(request.sampling.temperature, 0.5f);
  EXPECT_EQ(request.sampling.top_p, 0.9f);
  EXPECT_EQ(request.n, 2);
  EXPECT_EQ(request.best_of, 3);
  EXPECT_TRUE(request.output.logprobs);
  EXPECT_EQ(request.output.top_logprobs, 4);
  EXPECT_TRUE(request.output.echo);
  EXPECT_TRUE(request.output.prompt_logprobs);
  EXPECT_TRUE(request.output.token_ids);  // names the prompt's first token
  EXPECT_FALSE(call->token_ids);
  EXPECT_THAT(request.stop.strings, ElementsAre("a", "b"));
  EXPECT_EQ(request.sampling.presence_penalty, 0.25f);
  EXPECT_EQ(request.sampling.frequency_penalty, -0.5f);
  ASSERT_EQ(request.sampling.logit_bias.size(), 2u);
  EXPECT_EQ(request.sampling.logit_bias[0].id, 5);
  EXPECT_EQ(request.sampling.logit_bias[0].bias, 1.5f);
  EXPECT_EQ(request.sampling.seed, 11u);
  EXPECT_EQ(request.sampling.top_k, 9);
  EXPECT_EQ(request.sampling.min_p, 0.125f);
  EXPECT_EQ(request.sampling.typical_p, 0.75f);
  EXPECT_EQ(request.sampling.repetition_penalty, 1.25f);
  EXPECT_EQ(request.stop.min_tokens, 2);
  EXPECT_TRUE(request.stop.ignore_eos);
  EXPECT_THAT(request.stop.token_ids, ElementsAre(3));
  EXPECT_TRUE(request.stop.include_stop);
  EXPECT_THAT(request.sampling.allowed_token_ids, ElementsAre(5, 7));
  EXPECT_THAT(request.sampling.bad_words, ElementsAre("w"));
  EXPECT_TRUE(call->ignored.empty());
}

TEST(ReadCompletion, SmallForms) {
  EXPECT_THAT(Complete(With(R"("stop":"a")"))->requests[0].stop.strings, ElementsAre("a"));
  EXPECT_EQ(Complete(With(R"("top_k":-1)"))->requests[0].sampling.top_k, 0);
  EXPECT_EQ(Complete(With(R"("seed":-1)"))->requests[0].sampling.seed, ~uint64_t{0});
  EXPECT_EQ(Complete(With(R"("seed":18446744073709551615)"))->requests[0].sampling.seed,
            ~uint64_t{0});
  // null is as good as absent, everywhere.
  const auto nulls = Complete(
      With(R"("max_tokens":null,"stop":null,"logprobs":null,"stream_options":null,"suffix":null)"));
  ASSERT_TRUE(nulls.ok()) << nulls.status();
  EXPECT_EQ(nulls->requests[0].stop.max_tokens, 16);
  EXPECT_EQ(Complete(With(R"("priority":"batch")"))->requests[0].priority, Priority::kBatch);
  EXPECT_EQ(Complete(With(R"("priority":3)"))->requests[0].priority, Priority::kBatch);
  EXPECT_EQ(Complete(With(R"("priority":0)"))->requests[0].priority, Priority::kInteractive);
  EXPECT_FALSE(Complete(With(R"("priority":"low")")).ok());
  const auto streamed =
      Complete(With(R"("stream":true,"stream_options":{"include_usage":true,"more":1})"));
  ASSERT_TRUE(streamed.ok()) << streamed.status();
  EXPECT_TRUE(streamed->stream);
  EXPECT_TRUE(streamed->include_usage);
}

TEST(ReadCompletion, FourFormsOfPrompts) {
  EXPECT_THAT(Complete(R"({"prompt":[1,2]})")->requests[0].prompt_token_ids, ElementsAre(1, 2));
  const auto texts = Complete(R"({"prompt":["a","b"],"seed":1})");
  ASSERT_EQ(texts->requests.size(), 2u);
  EXPECT_EQ(texts->requests[1].prompt_text, "b");
  EXPECT_EQ(texts->requests[1].sampling.seed, 1u);
  const auto ids = Complete(R"({"prompt":[[1],[2,3]]})");
  ASSERT_EQ(ids->requests.size(), 2u);
  EXPECT_FALSE(ids->requests[1].prompt_is_text);
  EXPECT_THAT(ids->requests[1].prompt_token_ids, ElementsAre(2, 3));
}

TEST(ReadCompletion, MessagesBeginWithTheField) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({})", "prompt is not set"},
      {R"({"prompt":7})", "prompt is 7; expected a string"},
      {R"({"prompt":[]})", "prompt is an array of 0"},
      {R"({"prompt":[1,"a"]})", "prompt[1] is \"a\"; expected a token id"},
      {R"({"prompt":[[1],[1.5]]})", "prompt[1][0] is 1.5; expected a token id"},
      {R"({"prompt":[99999999999]})", "prompt[0] is 99999999999; expected a token id"},
      {R"({"prompt":["a",null]})", "prompt[1] is null"},
      {R"({"prompt":"x","max_tokens":"7"})", "max_tokens is \"7\"; expected an integer"},
      {R"({"prompt":"x","max_tokens":1.5})", "max_tokens is 1.5; expected an integer"},
      {R"({"prompt":"x","max_tokens":18446744073709551615})", "max_tokens is 184467"},
      {R"({"prompt":"x","temperature":"hot"})", "temperature is \"hot\"; expected a number"},
      {R"({"prompt":"x","n":[1]})", "n is an array of 1"},
      {R"({"prompt":"x","stream":1})", "stream is 1; expected true or false"},
      {R"({"prompt":"x","stop":[1]})", "stop[0] is 1; expected a string"},
      {R"({"prompt":"x","logprobs":true})", "logprobs is true; expected an integer"},
      {R"({"prompt":"x","logit_bias":[1]})", "logit_bias is an array"},
      {R"({"prompt":"x","logit_bias":{"a":1}})", "a key of logit_bias is \"a\""},
      {R"({"prompt":"x","logit_bias":{"01":1}})", "a key of logit_bias is \"01\""},
      {R"({"prompt":"x","logit_bias":{"1":"b"}})", "logit_bias[1] is \"b\""},
      {R"({"prompt":"x","seed":0.5})", "seed is 0.5"},
      {R"({"prompt":"x","stop_token_ids":["a"]})", "stop_token_ids[0] is \"a\""},
      {R"({"prompt":"x","stream_options":{}})", "stream_options is set; expected only"},
      {R"({"prompt":"x","stream":true,"stream_options":1})", "stream_options is 1"},
      {R"({"prompt":"x","stream":true,"stream_options":{"include_usage":1}})",
       "stream_options.include_usage is 1"},
      {R"({"prompt":"x","stream":true,"best_of":2})", "best_of is 2; expected n (1)"},
  };
  for (const auto& [body, message] : cases) {
    const absl::Status status = Complete(body).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << body << status;
    EXPECT_THAT(std::string(status.message()), testing::StartsWith(message)) << body;
  }
}

TEST(ReadCompletion, PromptsOfOneCallAreBounded) {
  json body{{"prompt", json::array()}, {"best_of", 64}};
  for (int i = 0; i < 17; ++i) body["prompt"].push_back("x");
  EXPECT_THAT(
      std::string(ReadOpenAiRequest(body, "", OpenAiEndpoint::kCompletions).status().message()),
      HasSubstr("1024"));
  body["prompt"].erase(0);
  EXPECT_TRUE(ReadOpenAiRequest(body, "", OpenAiEndpoint::kCompletions).ok());
}

TEST(Fields, RefusedByNameUnlessTheyAskForNothing) {
  for (const char* field : {R"("suffix":"s")", R"("use_beam_search":true)",
                            R"("prompt_logprobs":1)", R"("skip_special_tokens":false)"}) {
    const absl::Status status = Complete(With(field)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << field << status;
    const std::string name = json::parse("{" + std::string(field) + "}").begin().key();
    EXPECT_THAT(std::string(status.message()), testing::StartsWith(name + " is "));
  }
  const auto neutral = Complete(With(
      R"("suffix":"","response_format":{"type":"text"},"use_beam_search":false,
         "skip_special_tokens":true)"));
  EXPECT_TRUE(neutral.ok()) << neutral.status();
}

TEST(Fields, UnknownMembersOfObjectsAreListed) {
  EXPECT_THAT(Complete(With(R"("stream":true,"zoo":1,"stream_options":{"include_usage":true,
                               "more":1,"nothing":null},"response_format":{"type":"json_schema",
                               "x":0,"json_schema":{"schema":{"any":1},"y":1,"strict":true}})"))
                  ->ignored,
              ElementsAre("zoo", "stream_options.more", "response_format.x",
                          "response_format.json_schema.y"));
}

TEST(Fields, UnknownOnesAreListed) {
  EXPECT_THAT(Complete(With(R"("zoo":1,"metadata":{},"store":null)"))->ignored,
              ElementsAre("metadata", "zoo"));
  // Another endpoint's field is unknown here.
  EXPECT_THAT(Complete(With(R"("messages":[])"))->ignored, ElementsAre("messages"));
}

TEST(ReadChat, KeepsWhatTemplatesAreGiven) {
  const auto call = Chat(R"({"model":"m","messages":[{"role":"tool","name":"n",
      "content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},{"role":"x"}],
      "chat_template_kwargs":{"mood":1},"add_generation_prompt":false,"stop":"s"})");
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_EQ(call->model, "m");
  EXPECT_EQ(call->messages.messages,
            json::parse(R"([{"role":"tool","name":"n","content":"ab"},{"role":"x"}])"));
  EXPECT_EQ(call->messages.kwargs, json({{"mood", 1}}));
  EXPECT_FALSE(call->messages.add_generation_prompt);
  // Where the turn ends is for whoever knows the template.
  EXPECT_THAT(call->requests[0].stop.strings, ElementsAre("s"));
}

TEST(Names, AreThoseThatTheClientUsed) {
  const std::string chat = R"({"messages":[{"role":"user","content":"Hi"}])";
  const auto max_tokens = [&](const std::string& fields) {
    return Chat(chat + fields + "}")->names.max_tokens;
  };
  EXPECT_EQ(max_tokens(""), "max_completion_tokens");
  EXPECT_EQ(max_tokens(R"(,"max_tokens":0)"), "max_tokens");
  EXPECT_EQ(max_tokens(R"(,"max_completion_tokens":0)"), "max_completion_tokens");
  EXPECT_EQ(max_tokens(R"(,"max_tokens":1,"max_completion_tokens":0)"), "max_completion_tokens");
  EXPECT_EQ(Complete(With(R"("max_tokens":0)"))->names.max_tokens, "max_tokens");
  EXPECT_FALSE(Complete(R"({"prompt":[1,2]})")->names.prompts);
  EXPECT_TRUE(Complete(R"({"prompt":[[1,2]]})")->names.prompts);
  EXPECT_TRUE(Complete(R"({"prompt":["a"]})")->names.prompts);
  EXPECT_TRUE(Complete(With(R"("stop":"a","bad_words":"b")"))->names.one_stop);
  EXPECT_TRUE(Complete(With(R"("stop":"a","bad_words":"b")"))->names.one_bad_word);
  EXPECT_FALSE(Complete(With(R"("stop":["a"],"bad_words":["b"])"))->names.one_stop);
  EXPECT_EQ(Complete(With(R"("guided_regex":"a")"))->names.constraint, "guided_regex");
}

TEST(ParseBody, SaysWhereItIsWrong) {
  EXPECT_THAT(std::string(ParseBody("{\"a\":\"\xff\"}").status().message()),
              HasSubstr("not UTF-8 at byte 6"));
  EXPECT_THAT(std::string(ParseBody("{\"a\":").status().message()), HasSubstr("byte 6"));
  EXPECT_THAT(std::string(ParseBody("[1]").status().message()), HasSubstr("an array of 1"));
  EXPECT_EQ(ParseBody(R"({"logit_bias":{"5":1,"7":2,"5":3}})").status(),
            absl::InvalidArgumentError(
                "the body: has the name \"5\" twice in one object, expected it once"));
  EXPECT_TRUE(ParseBody(R"({"a":[{"n":1},{"n":{"n":1}}],"n":2})").ok());
  EXPECT_FALSE(ParseBody(R"({"a":[{"n":1},{"n":{"n":1},"m":1}],"a":2})").ok());
  EXPECT_FALSE(ParseBody("").ok());
  EXPECT_FALSE(ParseBody("{\"a\":1e999}").ok());
  EXPECT_FALSE(ParseBody("{\"a\":\"\\ud800\"}").ok());
  const std::string nested = std::string(100'000, '[') + std::string(100'000, ']');
  EXPECT_THAT(std::string(ParseBody("{\"a\":" + nested + "}").status().message()),
              HasSubstr("deeper than 64"));
  EXPECT_TRUE(ParseBody("{\"a\":\"\\ud83d\\ude00\"}").ok());
}

}  // namespace
}  // namespace based
