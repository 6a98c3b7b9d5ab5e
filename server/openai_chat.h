// Chat messages as a prompt.
//
// The plain template, for models that bring none:
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

#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace based {

inline constexpr char kPlainChatStop[] = "\n### ";

// INVALID_ARGUMENT names the place in `messages`.
absl::StatusOr<std::string> PlainChatPrompt(const nlohmann::json& messages);

// Why chat with the model of `tokenizer_dir` cannot use the plain template: its own template, by
// file name, which is a program in Jinja that this daemon does not run. "" when it has none.
std::string ForeignChatTemplate(const std::string& tokenizer_dir);

}  // namespace based

#endif  // BASED_SERVER_OPENAI_CHAT_H_
