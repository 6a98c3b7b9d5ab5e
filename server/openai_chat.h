// Chat messages as a prompt: by the model's own template, whose special tokens count wherever they
// stand, in contents too, as transformers has it; or by
//
// the plain template, for models that bring none:
//
//   ### System:
//   {content}
//
//   ### User:
//   {content}
//
//   ### Assistant:
//
// one block per message ("developer" counts as system), a blank line after each, and the reply
// begins after the last line. It ends before the next line that begins with "### ".
#ifndef BASED_SERVER_OPENAI_CHAT_H_
#define BASED_SERVER_OPENAI_CHAT_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/chat_template.h"
#include "nlohmann/json.hpp"

namespace based {

inline constexpr char kPlainChatStop[] = "\n### ";

// The template that the model brings, null if none; or why it cannot be used, and chat is refused.
using ServedChatTemplate = absl::StatusOr<std::shared_ptr<const ChatTemplate>>;

// The prompt of the body's messages, add_generation_prompt (true by default) and
// chat_template_kwargs. A content is a string or parts of type text, which follow each other.
//   INVALID_ARGUMENT  names the place in the body, or says why the template refuses
//   UNIMPLEMENTED     the model brings a template that cannot be used
absl::StatusOr<std::string> ChatPrompt(const nlohmann::json& body,
                                       const ServedChatTemplate& chat_template);

}  // namespace based

#endif  // BASED_SERVER_OPENAI_CHAT_H_
