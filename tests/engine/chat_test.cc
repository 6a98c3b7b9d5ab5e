// Chats as prompts, by the model's template or the plain one.
#include "engine/chat.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::StartsWith;

ChatAsk Ask(const char* body) {
  const auto chat = ReadChatAsk(json::parse(body));
  EXPECT_TRUE(chat.ok()) << chat.status();
  return chat.value_or(ChatAsk());
}

// One id for each byte.
class Bytewise final : public Tokenizer {
 public:
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text) const override {
    return std::vector<int32_t>(text.begin(), text.end());
  }
  std::string_view Bytes(int32_t, bool) const override { return ""; }
  int32_t size() const override { return 128; }
};

ServedChatTemplate EndingWith(const char* eos) {
  return ChatTemplate::Create("t", "{% for m in messages %}{{ m.content ~ eos_token }}{% endfor %}",
                              {{"eos_token", eos}});
}

TEST(ReadChatAsk, SaysWhatIsWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({})", "messages is not set"},
      {R"({"messages":[]})", "messages is an array of 0"},
      {R"({"messages":["hi"]})", "messages[0] is \"hi\""},
      {R"({"messages":[{"role":7}]})", "messages[0].role is 7"},
      {R"({"messages":[{"role":"user","content":[{"type":"text","text":1}]}]})",
       "messages[0].content[0].text is 1"},
      {R"({"messages":[{"role":"user","content":"a"}],"chat_template_kwargs":[]})",
       "chat_template_kwargs is"},
      {R"({"messages":[{"role":"user","content":"a"}],"add_generation_prompt":1})",
       "add_generation_prompt is 1"},
  };
  for (const auto& [body, message] : cases) {
    const absl::Status status = ReadChatAsk(json::parse(body)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << body;
    EXPECT_THAT(std::string(status.message()), StartsWith(message));
  }
}

TEST(SetChatPrompt, ThePlainTemplateStopsBeforeTheNextMessage) {
  Request request;
  request.stop.strings = {"x"};
  const ChatAsk chat = Ask(R"({"messages":[{"role":"user","content":"a"}]})");
  ASSERT_TRUE(SetChatPrompt(chat, {}, request).ok());
  EXPECT_EQ(request.prompt_text, "### User:\na\n\n### Assistant:\n");
  EXPECT_THAT(request.stop.strings, ElementsAre("x", "\n### "));
}

TEST(SetChatPrompt, TheModelsOwnStopsAtItsEndOfTurn) {
  const Bytewise tokenizer;
  const ChatAsk chat = Ask(R"({"messages":[{"role":"user","content":"a"}]})");
  const auto stops = [&](const char* eos, bool ignore_eos = false) {
    Request request;
    request.stop.ignore_eos = ignore_eos;
    EXPECT_TRUE(SetChatPrompt(chat, ChatFormatOf(&tokenizer, '.', EndingWith(eos)), request).ok());
    EXPECT_TRUE(request.stop.strings.empty());
    return request.stop.token_ids;
  };
  EXPECT_THAT(stops("!"), ElementsAre('!'));
  EXPECT_THAT(stops("!", true), ElementsAre());
  EXPECT_THAT(stops("."), ElementsAre());   // ends texts anyway
  EXPECT_THAT(stops("!!"), ElementsAre());  // no token of its own
  EXPECT_THAT(ChatFormatOf(nullptr, -1, EndingWith("!")).stop_ids, ElementsAre());
}

TEST(SetChatPrompt, ATemplateThatCannotBeUsedRefuses) {
  Request request;
  const ChatFormat format = {.chat_template = absl::InvalidArgumentError("line 7: odd")};
  const absl::Status status =
      SetChatPrompt(Ask(R"({"messages":[{"role":"user","content":"a"}]})"), format, request);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), StartsWith("messages cannot be rendered"));
}

}  // namespace
}  // namespace based
