#include "engine/constraint/decimal.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

#include "absl/strings/str_cat.h"

namespace based {
namespace {

std::strong_ordering CompareMagnitudes(const Decimal& a, const Decimal& b) {
  if (a.integer.size() != b.integer.size()) return a.integer.size() <=> b.integer.size();
  // Digits compare like text; a fraction that begins another one is smaller.
  if (const int order = a.integer.compare(b.integer); order != 0) return order <=> 0;
  return a.fraction.compare(b.fraction) <=> 0;
}

// "-12.5e-3" as to_chars writes it.
Decimal Parse(std::string_view text) {
  Decimal value;
  value.negative = text.starts_with("-");
  if (value.negative) text.remove_prefix(1);
  int exponent = 0;
  if (const size_t e = text.find('e'); e != std::string_view::npos) {
    std::string_view digits = text.substr(e + 1);
    if (digits.starts_with("+")) digits.remove_prefix(1);
    std::from_chars(digits.data(), digits.data() + digits.size(), exponent);
    text = text.substr(0, e);
  }
  const size_t point = std::min(text.find('.'), text.size());
  std::string digits(text.substr(0, point));
  if (point < text.size()) digits += text.substr(point + 1);
  // Where the point stands in `digits`, which gets zeros as far as it stands outside.
  auto place = static_cast<int64_t>(point) + exponent;
  if (place < 0) {
    digits.insert(0, static_cast<size_t>(-place), '0');
    place = 0;
  }
  if (static_cast<size_t>(place) > digits.size()) digits.resize(static_cast<size_t>(place), '0');
  value.integer = digits.substr(0, static_cast<size_t>(place));
  value.fraction = digits.substr(static_cast<size_t>(place));
  value.integer.erase(0, std::min(value.integer.find_first_not_of('0'), value.integer.size()));
  if (value.integer.empty()) value.integer = "0";
  value.fraction.erase(value.fraction.find_last_not_of('0') + 1);
  if (value.IsZero()) value.negative = false;
  return value;
}

}  // namespace

Decimal Decimal::Of(const nlohmann::ordered_json& number) {
  if (number.is_number_integer()) return Parse(number.dump());
  std::array<char, 64> text;
  const auto end = std::to_chars(text.data(), text.data() + text.size(), number.get<double>());
  return Parse(std::string_view(text.data(), static_cast<size_t>(end.ptr - text.data())));
}

std::optional<int64_t> Decimal::Scaled(size_t places) const {
  if (fraction.size() > places) return std::nullopt;
  int64_t value = 0;
  const std::string digits = integer + fraction + std::string(places - fraction.size(), '0');
  const std::errc error = std::from_chars(digits.data(), digits.data() + digits.size(), value).ec;
  if (error != std::errc()) return std::nullopt;
  return negative ? -value : value;
}

std::strong_ordering operator<=>(const Decimal& a, const Decimal& b) {
  if (a.negative != b.negative) {
    return a.negative ? std::strong_ordering::less : std::strong_ordering::greater;
  }
  return a.negative ? CompareMagnitudes(b, a) : CompareMagnitudes(a, b);
}

std::string ToString(const Decimal& value) {
  return absl::StrCat(value.negative ? "-" : "", value.integer, value.fraction.empty() ? "" : ".",
                      value.fraction);
}

}  // namespace based
