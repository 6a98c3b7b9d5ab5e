// The chat template that a checkpoint brings: a Jinja program that makes a prompt of messages.
#ifndef BASED_ENGINE_CHAT_TEMPLATE_H_
#define BASED_ENGINE_CHAT_TEMPLATE_H_

#include <chrono>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/jinja/template.h"
#include "nlohmann/json.hpp"

namespace based {

// Immutable; safe from many threads.
class ChatTemplate {
 public:
  // The template of the files in `dir`, of which the first counts: chat_template.jinja,
  // "chat_template" of tokenizer_config.json (a text, or a list with one of the name "default"), of
  // chat_template.json. Special tokens are those of tokenizer_config.json and, where it has none,
  // of special_tokens_map.json. Null where there is no template; INVALID_ARGUMENT "FILE: ..." where
  // a file is broken or the template goes beyond what is supported; see engine/jinja/template.h.
  static absl::StatusOr<std::shared_ptr<const ChatTemplate>> Load(const std::string& dir);

  // `name` and `source` of the template; `special_tokens` maps "bos_token" and so on to texts.
  static absl::StatusOr<std::shared_ptr<const ChatTemplate>> Create(std::string name,
                                                                    std::string_view source,
                                                                    nlohmann::json special_tokens);

  // The prompt of `messages`, with Hugging Face's variables: messages, add_generation_prompt, tools
  // and documents (none), the special tokens, and the members of the object `more`, which may
  // replace the special tokens alone. Objects' keys stand in alphabetical order. INVALID_ARGUMENT
  // "messages ..." or "chat_template_kwargs ...".
  absl::StatusOr<std::string> Render(
      const nlohmann::json& messages, bool add_generation_prompt,
      const nlohmann::json& more = nlohmann::json::object(),
      std::chrono::system_clock::time_point now = std::chrono::system_clock::now()) const;

  // The special token that ends a text; "" where the files name none.
  std::string eos_token() const;

 private:
  ChatTemplate(std::string name, jinja::Template program, nlohmann::json special_tokens)
      : name_(std::move(name)),
        program_(std::move(program)),
        special_tokens_(std::move(special_tokens)) {}

  const std::string name_;
  const jinja::Template program_;
  const nlohmann::json special_tokens_;
};

}  // namespace based

#endif  // BASED_ENGINE_CHAT_TEMPLATE_H_
