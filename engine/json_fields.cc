#include "engine/json_fields.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "engine/json_file.h"

namespace based {

using Json = nlohmann::json;

const Json* JsonFields::Find(const std::string& field) const {
  const auto found = object_.find(std::string(field));
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void JsonFields::Missing(const std::string& field, const std::string& expected) {
  status_.Update(absl::InvalidArgumentError(
      absl::StrCat(path_, ": ", prefix_, field, " is missing, expected ", expected)));
}

void JsonFields::Wrong(const std::string& field, const Json& value, const std::string& expected) {
  status_.Update(absl::InvalidArgumentError(absl::StrCat(
      path_, ": ", prefix_, field, " is ", JsonExcerpt(value), ", expected ", expected)));
}

std::optional<int32_t> JsonFields::ReadInt(const std::string& field, const Json& value, int32_t low,
                                           int32_t high) {
  // A number above 2^63 is unsigned and must not wrap into range.
  const bool fits = value.is_number_integer() &&
                    (!value.is_number_unsigned() || value.get<uint64_t>() <= uint64_t{INT64_MAX});
  if (fits && value.get<int64_t>() >= low && value.get<int64_t>() <= high) {
    return static_cast<int32_t>(value.get<int64_t>());
  }
  Wrong(field, value, absl::StrCat("an integer in [", low, ", ", high, "]"));
  return std::nullopt;
}

int32_t JsonFields::Int(const std::string& field, int32_t low, int32_t high) {
  const Json* value = Find(field);
  if (value == nullptr) {
    Missing(field, absl::StrCat("an integer in [", low, ", ", high, "]"));
    return 0;
  }
  return ReadInt(field, *value, low, high).value_or(0);
}

int32_t JsonFields::IntOr(const std::string& field, int32_t low, int32_t high, int32_t fallback) {
  const Json* value = Find(field);
  return value == nullptr ? fallback : ReadInt(field, *value, low, high).value_or(fallback);
}

double JsonFields::NumberOr(const std::string& field, double low, double high, double fallback) {
  const Json* value = Find(field);
  if (value == nullptr) return fallback;
  const double number = value->is_number() ? value->get<double>() : NAN;
  if (number >= low && number <= high) return number;
  Wrong(field, *value, absl::StrCat("a number in [", low, ", ", high, "]"));
  return fallback;
}

bool JsonFields::BoolOr(const std::string& field, bool fallback) {
  const Json* value = Find(field);
  if (value == nullptr) return fallback;
  if (value->is_boolean()) return value->get<bool>();
  Wrong(field, *value, "true or false");
  return fallback;
}

std::string JsonFields::String(const std::string& field) {
  if (Find(field) == nullptr) Missing(field, "a string");
  return StringOr(field, "");
}

std::string JsonFields::StringOr(const std::string& field, std::string fallback) {
  const Json* value = Find(field);
  if (value == nullptr) return fallback;
  if (value->is_string()) return value->get<std::string>();
  Wrong(field, *value, "a string");
  return fallback;
}

std::vector<int32_t> JsonFields::IntsOr(const std::string& field, int32_t low, int32_t high) {
  std::vector<int32_t> ints;
  const Json* value = Find(field);
  if (value == nullptr) return ints;
  if (!value->is_array()) {
    Wrong(field, *value, "an array of integers");
    return ints;
  }
  for (size_t i = 0; i < value->size(); ++i) {
    ints.push_back(ReadInt(absl::StrCat(field, "[", i, "]"), (*value)[i], low, high).value_or(low));
  }
  return ints;
}

const Json* JsonFields::Object(const std::string& field) {
  const Json* value = Find(field);
  if (value == nullptr || value->is_object()) return value;
  Wrong(field, *value, "an object");
  return nullptr;
}

}  // namespace based
