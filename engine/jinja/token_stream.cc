#include "engine/jinja/token_stream.h"

#include "absl/strings/str_cat.h"

namespace based::jinja {
namespace {

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

std::string Describe(const Token& token) {
  using Kind = Token::Kind;
  switch (token.kind) {
    case Kind::kPrintBegin:
      return "'{{'";
    case Kind::kPrintEnd:
      return "'}}'";
    case Kind::kBlockBegin:
      return "'{%'";
    case Kind::kBlockEnd:
      return "'%}'";
    case Kind::kString:
      return "a string";
    case Kind::kText:
      return "text";
    case Kind::kEnd:
      return "the end of the template";
    default:
      return absl::StrCat("'", token.text, "'");
  }
}

}  // namespace

bool TokenStream::IsOneOf(std::initializer_list<std::string_view> operators) const {
  return std::any_of(operators.begin(), operators.end(),
                     [this](std::string_view op) { return IsOperator(op); });
}

Token TokenStream::Take() {
  if (Is(Token::Kind::kEnd)) return Current();
  return std::move(tokens_[at_++]);
}

bool TokenStream::SkipName(std::string_view name) {
  const bool is = IsName(name);
  if (is) Take();
  return is;
}

bool TokenStream::SkipOperator(std::string_view op) {
  const bool is = IsOperator(op);
  if (is) Take();
  return is;
}

void TokenStream::ExpectOperator(std::string_view op) {
  if (!SkipOperator(op)) Unexpected(absl::StrCat("'", View(op), "'"));
}

void TokenStream::Expect(Token::Kind kind, std::string_view what) {
  if (!Is(kind)) return Unexpected(what);
  Take();
}

std::string TokenStream::ExpectName(std::string_view what) {
  if (Is(Token::Kind::kName)) return Take().text;
  Unexpected(what);
  return "";
}

void TokenStream::Fail(absl::string_view message) {
  if (!ok()) return;
  status_ = absl::InvalidArgumentError(absl::StrCat("line ", Current().line, ": ", message));
  at_ = tokens_.size() - 1;
}

void TokenStream::Unexpected(std::string_view expected) {
  Fail(absl::StrCat("unexpected ", Describe(Current()), "; expected ", View(expected)));
}

}  // namespace based::jinja
