// Typed access to an untrusted JSON document; every error says where and what was expected.
#ifndef BASED_ENGINE_JSON_READER_H_
#define BASED_ENGINE_JSON_READER_H_

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace based::json_reader {

using Json = nlohmann::json;

// What an object means in which a name comes twice.
enum class RepeatedNames { kLastCounts, kRefused };

// INVALID_ARGUMENT with the byte offset when `text` is not JSON, when it nests deeper than 64
// levels, or naming what comes twice where that is refused.
absl::StatusOr<Json> Parse(std::string_view text,
                           RepeatedNames repeated = RepeatedNames::kLastCounts);

// The member `key` of `object`; a JSON null when it is absent. `object` is an object.
const Json& Member(const Json& object, const std::string& key);

// INVALID_ARGUMENT "place: is a string, expected ..." when `value` has another type.
absl::Status ExpectObject(const Json& value, const std::string& place);
absl::Status ExpectArray(const Json& value, const std::string& place);
absl::StatusOr<std::string> String(const Json& value, const std::string& place);

// Members with a default for absent and null.
absl::StatusOr<bool> Bool(const Json& object, const std::string& key, bool fallback,
                          const std::string& place);
absl::StatusOr<std::string> String(const Json& object, const std::string& key,
                                   const std::string& fallback, const std::string& place);

// An integer in [0, limit).
absl::StatusOr<int32_t> Id(const Json& value, int64_t limit, const std::string& place);

}  // namespace based::json_reader

#endif  // BASED_ENGINE_JSON_READER_H_
