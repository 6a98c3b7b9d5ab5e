#include "engine/chat.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/json_file.h"
#include "engine/json_reader.h"
#include "engine/openai_fields.h"
#include "kernels/base/status.h"

namespace based {
namespace {

using json_reader::Json;
using json_reader::Member;

constexpr size_t kMaxMessages = 10'000;
constexpr char kPlainChatStop[] = "\n### ";

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

// The messages as templates see them: each content that is there a string.
absl::StatusOr<Json> ReadMessages(Json messages) {
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

absl::StatusOr<std::string> PlainPrompt(const ChatAsk& chat) {
  if (!chat.kwargs.empty()) {
    return Wrong("chat_template_kwargs", chat.kwargs, "none: the model brings no chat template");
  }
  std::string prompt;
  for (size_t i = 0; i < chat.messages.size(); ++i) {
    const Json& message = chat.messages[i];
    const std::string place = absl::StrCat("messages[", i, "]");
    BASED_ASSIGN_OR_RETURN(const absl::string_view heading,
                           HeadingOf(Member(message, "role"), absl::StrCat(place, ".role")));
    const Json& content = Member(message, "content");
    if (!content.is_string()) {
      return Wrong(absl::StrCat(place, ".content"), content, "a string or an array of text parts");
    }
    absl::StrAppend(&prompt, heading, content.get_ref<const std::string&>(), "\n\n");
  }
  if (chat.add_generation_prompt) prompt += "### Assistant:\n";
  return prompt;
}

}  // namespace

ChatFormat ChatFormatOf(const Tokenizer* tokenizer, int32_t eos_token_id,
                        ServedChatTemplate chat_template) {
  ChatFormat format;
  if (chat_template.ok() && *chat_template != nullptr && tokenizer != nullptr) {
    const auto ids = tokenizer->Encode((*chat_template)->eos_token());
    if (ids.ok() && ids->size() == 1 && ids->front() != eos_token_id) format.stop_ids = *ids;
  }
  format.chat_template = std::move(chat_template);
  return format;
}

absl::StatusOr<ChatAsk> ReadChatAsk(const Json& body) {
  OpenAiFields fields(body);
  ChatAsk chat;
  fields.Read("add_generation_prompt", chat.add_generation_prompt);
  if (const Json* kwargs = fields.Find("chat_template_kwargs"); kwargs != nullptr) {
    if (!kwargs->is_object()) fields.Wrong("chat_template_kwargs", *kwargs, "an object");
    chat.kwargs = *kwargs;
  }
  BASED_RETURN_IF_ERROR(fields.status());
  const Json* messages = fields.Find("messages");
  if (messages == nullptr) {
    return absl::InvalidArgumentError("messages is not set; expected an array of messages");
  }
  if (!messages->is_array() || messages->empty() || messages->size() > kMaxMessages) {
    return Wrong("messages", *messages, "an array of 1 to 10,000 messages");
  }
  BASED_ASSIGN_OR_RETURN(chat.messages, ReadMessages(*messages));
  return chat;
}

absl::StatusOr<std::string> ChatPrompt(const ChatAsk& chat,
                                       const ServedChatTemplate& chat_template) {
  if (!chat_template.ok()) {
    return absl::UnimplementedError(
        absl::StrCat("messages cannot be rendered by the model's chat template: ",
                     chat_template.status().message(),
                     "; send the prompt as text, or start the daemon with "
                     "--http_chat_template=plain"));
  }
  if (*chat_template == nullptr) return PlainPrompt(chat);
  return (*chat_template)->Render(chat.messages, chat.add_generation_prompt, chat.kwargs);
}

absl::Status SetChatPrompt(const ChatAsk& chat, const ChatFormat& format, Request& request) {
  BASED_ASSIGN_OR_RETURN(request.prompt_text, ChatPrompt(chat, format.chat_template));
  request.prompt_is_text = true;
  StopConditions& stop = request.stop;
  if (*format.chat_template == nullptr) {
    stop.strings.push_back(kPlainChatStop);
  } else if (!stop.ignore_eos) {
    for (const int32_t id : format.stop_ids) {
      const auto found = std::find(stop.token_ids.begin(), stop.token_ids.end(), id);
      if (found == stop.token_ids.end()) stop.token_ids.push_back(id);
    }
  }
  return absl::OkStatus();
}

}  // namespace based
