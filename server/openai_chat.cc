#include "server/openai_chat.h"

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/json_file.h"
#include "engine/json_reader.h"
#include "kernels/base/status.h"

namespace based {
namespace {

using json_reader::Json;
using json_reader::Member;

constexpr size_t kMaxMessages = 10'000;
constexpr int kTokenizerConfigDepth = 32;

absl::Status Wrong(const std::string& place, const Json& value, absl::string_view expected) {
  return absl::InvalidArgumentError(
      absl::StrCat(place, " is ", JsonExcerpt(value), "; expected ", expected));
}

absl::StatusOr<absl::string_view> HeadingOf(const Json& role, const std::string& place) {
  if (role == "system" || role == "developer") return "### System:\n";
  if (role == "user") return "### User:\n";
  if (role == "assistant") return "### Assistant:\n";
  return Wrong(place, role, "'system', 'developer', 'user' or 'assistant'");
}

// A string, or parts of type text, which follow each other.
absl::StatusOr<std::string> ContentOf(const Json& content, const std::string& place) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) return Wrong(place, content, "a string or an array of text parts");
  std::string text;
  for (size_t i = 0; i < content.size(); ++i) {
    const Json& part = content[i];
    const std::string part_place = absl::StrCat(place, "[", i, "]");
    if (!part.is_object()) return Wrong(part_place, part, "an object");
    const Json& type = Member(part, "type");
    if (type != "text") return Wrong(absl::StrCat(part_place, ".type"), type, "'text'");
    const Json& words = Member(part, "text");
    if (!words.is_string()) return Wrong(absl::StrCat(part_place, ".text"), words, "a string");
    text += words.get_ref<const std::string&>();
  }
  return text;
}

}  // namespace

absl::StatusOr<std::string> PlainChatPrompt(const Json& messages) {
  if (!messages.is_array() || messages.empty() || messages.size() > kMaxMessages) {
    return Wrong("messages", messages, "an array of 1 to 10,000 messages");
  }
  std::string prompt;
  for (size_t i = 0; i < messages.size(); ++i) {
    const Json& message = messages[i];
    const std::string place = absl::StrCat("messages[", i, "]");
    if (!message.is_object()) return Wrong(place, message, "an object with role and content");
    BASED_ASSIGN_OR_RETURN(const absl::string_view heading,
                           HeadingOf(Member(message, "role"), absl::StrCat(place, ".role")));
    BASED_ASSIGN_OR_RETURN(
        const std::string content,
        ContentOf(Member(message, "content"), absl::StrCat(place, ".content")));
    absl::StrAppend(&prompt, heading, content, "\n\n");
  }
  prompt += "### Assistant:\n";
  return prompt;
}

std::string ForeignChatTemplate(const std::string& tokenizer_dir) {
  std::error_code error;
  const std::filesystem::path dir(tokenizer_dir);
  if (std::filesystem::exists(dir / "chat_template.jinja", error)) return "chat_template.jinja";
  const absl::StatusOr<std::string> text =
      ReadWholeFile((dir / "tokenizer_config.json").string(), kMaxJsonBytes);
  if (!text.ok()) return "";
  const absl::StatusOr<Json> config =
      ParseJsonObject(*text, "tokenizer_config.json", kTokenizerConfigDepth);
  if (!config.ok() || Member(*config, "chat_template").is_null()) return "";
  return "chat_template of tokenizer_config.json";
}

}  // namespace based
