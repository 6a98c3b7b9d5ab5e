// OpenAI's requests for the served model: prompts of chats, and what needs a tokenizer.
#include "server/openai_model.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

const OpenAiModel kModel{.name = "demo"};

absl::StatusOr<OpenAiRequest> Chat(const std::string& body) {
  return ReadChat(json::parse(body), body, kModel);
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

TEST(ReadCompletion, OtherModelsAreNotFound) {
  const std::string body = R"({"prompt":"x","model":"gpt"})";
  EXPECT_EQ(ReadCompletion(json::parse(body), body, kModel).status().code(),
            absl::StatusCode::kNotFound);
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
    model_.chat.chat_template = ChatTemplate::Create(
        "chat_template.jinja",
        "{% for m in messages %}<{{ m.role }}>{{ m.content + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}<reply{{ mood }}>{% endif %}",
        {{"eos_token", "</s>"}});
    model_.chat.stop_ids = {7};
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
  model_.chat.chat_template = ChatTemplate::Create("chat_template.jinja", "\n{{ x | nice }}", {});
  const absl::Status status = Read(R"({"messages":[{"role":"user","content":"Hi"}]})").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("chat_template.jinja: line 2: the filter 'nice' is not supported"));
}

}  // namespace
}  // namespace based
