#include "engine/constraint/regex_parser.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "engine/constraint/grammar.h"
#include "engine/utf8.h"
#include "kernels/base/status.h"

namespace based {
namespace {

using Kind = RegexTree::Kind;

constexpr int kMostNesting = 100;  // groups within each other; parsing recurses

struct Refused {
  std::string_view prefix;
  const char* what;
};
// Groups that are not supported; the first that fits names it.
constexpr Refused kRefusedGroups[] = {
    {"?=", "lookahead"},      {"?!", "lookahead"},       {"?<=", "lookbehind"},
    {"?<!", "lookbehind"},    {"?>", "an atomic group"}, {"?P=", "a backreference"},
    {"?P>", "recursion"},     {"?#", "a comment"},       {"?(", "a conditional group"},
    {"?|", "a branch reset"}, {"*", "a verb"},           {"?", "a group with inline flags"}};

bool IsHex(char c) { return absl::ascii_isxdigit(static_cast<unsigned char>(c)); }
bool IsDigit(char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); }
bool IsAlnum(char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)); }

// Digits; what is above all limits reads as the highest number.
bool ReadNumber(std::string_view digits, int64_t* value) {
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), *value);
  if (error == std::errc::result_out_of_range) *value = INT64_MAX;
  return end == digits.data() + digits.size();
}

class Parser {
 public:
  Parser(std::string_view pattern, int64_t max_repeat)
      : pattern_(pattern), rest_(pattern), max_repeat_(max_repeat) {}

  absl::StatusOr<RegexTree> Run() {
    BASED_ASSIGN_OR_RETURN(tree_.root, Choice());
    if (!rest_.empty()) return Refuse("a ) without its (");
    return std::move(tree_);
  }

 private:
  absl::Status Refuse(const std::string& what) const {
    return absl::InvalidArgumentError(
        absl::StrCat("byte ", pattern_.size() - rest_.size(), ": ", what));
  }
  absl::Status Unsupported(const std::string& what) const {
    return Refuse(absl::StrCat(what, " is not supported"));
  }

  bool Take(std::string_view text) {
    if (!rest_.starts_with(text)) return false;
    rest_.remove_prefix(text.size());
    return true;
  }
  char32_t TakeCharacter() {
    const char32_t character = FirstCharacter(rest_);
    rest_.remove_prefix(ClassifyUtf8(rest_).size);
    return character;
  }

  int32_t Add(RegexTree::Node node) {
    tree_.nodes.push_back(std::move(node));
    return static_cast<int32_t>(tree_.nodes.size() - 1);
  }
  int32_t AddSet(CodePointSet set) { return Add({Kind::kSet, std::move(set), {}, 0, 0}); }

  absl::StatusOr<int32_t> Choice() {
    if (++nesting_ > kMostNesting) {
      return Refuse(absl::StrCat("groups nest deeper than ", kMostNesting));
    }
    std::vector<int32_t> branches;
    do {
      BASED_ASSIGN_OR_RETURN(const int32_t branch, Sequence());
      branches.push_back(branch);
    } while (Take("|"));
    --nesting_;
    if (branches.size() == 1) return branches[0];
    return Add({Kind::kChoice, {}, std::move(branches), 0, 0});
  }

  absl::StatusOr<int32_t> Sequence() {
    std::vector<int32_t> items;
    while (!rest_.empty() && rest_[0] != '|' && rest_[0] != ')') {
      BASED_ASSIGN_OR_RETURN(const int32_t atom, Atom());
      BASED_ASSIGN_OR_RETURN(const int32_t item, Quantified(atom));
      items.push_back(item);
    }
    if (items.size() == 1) return items[0];
    return Add({Kind::kSequence, {}, std::move(items), 0, 0});
  }

  absl::StatusOr<int32_t> Atom() {
    switch (rest_[0]) {
      case '^':
        return Anchor(Kind::kStart);
      case '$':
        return Anchor(Kind::kEnd);
      case '.':
        rest_.remove_prefix(1);
        return AddSet(Dot());
      case '(':
        return Group();
      case '[': {
        BASED_ASSIGN_OR_RETURN(CodePointSet set, Class());
        return AddSet(std::move(set));
      }
      case '*':
      case '+':
      case '?':
        return Refuse("nothing to repeat");
      case '{':
        return Refuse(R"(a { that repeats nothing (for the character write \{))");
      case '\\': {
        BASED_ASSIGN_OR_RETURN(CodePointSet set, Escape(false));
        return AddSet(std::move(set));
      }
      default: {
        const char32_t character = TakeCharacter();
        return AddSet({{character, character}});
      }
    }
  }

  absl::StatusOr<int32_t> Anchor(Kind kind) {
    rest_.remove_prefix(1);
    if (!rest_.empty() && std::string_view("*+?{").find(rest_[0]) != std::string_view::npos) {
      return Refuse("an anchor that is repeated");
    }
    return Add({kind, {}, {}, 0, 0});
  }

  absl::StatusOr<int32_t> Group() {
    const std::string_view inside = rest_.substr(1);
    if (inside.starts_with("?:")) {
      rest_.remove_prefix(3);
    } else if (inside.starts_with("?P<") || (inside.starts_with("?<") && inside.size() > 2 &&
                                             inside[2] != '=' && inside[2] != '!')) {
      BASED_RETURN_IF_ERROR(GroupName());
    } else {
      for (const Refused& refused : kRefusedGroups) {
        if (inside.starts_with(refused.prefix)) return Unsupported(refused.what);
      }
      rest_.remove_prefix(1);
    }
    BASED_ASSIGN_OR_RETURN(const int32_t inner, Choice());
    if (!Take(")")) return Refuse("a ( without its )");
    return inner;
  }

  absl::Status GroupName() {
    const size_t end = rest_.find('>');
    const std::string_view name = rest_.substr(0, std::min(end, rest_.size()));
    const size_t start = name.find('<') + 1;
    const bool plain = std::all_of(name.begin() + start, name.end(),
                                   [](char c) { return IsAlnum(c) || c == '_'; });
    if (end == std::string_view::npos || start == name.size() || !plain || IsDigit(name[start])) {
      return Refuse("a group's name that is not letters, digits and _");
    }
    rest_.remove_prefix(end + 1);
    return absl::OkStatus();
  }

  absl::StatusOr<int32_t> Quantified(int32_t atom) {
    int64_t min = 0;
    int64_t max = Grammar::kUnbounded;
    if (Take("*")) {
    } else if (Take("+")) {
      min = 1;
    } else if (Take("?")) {
      max = 1;
    } else if (rest_.starts_with("{")) {
      BASED_RETURN_IF_ERROR(Braces(&min, &max));
    } else {
      return atom;
    }
    Take("?");  // lazy: the same texts match
    if (rest_.starts_with("+")) return Unsupported("a possessive quantifier");
    if (!rest_.empty() && std::string_view("*?{").find(rest_[0]) != std::string_view::npos) {
      return Refuse("two quantifiers in a row");
    }
    return Add({Kind::kRepeat, {}, {atom}, min, max});
  }

  // {n}, {n,} or {n,m}
  absl::Status Braces(int64_t* min, int64_t* max) {
    const size_t end = rest_.find('}');
    const std::string_view body = rest_.substr(1, end == std::string_view::npos ? 0 : end - 1);
    const size_t comma = std::min(body.find(','), body.size());
    const auto number = [](std::string_view text, int64_t* value) {
      return !text.empty() && std::all_of(text.begin(), text.end(), IsDigit) &&
             ReadNumber(text, value);
    };
    const bool open_end = comma + 1 == body.size();
    bool valid = number(body.substr(0, comma), min);
    if (comma == body.size()) {
      *max = *min;
    } else if (!open_end) {
      valid = valid && number(body.substr(comma + 1), max);
    }
    if (!valid) return Refuse(R"(a { that starts no {n}, {n,} or {n,m} (write \{))");
    if (std::max(*min, *max) > max_repeat_) {
      return Refuse(absl::StrCat("repeats more than the limit of ", max_repeat_, " times"));
    }
    if (*max != Grammar::kUnbounded && *min > *max)
      return Refuse("a repeat whose minimum is above its maximum");
    rest_.remove_prefix(end + 1);
    return absl::OkStatus();
  }

  // [...] from its first bracket.
  absl::StatusOr<CodePointSet> Class() {
    rest_.remove_prefix(1);
    const bool negated = Take("^");
    if (rest_.starts_with("]")) return Refuse(R"(] first in a class (write \]))");
    std::vector<CodePointRange> members;
    while (!Take("]")) {
      if (rest_.empty()) return Refuse("a class without its ]");
      if (rest_.starts_with("[:")) return Unsupported("a POSIX class");
      BASED_ASSIGN_OR_RETURN(const CodePointSet first, ClassItem());
      const bool range = rest_.size() > 1 && rest_[0] == '-' && rest_[1] != ']';
      if (!range) {
        members.insert(members.end(), first.begin(), first.end());
        continue;
      }
      rest_.remove_prefix(1);
      BASED_ASSIGN_OR_RETURN(const CodePointSet last, ClassItem());
      if (!IsOne(first) || !IsOne(last)) return Refuse("a range whose end is a class");
      if (first[0].first > last[0].first) return Refuse("a range that ends before it begins");
      members.push_back({first[0].first, last[0].first});
    }
    const CodePointSet set = UnionOf(std::move(members));
    return negated ? Negate(set) : set;
  }

  static bool IsOne(const CodePointSet& set) {
    return set.size() == 1 && set[0].first == set[0].last;
  }

  absl::StatusOr<CodePointSet> ClassItem() {
    if (rest_.starts_with("\\")) return Escape(true);
    if (rest_.empty()) return Refuse("a class without its ]");
    const char32_t character = TakeCharacter();
    return CodePointSet{{character, character}};
  }

  absl::StatusOr<CodePointSet> Escape(bool in_class) {
    if (rest_.size() < 2) return Refuse(R"(a \ at the end)");
    const char c = rest_[1];
    if (const std::optional<CodePointSet> set = Shorthand(c, in_class)) {
      if (c == '0' && rest_.size() > 2 && IsDigit(rest_[2])) return Unsupported("an octal escape");
      rest_.remove_prefix(2);
      return *set;
    }
    if (c == 'x' || c == 'u') return CodePoint();
    if (c == 'p' || c == 'P') return Category();
    if (c == 'b' || c == 'B') return Unsupported("a word boundary");
    if (IsDigit(c) || c == 'k') return Unsupported("a backreference");
    if (c == 'A' || c == 'Z' || c == 'z') {
      return Unsupported(std::string(rest_.substr(0, 2)) + " (write ^ or $)");
    }
    if (IsAlnum(c)) return Unsupported(std::string(rest_.substr(0, 2)));
    rest_.remove_prefix(1);
    const char32_t character = TakeCharacter();
    return CodePointSet{{character, character}};
  }

  static std::optional<CodePointSet> Shorthand(char c, bool in_class) {
    switch (c) {
      case 'd':
        return Digits();
      case 'D':
        return Negate(Digits());
      case 'w':
        return WordCharacters();
      case 'W':
        return Negate(WordCharacters());
      case 's':
        return Spaces();
      case 'S':
        return Negate(Spaces());
      case '0':
        return CodePointSet{{0, 0}};
      case 'b':
        if (!in_class) return std::nullopt;
        return CodePointSet{{'\b', '\b'}};
      default:
        break;
    }
    constexpr std::string_view kLetters = "tnvfr";
    const size_t at = kLetters.find(c);
    if (at == std::string_view::npos) return std::nullopt;
    const auto control = static_cast<char32_t>("\t\n\v\f\r"[at]);
    return CodePointSet{{control, control}};
  }

  // \xHH, \uHHHH (a surrogate pair as two of them) or \u{H...}.
  absl::StatusOr<CodePointSet> CodePoint() {
    const std::string name(rest_.substr(0, 2));
    std::optional<char32_t> value;
    if (rest_.substr(2).starts_with("{") && name == "\\u") {
      const size_t end = rest_.find('}');
      value = Hex(rest_.substr(3, end == std::string_view::npos ? 0 : end - 3), 1, 6);
      if (value) rest_.remove_prefix(end + 1);
    } else {
      const size_t digits = name == "\\x" ? 2 : 4;
      value = Hex(rest_.substr(2, digits), digits, digits);
      if (value) rest_.remove_prefix(2 + digits);
    }
    if (value && (*value & 0xFFFFFC00) == 0xD800 && rest_.starts_with("\\u")) {
      const std::optional<char32_t> low = Hex(rest_.substr(2, 4), 4, 4);
      if (low && (*low & 0xFFFFFC00) == 0xDC00) {
        rest_.remove_prefix(6);
        value = 0x10000 + ((*value - 0xD800) << 10) + (*low - 0xDC00);
      }
    }
    if (!value || *value > kLastCodePoint) {
      return Refuse(absl::StrCat(name, " without the hexadecimal digits of a code point"));
    }
    if (*value >= 0xD800 && *value <= 0xDFFF) return Refuse("half of a surrogate pair");
    return CodePointSet{{*value, *value}};
  }

  static std::optional<char32_t> Hex(std::string_view digits, size_t fewest, size_t most) {
    if (digits.size() < fewest || digits.size() > most) return std::nullopt;
    uint32_t value = 0;
    if (!std::all_of(digits.begin(), digits.end(), IsHex)) return std::nullopt;
    std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    return value;
  }

  // \p{L}, \P{Lu}
  absl::StatusOr<CodePointSet> Category() {
    const size_t end = rest_.find('}');
    if (!rest_.substr(2).starts_with("{") || end == std::string_view::npos) {
      return Refuse(R"(\p without a category in braces)");
    }
    const std::optional<CodePointSet> members = CategoryMembers(rest_.substr(3, end - 3));
    if (!members) {
      return Unsupported(std::string(rest_.substr(0, end + 1)) + " (not a general category)");
    }
    const bool negated = rest_[1] == 'P';
    rest_.remove_prefix(end + 1);
    return negated ? Negate(*members) : *members;
  }

  const std::string_view pattern_;
  std::string_view rest_;
  const int64_t max_repeat_;
  int nesting_ = 0;
  RegexTree tree_;
};

}  // namespace

absl::StatusOr<RegexTree> ParseRegex(std::string_view pattern, int64_t max_repeat) {
  if (const size_t at = FindInvalidUtf8(pattern); at != std::string_view::npos) {
    return absl::InvalidArgumentError(absl::StrCat("byte ", at, ": not UTF-8"));
  }
  return Parser(pattern, max_repeat).Run();
}

}  // namespace based
