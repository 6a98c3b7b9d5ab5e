// Says at which token the text of a completion first holds a stop string. Delivery finds the same
// token, but on another thread and later: too late where the state at that token is to be kept.
#ifndef BASED_ENGINE_TEXT_STOP_H_
#define BASED_ENGINE_TEXT_STOP_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/stop_matcher.h"
#include "engine/tokenizer.h"
#include "engine/utf8.h"

namespace based {

class TextStop {
 public:
  // `tokenizer` must outlive this object. The text of the first `min_tokens` tokens is not looked
  // at.
  TextStop(const Tokenizer& tokenizer, const std::vector<std::string>& strings, int64_t min_tokens)
      : tokenizer_(tokenizer), min_tokens_(min_tokens), matcher_(strings) {}

  // Takes the tokens one by one; true for the one that completes a stop string.
  bool Completes(int32_t token) {
    const std::string text = utf8_.Push(tokenizer_.Bytes(token, /*skip_special=*/true));
    return ++tokens_ > min_tokens_ && matcher_.Push(text).matched.has_value();
  }

 private:
  const Tokenizer& tokenizer_;
  const int64_t min_tokens_;
  int64_t tokens_ = 0;
  Utf8Stream utf8_;
  StopMatcher matcher_;
};

}  // namespace based

#endif  // BASED_ENGINE_TEXT_STOP_H_
