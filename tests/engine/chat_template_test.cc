// A checkpoint's chat template: where it is found, what it sees, how it refuses.
#include "engine/chat_template.h"

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/synthetic_checkpoint.h"

namespace based {
namespace {

using nlohmann::json;
using testing::HasSubstr;

const json kMessages = {{{"role", "system"}, {"content", "Be kind."}},
                        {{"role", "user"}, {"content", "Hi"}},
                        {{"role", "assistant"}, {"content", "Hello"}},
                        {{"role", "user"}, {"content", "Bye"}}};

class ChatTemplateTest : public testing::Test {
 protected:
  ChatTemplateTest() : dir_(NewTestDir()) {}
  ~ChatTemplateTest() override { std::filesystem::remove_all(dir_); }

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(dir_ / name) << text;
  }

  // What the template of the folder makes of the messages, or why it makes nothing.
  std::string Render(bool add_generation_prompt = true) {
    const auto loaded = ChatTemplate::Load(dir_.string());
    if (!loaded.ok()) return std::string(loaded.status().message());
    if (*loaded == nullptr) return "no template";
    const auto text = (*loaded)->Render(kMessages, add_generation_prompt);
    return text.ok() ? *text : std::string(text.status().message());
  }

  const std::filesystem::path dir_;
};

TEST_F(ChatTemplateTest, IsFoundInEachFile) {
  EXPECT_EQ(Render(), "no template");
  Write("tokenizer_config.json", R"({"bos_token":"x"})");
  EXPECT_EQ(Render(), "no template");
  Write("chat_template.json", R"({"chat_template":"c"})");
  EXPECT_EQ(Render(), "c");
  Write("tokenizer_config.json", R"({"chat_template":"b"})");
  EXPECT_EQ(Render(), "b");
  Write("tokenizer_config.json",
        R"({"chat_template":[{"name":"rag","template":"t"},{"name":"default","template":"d"}]})");
  EXPECT_EQ(Render(), "d");
  Write("chat_template.jinja", "a");
  EXPECT_EQ(Render(), "a");
}

TEST_F(ChatTemplateTest, BrokenFilesAreNamed) {
  Write("tokenizer_config.json", R"({"chat_template":[]})");
  EXPECT_THAT(Render(), HasSubstr("tokenizer_config.json: chat_template is an array of 0"));
  Write("tokenizer_config.json", R"({"chat_template":"\n{{ x | nice }}"})");
  EXPECT_EQ(Render(),
            "chat_template of tokenizer_config.json: line 2: the filter 'nice' is not supported");
  Write("tokenizer_config.json", R"({"chat_template":)");
  EXPECT_THAT(Render(), HasSubstr("tokenizer_config.json: not JSON"));
}

TEST_F(ChatTemplateTest, SpecialTokensComeFromTheFiles) {
  Write("tokenizer_config.json", R"({"bos_token":{"content":"<s>"},"eos_token":null})");
  Write("special_tokens_map.json", R"({"bos_token":"<t>","eos_token":"</s>"})");
  Write("chat_template.jinja", "{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ tools is none }}");
  EXPECT_EQ(Render(), "<s></s>True");
  EXPECT_EQ((*ChatTemplate::Load(dir_.string()))->eos_token(), "</s>");
}

// JSON holds them as doubles; Python does not.
TEST_F(ChatTemplateTest, IntegersBeyond64BitsAreRefused) {
  const auto made = *ChatTemplate::Create("t", "{{ messages[0].id }}", {});
  const auto render = [&](const char* number, const char* more = "{}") {
    const auto text = made->Render(json::parse(R"([{"id":)" + std::string(number) + "}]"), true,
                                   json::parse(more));
    return text.ok() ? *text : std::string(text.status().message());
  };
  EXPECT_EQ(render("9223372036854775807"), "9223372036854775807");
  EXPECT_EQ(render("-9223372036854775808"), "-9223372036854775808");
  EXPECT_EQ(render("1e18"), "1e+18");
  for (const char* large : {"9223372036854775808", "12345678901234567890", "-9223372036854775809",
                            "123456789012345678901234567890"}) {
    EXPECT_THAT(render(large), testing::StartsWith("messages hold the number ")) << large;
  }
  EXPECT_THAT(render("1", R"({"x":[{"y":18446744073709551615}]})"),
              testing::StartsWith("chat_template_kwargs hold the number 18446744073709551615;"));
}

TEST_F(ChatTemplateTest, RefusalsNameMessages) {
  Write("chat_template.jinja", "{{ raise_exception('Roles must alternate') }}");
  EXPECT_EQ(Render(), "messages are refused by the model's chat template: Roles must alternate");
  Write("chat_template.jinja", "{{ messages[0].name.first }}");
  EXPECT_EQ(Render(),
            "messages cannot be rendered by the model's chat template (chat_template.jinja): line "
            "1: a dict has no 'name'");
}

// As in transformers, where these are parameters of their own and tokens are variables.
TEST_F(ChatTemplateTest, MoreVariablesMayReplaceSpecialTokensAlone) {
  const auto made = *ChatTemplate::Create(
      "t", "{{ messages | length }}{{ thinking }}{{ eos_token }}", {{"eos_token", "</s>"}});
  EXPECT_EQ(*made->Render(kMessages, true, {{"eos_token", "!"}, {"thinking", false}}), "4False!");
  for (const char* name : {"messages", "tools", "documents", "add_generation_prompt"}) {
    EXPECT_EQ(made->Render(kMessages, true, {{name, nullptr}}).status(),
              absl::InvalidArgumentError(absl::StrCat(
                  "chat_template_kwargs.", name,
                  " is set; expected other names, the template is always given messages, tools, "
                  "documents, add_generation_prompt")));
  }
}

// The well-known shapes, each as short as it goes.
TEST_F(ChatTemplateTest, ShapesOfPublishedModels) {
  Write("tokenizer_config.json", R"({"bos_token":"<s>","eos_token":"</s>"})");
  Write("chat_template.jinja",  // ChatML
        R"({% for message in messages %}
{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %})");
  EXPECT_EQ(Render(),
            "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
            "<|im_start|>assistant\n");
  Write("chat_template.jinja",  // Llama 2
        R"({% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %})"
        R"({% set system_message = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %})"
        R"({% else %}{% set loop_messages = messages %}{% set system_message = '' %}{% endif %})"
        R"({% for message in loop_messages %})"
        R"({% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %})"
        R"({{ raise_exception('Roles must alternate') }}{% endif %})"
        R"({% if loop.index0 == 0 %}{% set content = system_message + message['content'] %})"
        R"({% else %}{% set content = message['content'] %}{% endif %})"
        R"({% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + )"
        R"(' [/INST]' }}{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %})"
        R"({% endfor %})");
  EXPECT_EQ(Render(),
            "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST] Hello </s><s>[INST] Bye [/INST]");
  Write(
      "chat_template.jinja",  // Llama 3
      R"({% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + )"
      R"('<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' %})"
      R"({% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }})"
      R"({% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant)"
      R"(<|end_header_id|>\n\n' }}{% endif %})");
  EXPECT_THAT(Render(),
              testing::StartsWith("<s><|start_header_id|>system<|end_header_id|>\n\nBe "));
  EXPECT_THAT(Render(false), testing::EndsWith("\n\nBye<|eot_id|>"));
  Write("chat_template.jinja",  // Gemma
        R"({{ bos_token }}{% if messages[0]['role'] == 'system' %})"
        R"({{ raise_exception('System role not supported') }}{% endif %})");
  EXPECT_THAT(Render(), testing::EndsWith("chat template: System role not supported"));
}

}  // namespace
}  // namespace based
