#include "engine/json_reader.h"

#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace based::json_reader {
namespace {

constexpr int kMaxDepth = 64;
constexpr size_t kLongestName = 60;  // bytes of it in a message

absl::Status WrongType(const Json& value, const char* expected, const std::string& place) {
  return absl::InvalidArgumentError(
      absl::StrCat(place, ": is ", value.type_name(), ", expected ", expected));
}

}  // namespace

absl::StatusOr<Json> Parse(std::string_view text, RepeatedNames repeated) {
  std::string fault;
  std::vector<absl::flat_hash_set<std::string>> names;  // of the object open at each depth
  const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    if (!fault.empty()) return false;
    if (depth > kMaxDepth) {
      fault = absl::StrFormat("nests deeper than %d levels", kMaxDepth);
    } else if (repeated == RepeatedNames::kLastCounts) {
      return true;
    } else if (event == Json::parse_event_t::object_start) {
      names.resize(static_cast<size_t>(depth) + 1);
      names.emplace_back();
    } else if (event == Json::parse_event_t::key &&
               !names[static_cast<size_t>(depth)].insert(value.get<std::string>()).second) {
      fault = absl::StrFormat("has the name %s twice in one object, expected it once",
                              value.dump(-1, ' ', /*ensure_ascii=*/true).substr(0, kLongestName));
    }
    return fault.empty();
  };
  try {
    Json document = Json::parse(text.begin(), text.end(), watch);
    if (!fault.empty()) return absl::InvalidArgumentError(fault);
    return document;
  } catch (const Json::parse_error& error) {
    return absl::InvalidArgumentError(absl::StrFormat("byte %d: not JSON", error.byte));
  } catch (const Json::exception& error) {  // a number that no double holds
    return absl::InvalidArgumentError(error.what());
  }
}

const Json& Member(const Json& object, const std::string& key) {
  static const Json null;
  const auto it = object.find(key);
  return it == object.end() ? null : *it;
}

absl::Status ExpectObject(const Json& value, const std::string& place) {
  return value.is_object() ? absl::OkStatus() : WrongType(value, "an object", place);
}

absl::Status ExpectArray(const Json& value, const std::string& place) {
  return value.is_array() ? absl::OkStatus() : WrongType(value, "an array", place);
}

absl::StatusOr<std::string> String(const Json& value, const std::string& place) {
  if (!value.is_string()) return WrongType(value, "a string", place);
  return value.get<std::string>();
}

absl::StatusOr<bool> Bool(const Json& object, const std::string& key, bool fallback,
                          const std::string& place) {
  const Json& value = Member(object, key);
  if (value.is_null()) return fallback;
  if (!value.is_boolean()) return WrongType(value, "true or false", absl::StrCat(place, ".", key));
  return value.get<bool>();
}

absl::StatusOr<std::string> String(const Json& object, const std::string& key,
                                   const std::string& fallback, const std::string& place) {
  const Json& value = Member(object, key);
  if (value.is_null()) return fallback;
  return String(value, absl::StrCat(place, ".", key));
}

absl::StatusOr<int32_t> Id(const Json& value, int64_t limit, const std::string& place) {
  if (!value.is_number_integer()) return WrongType(value, "an integer", place);
  // Above int64, get<int64_t> would wrap around.
  const bool fits =
      !value.is_number_unsigned() || value.get<uint64_t>() < static_cast<uint64_t>(limit);
  const int64_t id = fits ? value.get<int64_t>() : -1;
  if (id < 0 || id >= limit) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: is %s, expected an id in [0, %d)", place, value.dump(), limit));
  }
  return static_cast<int32_t>(id);
}

}  // namespace based::json_reader
