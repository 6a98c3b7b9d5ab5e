// Sets of Unicode code points as sorted ranges. Surrogates are in no set: no UTF-8 spells them.
#ifndef BASED_ENGINE_CONSTRAINT_CODE_POINT_SET_H_
#define BASED_ENGINE_CONSTRAINT_CODE_POINT_SET_H_

#include <optional>
#include <string_view>
#include <vector>

#include "engine/constraint/grammar.h"

namespace based {

inline constexpr char32_t kLastCodePoint = 0x10FFFF;

// Sorted, disjoint, none adjacent to the next.
using CodePointSet = std::vector<CodePointRange>;

// The union of `ranges`, which may be in any order and overlap.
CodePointSet UnionOf(std::vector<CodePointRange> ranges);

// All code points that are not in `set`.
CodePointSet Negate(const CodePointSet& set);

inline CodePointSet AllCodePoints() { return Negate({}); }

// ECMA-262's \d, \w and \s, and its dot (all but line ends).
CodePointSet Digits();
CodePointSet WordCharacters();
CodePointSet Spaces();
CodePointSet Dot();

// The members of a general category of Unicode 16 ("L", "Lu", "Nd", ...); nullopt for other names.
// The first use of a category takes some ten milliseconds; it is kept. Thread-safe.
std::optional<CodePointSet> CategoryMembers(std::string_view name);

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_CODE_POINT_SET_H_
