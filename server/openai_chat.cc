#include "server/openai_chat.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/json_file.h"
#include "engine/json_reader.h"
#include "kernels/base/status.h"
#include "server/openai_fields.h"

namespace based {
namespace {

using json_reader::Json;
using json_reader::Member;

constexpr size_t kMaxMessages = 10'000;

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

absl::StatusOr<std::string> PlainPrompt(const Json& messages, bool add_generation_prompt) {
  std::string prompt;
  for (size_t i = 0; i < messages.size(); ++i) {
    const Json& message = messages[i];
    const std::string place = absl::StrCat("messages[", i, "]");
    if (!message.is_object()) return Wrong(place, message, "an object with role and content");
    BASED_ASSIGN_OR_RETURN(const absl::string_view heading,
                           HeadingOf(Member(message, "role"), absl::StrCat(place, ".role")));
    BASED_ASSIGN_OR_RETURN(const std::string content,
                           ContentOf(Member(message, "content"), absl::StrCat(place, ".content")));
    absl::StrAppend(&prompt, heading, content, "\n\n");
  }
  if (add_generation_prompt) prompt += "### Assistant:\n";
  return prompt;
}

// The messages as templates see them: each content that is there a string.
absl::StatusOr<Json> TemplateMessages(Json messages) {
  for (size_t i = 0; i < messages.size(); ++i) {
    Json& message = messages[i];
    const std::string place = absl::StrCat("messages[", i, "]");
    if (!message.is_object()) return Wrong(place, message, "an object with role and content");
    const Json& role = Member(message, "role");
    if (!role.is_string()) return Wrong(absl::StrCat(place, ".role"), role, "a string");
    const Json& content = Member(message, "content");
    if (content.is_null()) continue;
    BASED_ASSIGN_OR_RETURN(message["content"], ContentOf(content, absl::StrCat(place, ".content")));
  }
  return messages;
}

}  // namespace

absl::StatusOr<std::string> ChatPrompt(const Json& body, const ServedChatTemplate& chat_template) {
  if (!chat_template.ok()) {
    return absl::UnimplementedError(
        absl::StrCat("messages cannot be rendered by the model's chat template: ",
                     chat_template.status().message(),
                     "; use /v1/completions, or start the daemon with --http_chat_template=plain"));
  }
  OpenAiFields fields(body);
  bool add_generation_prompt = true;
  fields.Read("add_generation_prompt", add_generation_prompt);
  const Json* more = fields.Find("chat_template_kwargs");
  if (more != nullptr && !more->is_object()) {
    fields.Wrong("chat_template_kwargs", *more, "an object");
  }
  BASED_RETURN_IF_ERROR(fields.status());
  const Json* messages = fields.Find("messages");
  if (messages == nullptr) {
    return absl::InvalidArgumentError("messages is not set; expected an array of messages");
  }
  if (!messages->is_array() || messages->empty() || messages->size() > kMaxMessages) {
    return Wrong("messages", *messages, "an array of 1 to 10,000 messages");
  }
  if (*chat_template != nullptr) {
    BASED_ASSIGN_OR_RETURN(const Json seen, TemplateMessages(*messages));
    return (*chat_template)
        ->Render(seen, add_generation_prompt, more != nullptr ? *more : Json::object());
  }
  if (more != nullptr && !more->empty()) {
    return Wrong("chat_template_kwargs", *more, "none: the model brings no chat template");
  }
  return PlainPrompt(*messages, add_generation_prompt);
}

}  // namespace based
