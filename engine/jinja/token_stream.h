// The tokens before the parser, and its first error. After an error nothing but the template's end
// is left, so that every loop of the parser ends.
#ifndef BASED_ENGINE_JINJA_TOKEN_STREAM_H_
#define BASED_ENGINE_JINJA_TOKEN_STREAM_H_

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/jinja/lexer.h"

namespace based::jinja {

class TokenStream {
 public:
  // `tokens` ends with kEnd.
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& Current() const { return tokens_[at_]; }
  const Token& Next() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  bool Is(Token::Kind kind) const { return Current().kind == kind; }
  bool IsName(std::string_view name) const {
    return Is(Token::Kind::kName) && Current().text == name;
  }
  bool IsOperator(std::string_view op) const {
    return Is(Token::Kind::kOperator) && Current().text == op;
  }
  bool IsOneOf(std::initializer_list<std::string_view> operators) const;

  // The current token; the next becomes current.
  Token Take();
  bool SkipName(std::string_view name);
  bool SkipOperator(std::string_view op);
  // Fails where the current token is another.
  void ExpectOperator(std::string_view op);
  void Expect(Token::Kind kind, std::string_view what);
  std::string ExpectName(std::string_view what);

  void Fail(absl::string_view message);  // "line N: `message`"; the first one stays
  void Unexpected(std::string_view expected);
  bool ok() const { return status_.ok(); }
  const absl::Status& status() const { return status_; }

 private:
  std::vector<Token> tokens_;
  size_t at_ = 0;
  absl::Status status_;
};

}  // namespace based::jinja

#endif  // BASED_ENGINE_JINJA_TOKEN_STREAM_H_
