// Typed access to the fields of one JSON object. The first error sticks: read everything, then ask
// status() once. Messages read "<path>: <prefix><field> is <value>, expected <what>".
#ifndef BASED_ENGINE_JSON_FIELDS_H_
#define BASED_ENGINE_JSON_FIELDS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "nlohmann/json.hpp"

namespace based {

class JsonFields {
 public:
  // `object` must outlive this. `prefix` stands before field names in messages ("alt_mixer.").
  JsonFields(const nlohmann::json& object, const std::string& path, std::string prefix)
      : object_(object), path_(path), prefix_(std::move(prefix)) {}

  // The value, or null where the field is absent or JSON null (which mean the same throughout).
  const nlohmann::json* Find(const std::string& field) const;

  // Required integer in [low, high]; 0 after an error.
  int32_t Int(const std::string& field, int32_t low, int32_t high);
  int32_t IntOr(const std::string& field, int32_t low, int32_t high, int32_t fallback);
  // A finite number in [low, high].
  double NumberOr(const std::string& field, double low, double high, double fallback);
  bool BoolOr(const std::string& field, bool fallback);
  std::string String(const std::string& field);  // required
  std::string StringOr(const std::string& field, std::string fallback);
  // An array of integers in [low, high]; empty when absent.
  std::vector<int32_t> IntsOr(const std::string& field, int32_t low, int32_t high);
  // A nested object, or null when absent.
  const nlohmann::json* Object(const std::string& field);

  // Records that `field` is absent, or holds what it should not.
  void Missing(const std::string& field, const std::string& expected);
  void Wrong(const std::string& field, const nlohmann::json& value, const std::string& expected);

  const absl::Status& status() const { return status_; }

 private:
  std::optional<int32_t> ReadInt(const std::string& field, const nlohmann::json& value, int32_t low,
                                 int32_t high);

  const nlohmann::json& object_;
  const std::string path_;
  const std::string prefix_;
  absl::Status status_;
};

}  // namespace based

#endif  // BASED_ENGINE_JSON_FIELDS_H_
