// A template cut into tokens, as Jinja with trim_blocks and lstrip_blocks does: the newline after
// a block goes, and so does the space before one that begins its line.
#ifndef BASED_ENGINE_JINJA_LEXER_H_
#define BASED_ENGINE_JINJA_LEXER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace based::jinja {

struct Token {
  enum class Kind : uint8_t {
    kText,        // text: outside of {{ }}, {% %} and {# #}
    kPrintBegin,  // {{
    kPrintEnd,
    kBlockBegin,  // {%
    kBlockEnd,
    kName,
    kString,  // text: its content
    kInteger,
    kFloat,
    kOperator,
    kEnd,  // of the template
  };
  Kind kind = Kind::kEnd;
  int line = 1;
  std::string text{};
  int64_t integer = 0;
  double number = 0;
};

// Ends with kEnd. INVALID_ARGUMENT "line N: ...". `source` is valid UTF-8.
absl::StatusOr<std::vector<Token>> Lex(std::string_view source);

}  // namespace based::jinja

#endif  // BASED_ENGINE_JINJA_LEXER_H_
