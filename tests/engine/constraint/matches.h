// Whether a whole text matches a constraint, byte by byte.
#ifndef BASED_TESTS_ENGINE_CONSTRAINT_MATCHES_H_
#define BASED_TESTS_ENGINE_CONSTRAINT_MATCHES_H_

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/constraint/constraint.h"
#include "tests/engine/constraint/small_vocabulary.h"

namespace based {

inline absl::StatusOr<std::shared_ptr<const Constraint>> CompileForBytes(const Grammar& grammar) {
  static const std::shared_ptr<const TokenTrie> trie = ByteTrie({});
  ConstraintLimits limits;
  limits.max_compile_time = std::chrono::minutes(1);  // not a test of how busy the machine is
  return Constraint::Compile(grammar, trie, limits);
}

inline bool Matches(const std::shared_ptr<const Constraint>& constraint, std::string_view text) {
  ConstraintMatcher matcher(constraint);
  for (const char byte : text) {
    if (!matcher.Accept(static_cast<uint8_t>(byte))) return false;
  }
  return matcher.MayEnd();
}

}  // namespace based

#endif  // BASED_TESTS_ENGINE_CONSTRAINT_MATCHES_H_
