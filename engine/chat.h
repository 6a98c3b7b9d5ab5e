// Chat messages as a prompt, whatever way they came in: by the model's own template, whose special
// tokens count wherever they stand, in contents too, as transformers has it; or by
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
#ifndef BASED_ENGINE_CHAT_H_
#define BASED_ENGINE_CHAT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/chat_template.h"
#include "engine/request.h"
#include "engine/tokenizer.h"
#include "nlohmann/json.hpp"

namespace based {

// The template that the model brings, null if none; or why it cannot be used, and chat is refused.
using ServedChatTemplate = absl::StatusOr<std::shared_ptr<const ChatTemplate>>;

// How a model chats.
struct ChatFormat {
  ServedChatTemplate chat_template{nullptr};  // null: the plain one
  // Ends a reply, beside the model's own end of text: the template's end of turn.
  std::vector<int32_t> stop_ids{};
};

// `tokenizer` may be null; `eos_token_id` is the model's end of text, negative for none.
ChatFormat ChatFormatOf(const Tokenizer* tokenizer, int32_t eos_token_id,
                        ServedChatTemplate chat_template);

// What a client asks for, in the shape that any template can be given.
struct ChatAsk {
  nlohmann::json messages;  // an array of 1 to 10,000 objects, each content that is there a string
  bool add_generation_prompt = true;
  nlohmann::json kwargs = nlohmann::json::object();  // chat_template_kwargs, an object
};

// Of the members messages, add_generation_prompt and chat_template_kwargs of `body`; null is as
// good as absent. A content is a string or parts of type text, which follow each other.
// INVALID_ARGUMENT naming the place in the body.
absl::StatusOr<ChatAsk> ReadChatAsk(const nlohmann::json& body);

// Turns the request into one whose prompt is the chat, and that ends where the reply does: before
// the plain template's next message, or with the model's own template's token unless
// stop.ignore_eos.
//   INVALID_ARGUMENT  names the place in the messages, or says why the template refuses
//   UNIMPLEMENTED     the model brings a template that cannot be used
absl::Status SetChatPrompt(const ChatAsk& chat, const ChatFormat& format, Request& request);

// The prompt alone; errors as above.
absl::StatusOr<std::string> ChatPrompt(const ChatAsk& chat,
                                       const ServedChatTemplate& chat_template);

}  // namespace based

#endif  // BASED_ENGINE_CHAT_H_
