#include "engine/constraint/number_dfa.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "engine/constraint/regex.h"
#include "kernels/base/status.h"

namespace based {
namespace {

// A numeral without exponent that is read digit by digit.
enum class Phase : uint8_t { kStart, kSigned, kZero, kInteger, kPoint, kFraction };
struct Progress {
  Phase phase = Phase::kStart;
  bool negative = false;
  bool zero = true;          // no digit so far is another one
  uint8_t digits = 0;        // of the part in hand
  int8_t against_lower = 0;  // the digits so far against as many of the bound's: -1, 0, 1
  int8_t against_upper = 0;
  uint32_t remainder = 0;

  bool operator==(const Progress&) const = default;
  template <typename H>
  friend H AbslHashValue(H h, const Progress& p) {
    return H::combine(std::move(h), p.phase, p.negative, p.zero, p.digits, p.against_lower,
                      p.against_upper, p.remainder);
  }
};

// Integer parts of different length differ at once, whatever the digits are.
int8_t AtPoint(int8_t digits_so_far, size_t digits, const Decimal& bound) {
  if (digits != bound.integer.size()) return digits < bound.integer.size() ? -1 : 1;
  return digits_so_far;
}

class Numerals {
 public:
  Numerals(const NumberBounds& bounds, int64_t modulus, size_t places)
      : bounds_(bounds), modulus_(static_cast<uint32_t>(modulus)), places_(places) {
    most_integer_ = bounds.integer ? kMostIntegerDigits : kMostBoundedDigits;
    size_t digits = 1;
    if (bounds.lower) digits = std::max(digits, bounds.lower->value.integer.size());
    if (bounds.upper) digits = std::max(digits, bounds.upper->value.integer.size());
    const size_t left = kMostBoundedDigits - std::min<size_t>(digits, kMostBoundedDigits - 1);
    most_fraction_ = bounds.integer ? 0 : left;
    if (!bounds.multiples.empty()) most_fraction_ = std::min(most_fraction_, places);
  }

  // False: `c` ('0' to '9', '-' or '.') cannot follow.
  bool Read(char c, Progress& p) const {
    if (c == '-') {
      if (p.phase != Phase::kStart) return false;
      p.phase = Phase::kSigned;
      p.negative = true;
      return true;
    }
    if (c == '.') {
      if ((p.phase != Phase::kZero && p.phase != Phase::kInteger) || most_fraction_ == 0) {
        return false;
      }
      EndInteger(p);
      p.phase = Phase::kPoint;
      p.digits = 0;
      return true;
    }
    return ReadDigit(c, p);
  }

  bool Accepts(Progress p) const {
    if (p.phase == Phase::kStart || p.phase == Phase::kSigned || p.phase == Phase::kPoint) {
      return false;
    }
    if (p.negative && p.zero) return false;
    if (p.phase != Phase::kFraction) {
      EndInteger(p);
      p.digits = 0;
    }
    if (!bounds_.multiples.empty()) {
      uint64_t remainder = p.remainder;
      for (size_t i = p.digits; i < places_; ++i) remainder = remainder * 10 % modulus_;
      if (remainder != 0) return false;
    }
    return Holds(bounds_.lower, p.against_lower, p, 1) &&
           Holds(bounds_.upper, p.against_upper, p, -1);
  }

 private:
  using Bound = NumberBounds::Bound;

  bool ReadDigit(char c, Progress& p) const {
    if (p.phase == Phase::kZero) return false;
    const bool fraction = p.phase == Phase::kPoint || p.phase == Phase::kFraction;
    if (p.digits == (fraction ? most_fraction_ : most_integer_)) return false;
    Compare(bounds_.lower, c, p.digits, fraction, p.against_lower);
    Compare(bounds_.upper, c, p.digits, fraction, p.against_upper);
    if (fraction) {
      p.phase = Phase::kFraction;
    } else {
      p.phase = p.phase == Phase::kInteger || c != '0' ? Phase::kInteger : Phase::kZero;
    }
    ++p.digits;
    p.zero = p.zero && c == '0';
    p.remainder = static_cast<uint32_t>((uint64_t{p.remainder} * 10 + (c - '0')) % modulus_);
    return true;
  }

  static void Compare(const std::optional<Bound>& bound, char c, size_t at, bool fraction,
                      int8_t& against) {
    if (!bound || against != 0) return;
    const std::string& digits = fraction ? bound->value.fraction : bound->value.integer;
    const char other = at < digits.size() ? digits[at] : '0';
    against = static_cast<int8_t>(c < other ? -1 : c > other ? 1 : 0);
  }

  void EndInteger(Progress& p) const {
    if (bounds_.lower) {
      p.against_lower = AtPoint(p.against_lower, p.digits, bounds_.lower->value);
    }
    if (bounds_.upper) {
      p.against_upper = AtPoint(p.against_upper, p.digits, bounds_.upper->value);
    }
  }

  // Whether the number stands on the right side of `bound`: above (side 1) or below (side -1).
  bool Holds(const std::optional<Bound>& bound, int8_t against, const Progress& p, int side) const {
    if (!bound) return true;
    // The rest of the bound's fraction makes it larger; it ends in a digit that is not zero.
    if (against == 0 && p.digits < bound->value.fraction.size()) against = -1;
    int order = p.negative ? -against : against;
    if (bound->value.negative != p.negative) order = p.negative ? -1 : 1;
    return order == side || (order == 0 && !bound->exclusive);
  }

  const NumberBounds& bounds_;
  const uint32_t modulus_;
  const size_t places_;  // decimal places of which the modulus counts units
  size_t most_integer_;
  size_t most_fraction_;
};

constexpr std::string_view kCharacters = "-.0123456789";

// Columns: 0 for all other characters, then one for each of kCharacters, which are in order.
CharDfa WithoutStates() {
  std::vector<CharDfa::Interval> intervals = {{0, 0}};
  for (size_t i = 0; i < kCharacters.size(); ++i) {
    const auto character = static_cast<char32_t>(kCharacters[i]);
    intervals.push_back({character, static_cast<int32_t>(i) + 1});
    if (i + 1 == kCharacters.size() || kCharacters[i + 1] != kCharacters[i] + 1) {
      intervals.push_back({character + 1, 0});
    }
  }
  return CharDfa(std::move(intervals), static_cast<int32_t>(kCharacters.size()) + 1);
}

absl::StatusOr<CharDfa> Explore(const Numerals& numerals, DfaBudget& budget) {
  CharDfa result = WithoutStates();
  absl::flat_hash_map<Progress, int32_t> known;
  std::vector<Progress> states;
  const auto add = [&](const Progress& progress) {
    const auto [found, added] = known.try_emplace(progress, result.size());
    if (added) {
      states.push_back(progress);
      result.AddState(numerals.Accepts(progress));
    }
    return found->second;
  };
  add(Progress());
  for (size_t state = 0; state < states.size(); ++state) {
    BASED_RETURN_IF_ERROR(budget.Spend(1, result.columns()));
    for (size_t i = 0; i < kCharacters.size(); ++i) {
      Progress next = states[state];
      if (!numerals.Read(kCharacters[i], next)) continue;
      result.SetNext(static_cast<int32_t>(state), static_cast<int32_t>(i) + 1, add(next));
    }
  }
  return Minimize(result, budget);
}

// Units of the last decimal place of any of `multiples`, and of which number of them all are
// multiples of.
struct Modulus {
  int64_t value = 1;
  size_t places = 0;
};
absl::StatusOr<Modulus> ModulusOf(const std::vector<Decimal>& multiples) {
  Modulus modulus;
  for (const Decimal& multiple : multiples) {
    modulus.places = std::max(modulus.places, multiple.fraction.size());
  }
  for (const Decimal& multiple : multiples) {
    const std::optional<int64_t> units = multiple.Scaled(modulus.places);
    const bool fits = units && *units <= kMostModulus;
    if (fits) modulus.value = std::lcm(modulus.value, *units);
    if (!fits || modulus.value > kMostModulus) {
      return absl::InvalidArgumentError(absl::StrCat("multipleOf ", ToString(multiple),
                                                     " is more than ", kMostModulus,
                                                     " units of the last decimal place"));
    }
  }
  return modulus;
}

}  // namespace

void NumberBounds::RaiseLower(const Bound& bound) {
  if (!lower || lower->value < bound.value) lower = bound;
  if (lower->value == bound.value) lower->exclusive |= bound.exclusive;
}

void NumberBounds::DropUpper(const Bound& bound) {
  if (!upper || upper->value > bound.value) upper = bound;
  if (upper->value == bound.value) upper->exclusive |= bound.exclusive;
}

absl::StatusOr<CharDfa> NumberDfa(const NumberBounds& bounds, DfaBudget& budget) {
  if (!bounds.integer && !bounds.any()) {
    const std::string forms =
        absl::StrCat("-?(0|[1-9][0-9]{0,", kMostIntegerDigits - 1, "})(\\.[0-9]{1,",
                     kMostFractionDigits, "})?([eE][+-]?[0-9]{1,", kMostExponentDigits, "})?");
    return RegexDfa(forms, RegexMatch::kWhole, RegexLimits(), budget);
  }
  BASED_ASSIGN_OR_RETURN(const Modulus modulus, ModulusOf(bounds.multiples));
  return Explore(Numerals(bounds, modulus.value, modulus.places), budget);
}

}  // namespace based
