#include "engine/jinja/string_literal.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/utf8.h"

namespace based::jinja {
namespace {

// Takes up to `most` digits of `base` from the front of `rest`; how many there were.
size_t TakeDigits(std::string_view& rest, int base, size_t most, uint32_t& number) {
  size_t count = 0;
  number = 0;
  while (count < most && !rest.empty()) {
    const char c = absl::ascii_tolower(static_cast<uint8_t>(rest[0]));
    const int digit = c >= 'a' ? c - 'a' + 10 : c - '0';
    if (!absl::ascii_isalnum(static_cast<uint8_t>(c)) || digit >= base) break;
    number = number * static_cast<uint32_t>(base) + static_cast<uint32_t>(digit);
    rest.remove_prefix(1);
    ++count;
  }
  return count;
}

absl::Status AppendNumbered(char kind, std::string_view& rest, std::string& out) {
  const size_t digits = kind == 'x' ? 2 : kind == 'u' ? 4 : 8;
  uint32_t character = 0;
  if (TakeDigits(rest, 16, digits, character) != digits) {
    return absl::InvalidArgumentError(
        absl::StrCat("the escape \\", std::string(1, kind), " needs ", digits, " digits"));
  }
  if (character > 0x10FFFF || (character >= 0xD800 && character < 0xE000)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the escape \\", std::string(1, kind), " stands for no character"));
  }
  AppendUtf8(character, &out);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> UnescapeString(std::string_view literal) {
  constexpr std::string_view kLetters = "\n\\'\"abfnrtv";
  constexpr std::string_view kMeanings[] = {"",   "\\", "'",  "\"", "\a", "\b",
                                            "\f", "\n", "\r", "\t", "\v"};
  std::string out;
  while (!literal.empty()) {
    const char c = literal[0];
    literal.remove_prefix(1);
    if (c != '\\' || literal.empty()) {
      out += c;
      continue;
    }
    const char kind = literal[0];
    uint32_t octal = 0;
    if (const size_t at = kLetters.find(kind); at != std::string_view::npos) {
      literal.remove_prefix(1);
      out += kMeanings[at];
    } else if (TakeDigits(literal, 8, 3, octal) > 0) {
      AppendUtf8(octal, &out);
    } else if (kind == 'x' || kind == 'u' || kind == 'U') {
      literal.remove_prefix(1);
      if (const absl::Status status = AppendNumbered(kind, literal, out); !status.ok()) {
        return status;
      }
    } else if (kind == 'N') {
      return absl::InvalidArgumentError("the escape \\N{name} is not supported");
    } else {
      out += '\\';
    }
  }
  return out;
}

}  // namespace based::jinja
