#include "engine/split_pattern.h"

#include <algorithm>
#include <cctype>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "kernels/base/status.h"

namespace based {

const char kGpt2SplitPattern[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

struct AddedRange {
  uint32_t first;
  uint32_t last;
  std::string_view category;
};

constexpr AddedRange kAddedRanges[] = {
#include "engine/unicode_additions.inc"
};

constexpr std::string_view kCategories[] = {
    "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M", "Mn", "Mc", "Me", "N",  "Nd", "Nl", "No", "P", "Pc",
    "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S", "Sm", "Sc", "Sk", "So", "Z",  "Zs", "Zl", "Zp"};

constexpr std::string_view kSpaces =
    R"(\x{9}-\x{d} \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr std::string_view kNotSpaces =
    R"(\x{0}-\x{8}\x{e}-\x{1f}!-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff})"
    R"(\x{200b}-\x{2027}\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff})";

constexpr std::string_view kGroups[] = {"?:", "?=", "?!", "?<=", "?<!", "?>", "?i:", "?-i:"};

// Reads the pattern from left to right; every function consumes from rest_ and appends to out_.
class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern), rest_(pattern) {}

  absl::StatusOr<std::string> Run() {
    // Elsewhere (?i) would reach across the next | in Oniguruma only.
    if (rest_.starts_with("(?i)")) Copy(4);
    while (!rest_.empty()) BASED_RETURN_IF_ERROR(in_class_ ? ClassItem() : Item());
    if (in_class_) return Refuse("a class without its ]");
    return std::move(out_);
  }

 private:
  absl::Status Refuse(std::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrFormat("offset %d: %s is not supported", pattern_.size() - rest_.size(), what));
  }

  void Copy(size_t count) {
    out_.append(rest_.substr(0, count));
    rest_.remove_prefix(count);
  }

  // `members` is the inside of a class.
  void EmitClass(std::string_view members, bool negated) {
    if (in_class_) {
      out_.append(members);
    } else {
      out_.append(negated ? "[^" : "[").append(members).append("]");
    }
  }

  absl::Status Item() {
    switch (rest_[0]) {
      case '\\':
        return Escape();
      case '^':
      case '$':
        return Refuse(rest_.substr(0, 1));
      case '(':
        return Group();
      case '{':
        return Interval();
      case '[':
        in_class_ = true;
        Copy(rest_.starts_with("[^") ? 2 : 1);
        if (rest_.starts_with("]")) return Refuse("] first in a class");
        return absl::OkStatus();
      default:
        Copy(1);
        return absl::OkStatus();
    }
  }

  absl::Status ClassItem() {
    if (rest_[0] == '[') return Refuse("[ inside a class");
    if (rest_.starts_with("&&")) return Refuse("&& inside a class");
    if (rest_[0] == '\\') return Escape();
    if (rest_[0] == ']') in_class_ = false;
    Copy(1);
    return absl::OkStatus();
  }

  absl::Status Group() {
    if (rest_.starts_with("(*")) return Refuse("(*");
    if (!rest_.starts_with("(?")) {
      Copy(1);
      return absl::OkStatus();
    }
    for (const std::string_view group : kGroups) {
      if (rest_.substr(1).starts_with(group)) {
        Copy(1 + group.size());
        return absl::OkStatus();
      }
    }
    return Refuse(rest_.substr(0, 4));
  }

  // {n}, {n,} or {n,m}. In Ruby's syntax {n}+ is a repeated repeat and {n}? means "or nothing".
  absl::Status Interval() {
    const size_t end = rest_.find('}');
    const std::string_view body = rest_.substr(0, std::min(end, rest_.size()));
    if (end == std::string_view::npos || end < 2 || !absl::ascii_isdigit(body[1])) {
      return Refuse(R"({ that starts no {n,m} (write \{))");
    }
    Copy(end + 1);
    if (!rest_.empty() && (rest_[0] == '+' || rest_[0] == '?')) {
      return Refuse(std::string(body).append("}").append(rest_.substr(0, 1)));
    }
    return absl::OkStatus();
  }

  absl::Status Escape() {
    if (rest_.size() < 2) return Refuse("a \\ at the end");
    const char c = rest_[1];
    switch (c) {
      case 'p':
      case 'P':
        return Property();
      case 's':
        rest_.remove_prefix(2);
        EmitClass(kSpaces, false);
        return absl::OkStatus();
      case 'S':
        rest_.remove_prefix(2);
        EmitClass(kNotSpaces, false);
        return absl::OkStatus();
      case 'd':
        rest_.remove_prefix(2);
        EmitClass(Members("Nd"), false);
        return absl::OkStatus();
      case 'u':
        return CodePoint();
      case 'r':
      case 'n':
      case 't':
      case 'f':
        Copy(2);
        return absl::OkStatus();
      case 'x':
        if (rest_.size() > 2 && rest_[2] == '{') {
          Copy(2);
          Copy(std::min(rest_.find('}'), rest_.size() - 1) + 1);
          return absl::OkStatus();
        }
        return Refuse(R"(\x without braces)");
      default:
        if (absl::ascii_isalnum(static_cast<unsigned char>(c))) return Refuse(rest_.substr(0, 2));
        Copy(2);
        return absl::OkStatus();
    }
  }

  // \p{L}, \P{L}, \p{^L}
  absl::Status Property() {
    const size_t end = rest_.find('}');
    if (!rest_.substr(2).starts_with("{") || end == std::string_view::npos) {
      return Refuse(R"(\p without braces)");
    }
    bool negated = rest_[1] == 'P';
    std::string_view name = rest_.substr(3, end - 3);
    if (name.starts_with("^")) {
      negated = !negated;
      name.remove_prefix(1);
    }
    const bool known =
        std::find(std::begin(kCategories), std::end(kCategories), name) != std::end(kCategories);
    if (!known || (negated && in_class_)) return Refuse(rest_.substr(0, end + 1));
    EmitClass(Members(name), negated);
    rest_.remove_prefix(end + 1);
    return absl::OkStatus();
  }

  // \uHHHH
  absl::Status CodePoint() {
    const std::string_view digits = rest_.substr(2, 4);
    if (digits.size() != 4 || !std::all_of(digits.begin(), digits.end(), absl::ascii_isxdigit)) {
      return Refuse(R"(\u without four hexadecimal digits)");
    }
    out_.append("\\x{").append(digits).append("}");
    rest_.remove_prefix(6);
    return absl::OkStatus();
  }

  static std::string Members(std::string_view category) {
    std::string members = std::string("\\p{").append(category).append("}");
    for (const AddedRange& range : kAddedRanges) {
      if (range.category.starts_with(category)) {
        absl::StrAppendFormat(&members, "\\x{%x}-\\x{%x}", range.first, range.last);
      }
    }
    return members;
  }

  std::string_view pattern_;
  std::string_view rest_;
  std::string out_;
  bool in_class_ = false;
};

}  // namespace

absl::StatusOr<std::string> ToPcre2Pattern(std::string_view pattern) {
  return Translator(pattern).Run();
}

}  // namespace based
