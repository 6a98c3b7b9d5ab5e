// Reads a regular expression into a tree. The syntax is what ECMA-262 (with the flag u) and
// Python's re have in common; regex.h says how it is meant.
#ifndef BASED_ENGINE_CONSTRAINT_REGEX_PARSER_H_
#define BASED_ENGINE_CONSTRAINT_REGEX_PARSER_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/constraint/code_point_set.h"

namespace based {

struct RegexTree {
  enum class Kind : uint8_t { kSet, kSequence, kChoice, kRepeat, kStart, kEnd };
  struct Node {
    Kind kind = Kind::kSequence;
    CodePointSet set;               // kSet
    std::vector<int32_t> children;  // kSequence, kChoice, kRepeat (one)
    int64_t min = 0;                // kRepeat
    int64_t max = 0;                // kRepeat; Grammar::kUnbounded: no limit
  };
  std::vector<Node> nodes;  // children before their parents
  int32_t root = 0;
};

// INVALID_ARGUMENT "byte N: ..." for what is no expression, is not supported (by name) or repeats
// more than `max_repeat` times in one pair of braces.
absl::StatusOr<RegexTree> ParseRegex(std::string_view pattern, int64_t max_repeat);

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_REGEX_PARSER_H_
