// Automata over code points spelled in bytes: as UTF-8, or as the inside of a JSON string.
#ifndef BASED_ENGINE_CONSTRAINT_DFA_BYTES_H_
#define BASED_ENGINE_CONSTRAINT_DFA_BYTES_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "engine/constraint/char_dfa.h"
#include "engine/constraint/grammar.h"

namespace based {

enum class DfaSpelling : uint8_t {
  kUtf8,
  // Between the quotes of a JSON string, every character in all its forms: itself (not ", \ and
  // control characters), \" \\ \/ \b \f \n \r \t, \uXXXX in either case, as a pair from U+10000 on.
  kJsonAnyEscape,
  // The same, but printable ASCII characters (other than " and \) are themselves alone: the text
  // is then forced where the automaton forces it.
  kJsonNeededEscape,
};

// INVALID_ARGUMENT when the budget is spent. `dfa` is not empty.
absl::StatusOr<ByteFsa> RenderDfa(const CharDfa& dfa, DfaSpelling spelling, DfaBudget& budget);

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_DFA_BYTES_H_
