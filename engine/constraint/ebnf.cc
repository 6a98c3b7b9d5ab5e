#include "engine/constraint/ebnf.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "engine/utf8.h"
#include "kernels/base/status.h"

namespace based {
namespace {

constexpr char32_t kLastCodePoint = 0x10FFFF;
constexpr size_t kMostQuoted = 64;

bool IsNameStart(char c) { return absl::ascii_isalpha(c) || c == '_'; }
bool IsName(char c) { return IsNameStart(c) || absl::ascii_isdigit(c) || c == '-'; }

// All code points that are in none of `ranges`.
std::vector<CodePointRange> Others(std::vector<CodePointRange> ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const CodePointRange& a, const CodePointRange& b) { return a.first < b.first; });
  std::vector<CodePointRange> others;
  char32_t next = 0;
  for (const CodePointRange& range : ranges) {
    if (range.first > next) others.push_back({next, range.first - 1});
    next = std::max<char32_t>(next, range.last + 1);
  }
  if (next <= kLastCodePoint) others.push_back({next, kLastCodePoint});
  return others;
}

class EbnfParser {
 public:
  explicit EbnfParser(std::string_view text) : text_(text) {}

  absl::StatusOr<Grammar> Parse();

 private:
  absl::Status ErrorAt(size_t offset, std::string_view reason) const;
  absl::Status Error(std::string_view reason) const { return ErrorAt(at_, reason); }

  bool AtEnd() const { return at_ >= text_.size(); }
  char Peek() const { return AtEnd() ? '\0' : text_[at_]; }
  bool Take(std::string_view symbol);
  void SkipSpace();
  std::string_view TakeName();
  bool AtRule() const;
  char32_t TakeCharacter();

  Grammar::Rule RuleOf(std::string_view name, size_t offset);
  absl::Status ParseRule();
  absl::StatusOr<Grammar::Node> ParseChoice();
  absl::StatusOr<Grammar::Node> ParseSequence();
  absl::StatusOr<Grammar::Node> ParseItem();
  absl::StatusOr<Grammar::Node> ParseRepeats(Grammar::Node node);
  absl::StatusOr<Grammar::Node> ParseBraces(Grammar::Node node);
  absl::StatusOr<int64_t> ParseNumber();
  absl::StatusOr<Grammar::Node> ParseText(char quote);
  absl::StatusOr<Grammar::Node> ParseClass();
  absl::StatusOr<char32_t> ParseCharacter();
  absl::StatusOr<char32_t> ParseCode(int digits);
  absl::Status CheckRules();

  std::string_view text_;
  size_t at_ = 0;
  int groups_ = 0;
  Grammar grammar_;
  absl::flat_hash_map<std::string, Grammar::Rule> rules_;
  std::vector<size_t> first_use_;  // offset of each rule's name where it is met first
};

absl::Status EbnfParser::ErrorAt(size_t offset, std::string_view reason) const {
  int64_t line = 1;
  int64_t column = 1;
  for (size_t i = 0; i < std::min(offset, text_.size()); ++i) {
    if (text_[i] == '\n') {
      ++line;
      column = 1;
    } else if ((static_cast<uint8_t>(text_[i]) & 0xC0) != 0x80) {
      ++column;
    }
  }
  return absl::InvalidArgumentError(absl::StrCat("grammar: line ", line, ", column ", column, ": ",
                                                 absl::string_view(reason.data(), reason.size())));
}

bool EbnfParser::Take(std::string_view symbol) {
  if (text_.substr(at_, symbol.size()) != symbol) return false;
  at_ += symbol.size();
  return true;
}

void EbnfParser::SkipSpace() {
  while (!AtEnd() && (absl::ascii_isspace(Peek()) || Peek() == '#')) {
    at_ = Peek() == '#' ? std::min(text_.find('\n', at_), text_.size()) : at_ + 1;
  }
}

std::string_view EbnfParser::TakeName() {
  const size_t begin = at_;
  if (IsNameStart(Peek())) {
    while (IsName(Peek())) ++at_;
  }
  return text_.substr(begin, at_ - begin);
}

// Whether a rule begins here: NAME ::=
bool EbnfParser::AtRule() const {
  EbnfParser ahead(text_);
  ahead.at_ = at_;
  if (ahead.TakeName().empty()) return false;
  ahead.SkipSpace();
  return ahead.Take("::=");
}

char32_t EbnfParser::TakeCharacter() {
  const std::string_view rest = text_.substr(at_);
  at_ += ClassifyUtf8(rest).size;
  return FirstCharacter(rest);
}

Grammar::Rule EbnfParser::RuleOf(std::string_view name, size_t offset) {
  const auto [at, added] = rules_.try_emplace(std::string(name), 0);
  if (added) {
    at->second = grammar_.NewRule(std::string(name.substr(0, kMostQuoted)));
    first_use_.push_back(offset);
  }
  return at->second;
}

absl::Status EbnfParser::ParseRule() {
  const size_t offset = at_;
  const std::string_view name = TakeName();
  SkipSpace();
  if (name.empty() || !Take("::=")) {
    return ErrorAt(offset, "expected a rule: NAME ::= EXPRESSION");
  }
  const Grammar::Rule rule = RuleOf(name, offset);
  if (grammar_.rules()[rule].node >= 0) {
    return ErrorAt(offset, "rule " + grammar_.rules()[rule].name + " is defined twice");
  }
  BASED_ASSIGN_OR_RETURN(const Grammar::Node node, ParseChoice());
  grammar_.Define(rule, node);
  if (!AtEnd() && !AtRule()) {
    return Error("expected a text, a class, a group, the name of a rule, '|' or a new rule");
  }
  return absl::OkStatus();
}

absl::StatusOr<Grammar::Node> EbnfParser::ParseChoice() {
  std::vector<Grammar::Node> alternatives;
  do {
    BASED_ASSIGN_OR_RETURN(const Grammar::Node alternative, ParseSequence());
    alternatives.push_back(alternative);
  } while (Take("|"));
  return grammar_.Choice(std::move(alternatives));
}

absl::StatusOr<Grammar::Node> EbnfParser::ParseSequence() {
  std::vector<Grammar::Node> items;
  for (;;) {
    SkipSpace();
    const char c = Peek();
    const bool item = c == '"' || c == '\'' || c == '[' || c == '(' || c == '.' || IsNameStart(c);
    if (AtEnd() || !item || AtRule()) break;
    BASED_ASSIGN_OR_RETURN(const Grammar::Node node, ParseItem());
    BASED_ASSIGN_OR_RETURN(const Grammar::Node repeated, ParseRepeats(node));
    items.push_back(repeated);
  }
  return grammar_.Sequence(std::move(items));
}

absl::StatusOr<Grammar::Node> EbnfParser::ParseItem() {
  const size_t offset = at_;
  if (Take("\"")) return ParseText('"');
  if (Take("'")) return ParseText('\'');
  if (Take("[")) return ParseClass();
  if (Take(".")) return grammar_.CodePoints({{0, kLastCodePoint}});
  if (!Take("(")) {
    const std::string_view name = TakeName();
    return grammar_.Use(RuleOf(name, offset));
  }
  if (++groups_ > kMostEbnfGroups) {
    return ErrorAt(offset, absl::StrCat("groups nest deeper than ", kMostEbnfGroups));
  }
  BASED_ASSIGN_OR_RETURN(const Grammar::Node node, ParseChoice());
  --groups_;
  if (!Take(")")) return Error("expected ')', or what may stand in a group");
  return node;
}

absl::StatusOr<Grammar::Node> EbnfParser::ParseRepeats(Grammar::Node node) {
  for (;;) {
    SkipSpace();
    if (Take("*")) {
      node = grammar_.Repeat(node, 0, Grammar::kUnbounded);
    } else if (Take("+")) {
      node = grammar_.Repeat(node, 1, Grammar::kUnbounded);
    } else if (Take("?")) {
      node = grammar_.Optional(node);
    } else if (Take("{")) {
      BASED_ASSIGN_OR_RETURN(node, ParseBraces(node));
    } else {
      return node;
    }
  }
}

absl::StatusOr<Grammar::Node> EbnfParser::ParseBraces(Grammar::Node node) {
  const size_t offset = at_;
  BASED_ASSIGN_OR_RETURN(const int64_t min, ParseNumber());
  int64_t max = min;
  if (Take(",")) {
    SkipSpace();
    max = Grammar::kUnbounded;
    if (Peek() != '}') {
      BASED_ASSIGN_OR_RETURN(max, ParseNumber());
      if (max < min) {
        return ErrorAt(offset, absl::StrCat("{", min, ",", max, "}: at least more than at most"));
      }
    }
  }
  if (!Take("}")) return Error("expected '}'");
  return grammar_.Repeat(node, min, max);
}

absl::StatusOr<int64_t> EbnfParser::ParseNumber() {
  SkipSpace();
  if (!absl::ascii_isdigit(Peek())) return Error("expected a number");
  const size_t offset = at_;
  int64_t number = 0;
  while (absl::ascii_isdigit(Peek())) {
    number = std::min(number * 10 + (text_[at_++] - '0'), kMostEbnfRepeats + 1);
  }
  if (number > kMostEbnfRepeats) {
    return ErrorAt(offset, absl::StrCat("more than ", kMostEbnfRepeats, " repeats"));
  }
  SkipSpace();
  return number;
}

absl::StatusOr<Grammar::Node> EbnfParser::ParseText(char quote) {
  const size_t offset = at_ - 1;
  std::string bytes;
  while (Peek() != quote || AtEnd()) {
    if (AtEnd()) return ErrorAt(offset, "this text has no closing quote");
    BASED_ASSIGN_OR_RETURN(const char32_t character, ParseCharacter());
    AppendUtf8(character, &bytes);
  }
  ++at_;
  return grammar_.Bytes(bytes);
}

absl::StatusOr<Grammar::Node> EbnfParser::ParseClass() {
  const size_t offset = at_ - 1;
  const bool negated = Take("^");
  std::vector<CodePointRange> ranges;
  while (!Take("]")) {
    if (AtEnd()) return ErrorAt(offset, "this class has no closing ']'");
    const size_t range_offset = at_;
    BASED_ASSIGN_OR_RETURN(const char32_t first, ParseCharacter());
    char32_t last = first;
    if (Peek() == '-' && text_.substr(at_ + 1, 1) != "]" && at_ + 1 < text_.size()) {
      ++at_;
      BASED_ASSIGN_OR_RETURN(last, ParseCharacter());
    }
    if (last < first) return ErrorAt(range_offset, "this range has its ends the wrong way round");
    ranges.push_back({first, last});
  }
  if (ranges.empty() && !negated) return ErrorAt(offset, "this class matches nothing");
  if (negated) ranges = Others(std::move(ranges));
  if (ranges.empty()) return ErrorAt(offset, "this class matches nothing");
  return grammar_.CodePoints(ranges);
}

absl::StatusOr<char32_t> EbnfParser::ParseCharacter() {
  if (Peek() == '\n') return Error("a line ends within a text or class; write \\n");
  if (Peek() != '\\' || AtEnd()) return TakeCharacter();
  const size_t offset = at_++;
  const char escaped = Peek();
  if (AtEnd()) return ErrorAt(offset, "the grammar ends within an escape");
  ++at_;
  switch (escaped) {
    case 'n':
      return U'\n';
    case 'r':
      return U'\r';
    case 't':
      return U'\t';
    case 'x':
      return ParseCode(2);
    case 'u':
      return ParseCode(4);
    case 'U':
      return ParseCode(8);
    default:
      if (std::string_view("\\\"'[]^-").find(escaped) != std::string_view::npos) {
        return static_cast<char32_t>(escaped);
      }
      return ErrorAt(offset,
                     "unknown escape; \\n \\r \\t \\\\ \\\" \\' \\[ \\] \\^ \\- \\xHH "
                     "\\uHHHH \\UHHHHHHHH are known");
  }
}

absl::StatusOr<char32_t> EbnfParser::ParseCode(int digits) {
  uint64_t code = 0;
  for (int i = 0; i < digits; ++i) {
    if (!absl::ascii_isxdigit(Peek())) {
      return Error(absl::StrCat("expected ", digits, " hexadecimal digits"));
    }
    const char digit = absl::ascii_tolower(text_[at_++]);
    code = code * 16 + static_cast<uint64_t>(digit <= '9' ? digit - '0' : digit - 'a' + 10);
  }
  if (code > kLastCodePoint || (code >= 0xD800 && code <= 0xDFFF)) {
    return ErrorAt(at_ - static_cast<size_t>(digits), "this is no Unicode character");
  }
  return static_cast<char32_t>(code);
}

absl::Status EbnfParser::CheckRules() {
  for (size_t r = 0; r < grammar_.rules().size(); ++r) {
    if (grammar_.rules()[r].node < 0) {
      return ErrorAt(first_use_[r], "rule " + grammar_.rules()[r].name + " is not defined");
    }
  }
  const auto root = rules_.find("root");
  if (root == rules_.end()) return absl::InvalidArgumentError("grammar: there is no rule root");
  const std::vector<Grammar::Rule> endless = grammar_.RulesWithoutEnd();
  if (!endless.empty()) {
    return ErrorAt(first_use_[endless[0]], "rule " + grammar_.rules()[endless[0]].name +
                                               " never ends: it recurs whatever is chosen");
  }
  grammar_.SetStart(grammar_.Use(root->second));
  return absl::OkStatus();
}

absl::StatusOr<Grammar> EbnfParser::Parse() {
  if (text_.size() > kMostEbnfBytes) {
    return absl::InvalidArgumentError(absl::StrCat("grammar: ", text_.size(), " bytes, at most ",
                                                   kMostEbnfBytes, " are allowed"));
  }
  if (const size_t bad = FindInvalidUtf8(text_); bad != std::string_view::npos) {
    return ErrorAt(bad, "this is not UTF-8");
  }
  for (SkipSpace(); !AtEnd(); SkipSpace()) BASED_RETURN_IF_ERROR(ParseRule());
  BASED_RETURN_IF_ERROR(CheckRules());
  return std::move(grammar_);
}

}  // namespace

absl::StatusOr<Grammar> EbnfGrammar(std::string_view text) { return EbnfParser(text).Parse(); }

}  // namespace based
