#include "engine/jinja/lexer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/jinja/string_literal.h"
#include "engine/jinja/text.h"
#include "kernels/base/status.h"

namespace based::jinja {
namespace {

using Kind = Token::Kind;

// \r\n and \r become \n; one newline at the end goes.
std::string WithUnixNewlines(std::string_view source) {
  std::string out;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

bool IsNameStart(char c) { return absl::ascii_isalpha(static_cast<uint8_t>(c)) || c == '_'; }
bool IsDigit(char c) { return absl::ascii_isdigit(static_cast<uint8_t>(c)); }

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  absl::StatusOr<std::vector<Token>> Run() {
    while (at_ < source_.size()) BASED_RETURN_IF_ERROR(TextAndTag());
    Emit({.kind = Kind::kEnd});
    return std::move(tokens_);
  }

 private:
  absl::Status Fail(absl::string_view message) const {
    return absl::InvalidArgumentError(absl::StrCat("line ", line_, ": ", message));
  }

  char At(size_t offset = 0) const {
    return at_ + offset < source_.size() ? source_[at_ + offset] : '\0';
  }
  std::string_view Rest() const { return std::string_view(source_).substr(at_); }

  void Advance(size_t bytes) {
    const std::string_view passed = Rest().substr(0, bytes);
    line_ += static_cast<int>(std::count(passed.begin(), passed.end(), '\n'));
    at_ += passed.size();
  }

  void Emit(Token token) {
    token.line = line_;
    tokens_.push_back(std::move(token));
  }

  // Whitespace that a sign strips, or the newline after a block.
  void EndTag(char sign, size_t bytes, bool trims_newline) {
    const size_t begin = at_;
    Advance(bytes);
    if (sign == '-') {
      Advance(Rest().size() - Strip(Rest(), Side::kLeft).size());
    } else if (sign != '+' && trims_newline && At() == '\n') {
      Advance(1);
    }
    begins_line_ = at_ > begin && source_[at_ - 1] == '\n';
  }

  // The text up to the next tag, and that tag.
  absl::Status TextAndTag() {
    size_t tag = at_;
    do {
      tag = source_.find('{', tag);
    } while (tag != std::string::npos && tag + 1 < source_.size() &&
             std::string_view("{%#").find(source_[tag + 1]) == std::string_view::npos && ++tag);
    if (tag == std::string::npos || tag + 1 >= source_.size()) {
      EmitText(Rest());
      Advance(Rest().size());
      return absl::OkStatus();
    }
    const char opener = source_[tag + 1];
    const char third = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    const char sign = third == '-' || third == '+' ? third : '\0';
    const std::string_view text = Rest().substr(0, tag - at_);
    EmitText(BeforeTag(text, opener, sign));
    Advance(text.size() + (sign != '\0' ? 3 : 2));
    if (opener == '#') return Comment();
    return opener == '{' ? Tag(Kind::kPrintBegin) : Tag(Kind::kBlockBegin);
  }

  void EmitText(std::string_view text) {
    if (!text.empty()) Emit({.kind = Kind::kText, .text = std::string(text)});
  }

  std::string_view BeforeTag(std::string_view text, char opener, char sign) const {
    if (sign == '-') return Strip(text, Side::kRight);
    if (sign == '+' || opener == '{') return text;
    const size_t newline = text.rfind('\n');
    const size_t line = newline == std::string_view::npos ? 0 : newline + 1;
    const bool blank = Strip(text.substr(line), Side::kLeft).empty();
    return blank && (line > 0 || begins_line_) ? text.substr(0, line) : text;
  }

  absl::Status Comment() {
    const size_t end = source_.find("#}", at_);
    if (end == std::string::npos) return Fail("a comment is not closed by #}");
    const char before = end > at_ ? source_[end - 1] : '\0';
    Advance(end - at_);
    EndTag(before, 2, /*trims_newline=*/true);
    return absl::OkStatus();
  }

  absl::Status Tag(Kind begin) {
    Emit({.kind = begin});
    const bool block = begin == Kind::kBlockBegin;
    const std::string_view end = block ? "%}" : "}}";
    while (true) {
      while (absl::ascii_isspace(static_cast<uint8_t>(At()))) Advance(1);
      if (at_ >= source_.size()) {
        return Fail(absl::StrCat("a tag is not closed by ", block ? "%}" : "}}"));
      }
      const char sign = At() == '-' || (block && At() == '+') ? At() : '\0';
      const size_t signs = sign != '\0' ? 1 : 0;
      if (open_.empty() && Rest().substr(signs).starts_with(end)) {
        Emit({.kind = block ? Kind::kBlockEnd : Kind::kPrintEnd});
        EndTag(sign, signs + 2, block);
        return absl::OkStatus();
      }
      BASED_RETURN_IF_ERROR(Word());
    }
  }

  absl::Status Word() {
    if (IsNameStart(At())) {
      size_t size = 1;
      while (IsNameStart(At(size)) || IsDigit(At(size))) ++size;
      Emit({.kind = Kind::kName, .text = source_.substr(at_, size)});
      Advance(size);
      return absl::OkStatus();
    }
    if (IsDigit(At())) return Number();
    if (At() == '\'' || At() == '"') return String();
    return Operator();
  }

  absl::Status Number() {
    const bool after_dot = at_ > 0 && source_[at_ - 1] == '.';
    size_t size = 0;
    while (IsDigit(At(size))) ++size;
    Token token = {.kind = Kind::kInteger};
    const auto digits_at = [&](size_t offset) {
      if (!IsDigit(At(offset))) return false;
      for (size = offset; IsDigit(At(size));) ++size;
      return true;
    };
    if (!after_dot) {
      bool real = At(size) == '.' && digits_at(size + 1);
      if (At(size) == 'e' || At(size) == 'E') {
        const bool sign = At(size + 1) == '-' || At(size + 1) == '+';
        real = digits_at(size + (sign ? 2 : 1)) || real;
      }
      if (real) token.kind = Kind::kFloat;
    }
    token.text = source_.substr(at_, size);
    const bool read = token.kind == Kind::kFloat ? absl::SimpleAtod(token.text, &token.number)
                                                 : absl::SimpleAtoi(token.text, &token.integer);
    const bool octal = token.kind == Kind::kInteger && size > 1 && token.text[0] == '0';
    if (!read || octal || IsNameStart(At(size))) {
      return Fail(absl::StrCat("'", token.text, "' is no decimal number that is supported"));
    }
    Emit(std::move(token));
    Advance(size);
    return absl::OkStatus();
  }

  absl::Status String() {
    size_t size = 1;
    while (at_ + size < source_.size() && At(size) != At()) size += At(size) == '\\' ? 2 : 1;
    if (at_ + size >= source_.size()) return Fail("a string is not closed");
    absl::StatusOr<std::string> text = UnescapeString(Rest().substr(1, size - 1));
    if (!text.ok()) return Fail(text.status().message());
    Emit({.kind = Kind::kString, .text = *std::move(text)});
    Advance(size + 1);
    return absl::OkStatus();
  }

  absl::Status Operator() {
    constexpr std::string_view kPairs[] = {"//", "**", "==", "!=", ">=", "<="};
    constexpr std::string_view kSingles = "+-*/%~[](){}<>=.:|,";
    std::string_view found;
    for (const std::string_view pair : kPairs) {
      if (Rest().starts_with(pair)) found = pair;
    }
    if (found.empty() && kSingles.find(At()) != std::string_view::npos) found = Rest().substr(0, 1);
    if (found.empty()) {
      const std::string_view character = Rest().substr(0, OffsetOf(Rest(), 1));
      return Fail(
          absl::StrCat("unexpected '", absl::string_view(character.data(), character.size()), "'"));
    }
    constexpr std::string_view kOpen = "([{";
    constexpr std::string_view kClose = ")]}";
    if (kOpen.find(found) != std::string_view::npos) open_ += found;
    if (const size_t kind = kClose.find(found); kind != std::string_view::npos) {
      if (open_.empty() || open_.back() != kOpen[kind]) {
        return Fail(absl::StrCat("unexpected '", absl::string_view(found.data(), 1), "'"));
      }
      open_.pop_back();
    }
    Emit({.kind = Kind::kOperator, .text = std::string(found)});
    Advance(found.size());
    return absl::OkStatus();
  }

  const std::string source_;
  size_t at_ = 0;
  int line_ = 1;
  bool begins_line_ = true;  // no text stands between the line's begin and here
  std::string open_;         // brackets of the tag that are not closed
  std::vector<Token> tokens_;
};

}  // namespace

absl::StatusOr<std::vector<Token>> Lex(std::string_view source) {
  return Lexer(WithUnixNewlines(source)).Run();
}

}  // namespace based::jinja
