// Constraint "regex": the whole text matches a regular expression. Also what the JSON schema
// compiler needs of them.
//
// Syntax: what ECMA-262 (flag u) and Python's re have in common, read as ECMA-262 does:
// - characters; . (all but \n, \r, U+2028, U+2029); [a-z], [^a-z]; groups (...), (?:...),
//   (?<name>...), (?P<name>...); |; * + ? {n} {n,} {n,m}, each also lazy (the same texts match);
// - ^ and $: the text's start and end, anywhere in the expression;
// - \d \w (ASCII), \s (Unicode spaces and U+FEFF), \D \W \S; \t \n \v \f \r \0, in classes \b;
//   \xHH, \uHHHH, \u{H...}; \p{..} and \P{..} with a general category; \ before punctuation.
// Refused by name: backreferences, lookahead and lookbehind, \b and \B, atomic groups, possessive
// quantifiers, inline flags, scripts and other properties.
//
// An expression becomes a deterministic automaton before any text is seen: no text takes long.
#ifndef BASED_ENGINE_CONSTRAINT_REGEX_H_
#define BASED_ENGINE_CONSTRAINT_REGEX_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/constraint/char_dfa.h"
#include "engine/constraint/grammar.h"

namespace based {

struct RegexLimits {
  size_t max_pattern_bytes = size_t{16} << 10;
  int64_t max_repeat = 10'000;  // the numbers in braces
  // States of all automata on the way, and wall clock, of one compilation.
  int64_t max_states = 200'000;
  std::chrono::milliseconds max_time{2'000};
};

enum class RegexMatch : uint8_t { kWhole, kSearch };  // kSearch: anywhere in the text

// INVALID_ARGUMENT "byte N: ..." for what is not supported, or naming the limit that is exceeded.
// Empty when nothing matches.
absl::StatusOr<CharDfa> RegexDfa(std::string_view pattern, RegexMatch match,
                                 const RegexLimits& limits, DfaBudget& budget);

// Texts, as UTF-8, that match as a whole. INVALID_ARGUMENT "regex: ..." as above, and when no text
// matches.
absl::StatusOr<Grammar> RegexGrammar(std::string_view pattern, const RegexLimits& limits);

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_REGEX_H_
