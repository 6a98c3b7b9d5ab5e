// What OpenAI's request bodies become, and what is wrong with them.
#include "server/openai_request.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/openai_fields.h"

namespace based {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

const OpenAiModel kModel{.name = "demo"};

absl::StatusOr<OpenAiRequest> Complete(const std::string& body) {
  return ReadCompletion(json::parse(body), body, kModel);
}

absl::StatusOr<OpenAiRequest> Chat(const std::string& body) {
  return ReadChat(json::parse(body), body, kModel);
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

TEST(ReadCompletion, WithoutATokenizerIdsGoBothWays) {
  OpenAiModel model = kModel;
  model.has_tokenizer = false;
  const auto call = ReadCompletion(json::parse(R"({"prompt":[1]})"), "", model);
  ASSERT_TRUE(call.ok());
  EXPECT_FALSE(call->requests[0].output.text);
  EXPECT_TRUE(call->requests[0].output.token_ids);
  EXPECT_TRUE(call->token_ids);
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
  EXPECT_THAT(std::string(ReadCompletion(body, "", kModel).status().message()), HasSubstr("1024"));
  body["prompt"].erase(0);
  EXPECT_TRUE(ReadCompletion(body, "", kModel).ok());
}

TEST(ReadCompletion, OtherModelsAreNotFound) {
  EXPECT_EQ(Complete(With(R"("model":"gpt")")).status().code(), absl::StatusCode::kNotFound);
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

TEST(Fields, UnknownOnesAreListed) {
  EXPECT_THAT(Complete(With(R"("zoo":1,"metadata":{},"store":null)"))->ignored,
              ElementsAre("metadata", "zoo"));
  // Another endpoint's field is unknown here.
  EXPECT_THAT(Complete(With(R"("messages":[])"))->ignored, ElementsAre("messages"));
}

TEST(ReadChat, PlainTemplate) {
  const auto call = Chat(R"({"messages":[
      {"role":"developer","content":"Be kind."},{"role":"user","content":"Hi"},
      {"role":"assistant","content":"Hello"},
      {"role":"user","content":[{"type":"text","text":"How "},{"type":"text","text":"so?"}]}],
      "stop":"x","max_tokens":4})");
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_EQ(call->requests[0].prompt_text,
            "### System:\nBe kind.\n\n### User:\nHi\n\n### Assistant:\nHello\n\n### User:\nHow "
            "so?\n\n### Assistant:\n");
  EXPECT_THAT(call->requests[0].stop.strings, ElementsAre("x", "\n### "));
  EXPECT_EQ(call->requests[0].stop.max_tokens, 4);
}

TEST(ReadChat, OptionsOfItsOwn) {
  const std::string messages = R"("messages":[{"role":"user","content":"Hi"}])";
  const auto call = Chat("{" + messages + R"(,"max_completion_tokens":5,"logprobs":true,
                         "top_logprobs":2,"tools":[],"tool_choice":"auto"})");
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_EQ(call->requests[0].stop.max_tokens, 5);
  EXPECT_TRUE(call->requests[0].output.logprobs);
  EXPECT_EQ(call->requests[0].output.top_logprobs, 2);
  EXPECT_EQ(Chat("{" + messages + "}")->requests[0].stop.max_tokens, 256);
  EXPECT_THAT(std::string(Chat("{" + messages + R"(,"top_logprobs":2})").status().message()),
              testing::StartsWith("top_logprobs is set"));
  EXPECT_EQ(Chat("{" + messages + R"(,"tools":[{"type":"function"}]})").status().code(),
            absl::StatusCode::kUnimplemented);
}

TEST(ReadChat, WrongMessagesAreNamed) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({})", "messages is not set"},
      {R"({"messages":[]})", "messages is an array of 0"},
      {R"({"messages":["hi"]})", "messages[0] is \"hi\""},
      {R"({"messages":[{"content":"a"}]})", "messages[0].role is null"},
      {R"({"messages":[{"role":"tool","content":"a"}]})", "messages[0].role is \"tool\""},
      {R"({"messages":[{"role":"user"}]})", "messages[0].content is null"},
      {R"({"messages":[{"role":"user","content":[{"type":"image_url"}]}]})",
       "messages[0].content[0].type is \"image_url\""},
  };
  for (const auto& [body, message] : cases) {
    const absl::Status status = Chat(body).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << body << status;
    EXPECT_THAT(std::string(status.message()), testing::StartsWith(message)) << body;
  }
}

TEST(ReadChat, WithoutAGenerationPrompt) {
  const auto call = Chat(R"({"messages":[{"role":"user","content":"Hi"}],
                             "add_generation_prompt":false})");
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_EQ(call->requests[0].prompt_text, "### User:\nHi\n\n");
  EXPECT_THAT(std::string(Chat(R"({"messages":[{"role":"user","content":"Hi"}],
                                   "chat_template_kwargs":{"x":1}})")
                              .status()
                              .message()),
              testing::StartsWith("chat_template_kwargs is an object"));
}

class ReadChatByTemplate : public testing::Test {
 protected:
  explicit ReadChatByTemplate() {
    model_.chat_template = ChatTemplate::Create(
        "chat_template.jinja",
        "{% for m in messages %}<{{ m.role }}>{{ m.content + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}<reply{{ mood }}>{% endif %}",
        {{"eos_token", "</s>"}});
    model_.chat_stop_ids = {7};
  }

  absl::StatusOr<OpenAiRequest> Read(const std::string& body) {
    return ReadChat(json::parse(body), body, model_);
  }

  OpenAiModel model_ = kModel;
};

TEST_F(ReadChatByTemplate, MakesThePromptAndEndsTheTurn) {
  const auto call = Read(R"({"messages":[{"role":"tool","content":"Hi"},
      {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}],
      "stop":"x","stop_token_ids":[5]})");
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_EQ(call->requests[0].prompt_text, "<tool>Hi</s><user>ab</s><reply>");
  EXPECT_THAT(call->requests[0].stop.strings, ElementsAre("x"));
  EXPECT_THAT(call->requests[0].stop.token_ids, ElementsAre(5, 7));
}

TEST_F(ReadChatByTemplate, TakesWhatVllmsClientsSay) {
  const std::string messages = R"({"messages":[{"role":"user","content":"a"}],)";
  const auto moody = Read(messages + R"("chat_template_kwargs":{"mood":"!"},"ignore_eos":true})");
  ASSERT_TRUE(moody.ok()) << moody.status();
  EXPECT_EQ(moody->requests[0].prompt_text, "<user>a</s><reply!>");
  EXPECT_THAT(moody->requests[0].stop.token_ids, ElementsAre());
  EXPECT_EQ(Read(messages + R"("add_generation_prompt":false})")->requests[0].prompt_text,
            "<user>a</s>");
  EXPECT_EQ(Read(messages + R"("chat_template":"{{ x }}"})").status().code(),
            absl::StatusCode::kUnimplemented);
}

TEST_F(ReadChatByTemplate, SaysWhatItCannotRender) {
  const std::pair<const char*, const char*> cases[] = {
      {R"([{"role":"user"}])", "messages cannot be rendered by the model's chat template"},
      {R"([{"role":7,"content":"a"}])", "messages[0].role is 7"},
      {R"([{"role":"user","content":[1]}])", "messages[0].content[0] is 1"},
      {R"([])", "messages is an array of 0"},
  };
  for (const auto& [messages, message] : cases) {
    const absl::Status status = Read(absl::StrCat("{\"messages\":", messages, "}")).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), testing::StartsWith(message));
  }
}

TEST_F(ReadChatByTemplate, OneThatIsNotSupportedIsRefusedByName) {
  model_.chat_template = ChatTemplate::Create("chat_template.jinja", "\n{{ x | nice }}", {});
  const absl::Status status = Read(R"({"messages":[{"role":"user","content":"Hi"}]})").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("chat_template.jinja: line 2: the filter 'nice' is not supported"));
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
