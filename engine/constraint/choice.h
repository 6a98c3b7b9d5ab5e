// Constraint "choice": the text is one of a list.
#ifndef BASED_ENGINE_CONSTRAINT_CHOICE_H_
#define BASED_ENGINE_CONSTRAINT_CHOICE_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/constraint/grammar.h"

namespace based {

inline constexpr size_t kMostChoices = 10'000;
inline constexpr size_t kMostChoiceBytes = size_t{1} << 20;  // of all together

// Matches exactly the bytes of one of `choices`; twice the same is as once, and one may be empty.
// INVALID_ARGUMENT when there are none, or more or longer ones than the limits.
absl::StatusOr<Grammar> ChoiceGrammar(absl::Span<const std::string> choices);

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_CHOICE_H_
