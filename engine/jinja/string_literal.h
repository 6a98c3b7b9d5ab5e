// The content of a string literal.
#ifndef BASED_ENGINE_JINJA_STRING_LITERAL_H_
#define BASED_ENGINE_JINJA_STRING_LITERAL_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace based::jinja {

// `literal` without its quotes, with Python's escapes taken for what they stand for; an unknown
// one stays. INVALID_ARGUMENT for escapes that are cut short, name a character, or are no
// character.
absl::StatusOr<std::string> UnescapeString(std::string_view literal);

}  // namespace based::jinja

#endif  // BASED_ENGINE_JINJA_STRING_LITERAL_H_
