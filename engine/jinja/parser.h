// A template as a tree.
#ifndef BASED_ENGINE_JINJA_PARSER_H_
#define BASED_ENGINE_JINJA_PARSER_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "engine/jinja/syntax.h"

namespace based::jinja {

// INVALID_ARGUMENT "line N: ..." for what is not Jinja, and for what is not of the subset, by name.
absl::StatusOr<Block> Parse(std::string_view source);

}  // namespace based::jinja

#endif  // BASED_ENGINE_JINJA_PARSER_H_
