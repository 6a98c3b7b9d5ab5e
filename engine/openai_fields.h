// The fields of OpenAI's request bodies: which endpoint serves which, and typed access to them.
#ifndef BASED_ENGINE_OPENAI_FIELDS_H_
#define BASED_ENGINE_OPENAI_FIELDS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace based {

enum class OpenAiEndpoint : uint8_t { kCompletions = 1, kChat = 2, kTokenize = 4, kDetokenize = 8 };

// True for a field that the endpoint serves, or refuses by name.
bool IsOpenAiField(absl::string_view name, OpenAiEndpoint endpoint);

// Goes over the fields of `body` that are not null. UNIMPLEMENTED when one is refused by name and
// its value asks for something; names of fields that the endpoint does not know come back in
// `ignored`, and those of members of its objects ("stream_options.x").
absl::Status CheckOpenAiFields(const nlohmann::json& body, OpenAiEndpoint endpoint,
                               std::vector<std::string>& ignored);

// Typed access. Absent and null fields leave the target as it is. The first error sticks: read
// everything, then ask status() once. Messages read "<field> is <value>; expected <what>".
class OpenAiFields {
 public:
  // `object` must outlive this.
  explicit OpenAiFields(const nlohmann::json& object) : object_(object) {}

  // The value, or null where it is absent or JSON null.
  const nlohmann::json* Find(const std::string& name) const;

  void Read(const std::string& name, float& target);
  void Read(const std::string& name, int32_t& target);
  void Read(const std::string& name, int64_t& target);
  void Read(const std::string& name, bool& target);
  void Read(const std::string& name, std::string& target);
  void Read(const std::string& name, std::vector<int32_t>& target);
  // A string, or an array of strings.
  void ReadTexts(const std::string& name, std::vector<std::string>& target);

  void Wrong(const std::string& place, const nlohmann::json& value, absl::string_view expected);
  void Fail(absl::Status status);
  const absl::Status& status() const { return status_; }

 private:
  const nlohmann::json& object_;
  absl::Status status_;
};

// True and the value when `value` is an integer that fits.
bool JsonToInt32(const nlohmann::json& value, int32_t& target);

}  // namespace based

#endif  // BASED_ENGINE_OPENAI_FIELDS_H_
