// JSON from foreign files, parsed so that no input can crash or confuse the reader: nesting is
// limited, duplicate keys are refused, and parse errors become a Status with path and byte.
#ifndef BASED_ENGINE_JSON_FILE_H_
#define BASED_ENGINE_JSON_FILE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace based {

// Most bytes of a JSON text that is read whole (config.json, a shard index, a safetensors header).
inline constexpr int64_t kMaxJsonBytes = 16 << 20;

// Reads a regular file. NOT_FOUND when it is not there, INVALID_ARGUMENT when it is no regular file
// or longer than `max_bytes`.
absl::StatusOr<std::string> ReadWholeFile(const std::string& path, int64_t max_bytes);

// Parses `text`, whose outermost value must be an object; arrays and objects may nest `max_depth`
// deep, the outermost counted. INVALID_ARGUMENT names `path` and the place.
absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view text, const std::string& path,
                                               int max_depth);

// A short rendering of any value for messages, cut to about 60 characters.
std::string JsonExcerpt(const nlohmann::json& value);

}  // namespace based

#endif  // BASED_ENGINE_JSON_FILE_H_
