// What filters and methods of strings share.
#ifndef BASED_ENGINE_JINJA_STRINGS_H_
#define BASED_ENGINE_JINJA_STRINGS_H_

#include <optional>
#include <string>
#include <string_view>

#include "engine/jinja/run.h"
#include "engine/jinja/text.h"
#include "engine/jinja/value.h"

namespace based::jinja {

enum class Letters : uint8_t { kUpper, kLower, kCapitalized, kTitle };
// Fails beyond ASCII where the letters' case would change.
Value Cased(Run& run, const std::string& text, Letters letters);

// Without the characters of `set`, or without whitespace if it is undefined or none.
Value Stripped(Run& run, const std::string& text, Side side, const Value& set);

// The first `count` places, undefined, none or negative: all.
Value Replaced(Run& run, const std::string& text, const Value& old, const Value& replacement,
               const Value& count);

Value JoinedBy(Run& run, const std::string& separator, const Value& parts);

// Counts a search for `sought` in `text`, which may compare much of it at every place.
bool SpendSearch(Run& run, std::string_view text, std::string_view sought);

// The string of an argument; fails, naming `what`, for another kind.
std::string TextArgument(Run& run, const Value& value, std::string_view what);
// The integer of an argument, `fallback` if it is undefined or none; fails for another kind.
int64_t IntegerArgument(Run& run, const Value& value, int64_t fallback, std::string_view what);

}  // namespace based::jinja

#endif  // BASED_ENGINE_JINJA_STRINGS_H_
