// OpenAI's two forms of log-probabilities, written token by token.
#ifndef BASED_SERVER_OPENAI_LOGPROBS_H_
#define BASED_SERVER_OPENAI_LOGPROBS_H_

#include <cstdint>
#include <string>

#include "engine/request.h"
#include "engine/tokenizer.h"

namespace based {

// Of one completion. Tokens are told as text; as "bytes:\x.." where they are not whole characters,
// and as "token_id:N" where the model has no tokenizer.
class OpenAiLogprobs {
 public:
  enum class Form {
    kLegacy,  // {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    kChat,    // {"content": [{"token", "logprob", "bytes", "top_logprobs": []}]}
  };

  // `tokenizer` may be null and must outlive this. `top`: alternatives were asked for.
  OpenAiLogprobs(Form form, const Tokenizer* tokenizer, bool top)
      : form_(form), tokenizer_(tokenizer), top_(top) {}

  // The first token of an echoed prompt, of which there is no log-probability. kLegacy only.
  void AddFirst(int32_t id);
  void Add(const TokenLogprob& token);

  // Something was ever added; nothing was since the last Take.
  bool begun() const { return begun_; }
  bool empty() const { return tokens_.empty(); }
  // The object of what was added since the last Take. Text offsets, in characters, go on.
  std::string Take();

 private:
  void AddLegacy(const TokenLogprob* token, int32_t id);
  void AddChat(const TokenLogprob& token);
  void AppendChatToken(int32_t id, double logprob, std::string& out) const;
  void AppendTop(const TokenLogprob& token);
  std::string TextOf(int32_t id) const;

  const Form form_;
  const Tokenizer* const tokenizer_;
  const bool top_;
  bool begun_ = false;
  int64_t offset_ = 0;
  // Elements of the arrays, with commas between; kChat has only tokens_.
  std::string tokens_;
  std::string token_logprobs_;
  std::string top_logprobs_;
  std::string text_offsets_;
};

}  // namespace based

#endif  // BASED_SERVER_OPENAI_LOGPROBS_H_
