// Constraint "grammar": rules in an EBNF close to llama.cpp's GBNF.
//
//   # from a hash to the end of the line: a comment
//   root   ::= "[" (item ("," item)*)? "]"
//   item   ::= [0-9]+ | "\"" [^"\\\x00-\x1F]{1,20} "\"" | root
//
// - A grammar is a list of rules NAME ::= EXPRESSION, in any order; a rule ends where the next one
//   begins. The text must match the rule `root`. Names are letters, digits, '-' and '_', not a
//   digit first. Spaces and line ends between parts mean nothing: where the text may have spaces,
//   the grammar must say so.
// - "text" or 'text': these characters. [a-z_0-9]: one character of these; [^a-z]: one of all
//   others; . (dot): any one character. Characters are Unicode code points; the text is their
//   UTF-8.
// - Escapes in texts and classes: \n \r \t \\ \" \' \[ \] \^ \-, and code points as \xHH, \uHHHH,
//   \UHHHHHHHH (no surrogates).
// - X Y: one after the other; X | Y: one of them, an alternative may be empty; ( ... ): a group.
// - X? X* X+ X{3} X{3,} X{3,5}: optional, any number, at least one, exactly 3, at least 3, 3 to 5.
//
// Rules may recurse in any way, to the left too.
#ifndef BASED_ENGINE_CONSTRAINT_EBNF_H_
#define BASED_ENGINE_CONSTRAINT_EBNF_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/constraint/grammar.h"

namespace based {

inline constexpr size_t kMostEbnfBytes = size_t{1} << 20;
inline constexpr int kMostEbnfGroups = 200;           // one within the other
inline constexpr int64_t kMostEbnfRepeats = 100'000;  // of a number in braces

// INVALID_ARGUMENT "grammar: line L, column C: reason" (columns in characters, from 1) for text
// that is not such a grammar; and by name, for a rule that is used and not defined, defined twice
// or never ends (it recurs whatever is chosen), and when there is no root.
absl::StatusOr<Grammar> EbnfGrammar(std::string_view text);

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_EBNF_H_
