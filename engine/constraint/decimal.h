// Decimal numbers of a JSON document, exactly.
#ifndef BASED_ENGINE_CONSTRAINT_DECIMAL_H_
#define BASED_ENGINE_CONSTRAINT_DECIMAL_H_

#include <compare>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace based {

struct Decimal {
  bool negative = false;      // never of zero
  std::string integer = "0";  // digits without leading zeros; "0" below one
  std::string fraction;       // digits without trailing zeros

  bool IsZero() const { return integer == "0" && fraction.empty(); }
  bool IsInteger() const { return fraction.empty(); }

  // The number's shortest decimal form; `number` is a finite JSON number.
  static Decimal Of(const nlohmann::ordered_json& number);
  // The value times 10^places when that is an integer below 2^63.
  std::optional<int64_t> Scaled(size_t places) const;
};

std::strong_ordering operator<=>(const Decimal& a, const Decimal& b);
inline bool operator==(const Decimal& a, const Decimal& b) { return (a <=> b) == 0; }

// As it stands in JSON, without an exponent.
std::string ToString(const Decimal& value);

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_DECIMAL_H_
