#include "engine/jinja/strings.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/jinja/operators.h"

namespace based::jinja {
namespace {

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

}  // namespace

Value Cased(Run& run, const std::string& text, Letters letters) {
  if (!run.Spend(text.size())) return {};
  if (!IsAscii(text)) return run.Fail("letters' case changes in ASCII alone");
  if (letters == Letters::kUpper) return absl::AsciiStrToUpper(text);
  std::string out = absl::AsciiStrToLower(text);
  bool begins = true;
  for (char& c : out) {
    if (letters != Letters::kLower && begins) c = absl::ascii_toupper(static_cast<uint8_t>(c));
    begins = letters == Letters::kTitle && !absl::ascii_isalpha(static_cast<uint8_t>(c));
  }
  return out;
}

Value Stripped(Run& run, const std::string& text, Side side, const Value& set) {
  if (!run.Spend(text.size())) return {};
  if (set.undefined() || set.none()) return Strip(text, side);
  const std::string characters = TextArgument(run, set, "the characters to strip");
  // Each character of the text may look through all of them.
  if (!SpendSearch(run, text, characters)) return {};
  return Strip(text, side, characters);
}

Value Replaced(Run& run, const std::string& text, const Value& old, const Value& replacement,
               const Value& count) {
  const std::string from = TextArgument(run, old, "what is replaced");
  const std::string to = TextArgument(run, replacement, "its replacement");
  const int64_t most = IntegerArgument(run, count, -1, "the number of replacements");
  // No longer than if it were found at every place where it fits.
  const size_t places = from.empty() ? text.size() + 1 : text.size() / from.size();
  if (!SpendSearch(run, text, from)) return {};
  std::string out;
  if (to.size() <= from.size() || places * to.size() <= kMaxOutputBytes) {
    out = Replace(text, from, to, most);
  } else {
    return run.Fail("a replacement may become too long");
  }
  run.Spend(out.size());
  return out;
}

Value JoinedBy(Run& run, const std::string& separator, const Value& parts) {
  std::string out;
  bool first = true;
  for (const Value& part : Iterate(run, parts)) {
    if (!run.Spend(kStepCost + separator.size())) return {};
    if (!first) out += separator;
    first = false;
    out += ToText(run, part);
  }
  return out;
}

bool SpendSearch(Run& run, std::string_view text, std::string_view sought) {
  return run.Spend(text.size() + text.size() / kStepCost * sought.size() + sought.size());
}

std::string TextArgument(Run& run, const Value& value, std::string_view what) {
  if (value.is_string()) return run.Spend(value.string().size()) ? value.string() : "";
  run.Fail(value.undefined()
               ? value.reason()
               : absl::StrCat(View(what), " is a ", value.type_name(), "; expected a string"));
  return "";
}

int64_t IntegerArgument(Run& run, const Value& value, int64_t fallback, std::string_view what) {
  if (value.undefined() || value.none()) return fallback;
  if (value.is_integral()) return value.integer();
  run.Fail(absl::StrCat(View(what), " is a ", value.type_name(), "; expected an integer"));
  return fallback;
}

}  // namespace based::jinja
