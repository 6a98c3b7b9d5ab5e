// JSON numbers in a range, or that are multiples, as automata over their digits.
#ifndef BASED_ENGINE_CONSTRAINT_NUMBER_DFA_H_
#define BASED_ENGINE_CONSTRAINT_NUMBER_DFA_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/constraint/char_dfa.h"
#include "engine/constraint/decimal.h"

namespace based {

// Digits of one number: every number ends, and is finite in a double.
inline constexpr int kMostIntegerDigits = 18;
inline constexpr int kMostFractionDigits = 20;  // without bounds
inline constexpr int kMostExponentDigits = 2;
// Significant digits of numbers with bounds: so many distinguish doubles from each other.
inline constexpr int kMostBoundedDigits = 15;
// multipleOf in units of its last decimal place.
inline constexpr int64_t kMostModulus = 1'024;

struct NumberBounds {
  struct Bound {
    Decimal value;
    bool exclusive = false;
  };
  bool integer = false;  // no fraction and no exponent
  std::optional<Bound> lower;
  std::optional<Bound> upper;
  std::vector<Decimal> multiples;  // of all of these

  bool any() const { return lower || upper || !multiples.empty(); }
  // Keep the narrower of the bound in hand and this one.
  void RaiseLower(const Bound& bound);
  void DropUpper(const Bound& bound);
};

// The numerals of the numbers in `bounds`. Integers: -?(0|[1-9][0-9]*), no -0. Numbers without any
// bound: all of JSON's forms. Numbers with bounds: no exponent. At most the digits above.
// INVALID_ARGUMENT "multipleOf ..." when a modulus is too large. Empty when there are none.
absl::StatusOr<CharDfa> NumberDfa(const NumberBounds& bounds, DfaBudget& budget);

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_NUMBER_DFA_H_
