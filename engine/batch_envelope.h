// What surrounds the request on a line of a batch: OpenAI's batch form, or the plain form.
//
//   {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "..."}}
//   {"custom_id": "b", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": []}}
//   {"prompt": "...", "max_tokens": 64}
#ifndef BASED_ENGINE_BATCH_ENVELOPE_H_
#define BASED_ENGINE_BATCH_ENVELOPE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace based {

// Most bytes of a line: the daemon's limit of a message.
inline constexpr int64_t kMaxBatchLineBytes = 16 << 20;

enum class BatchForm : uint8_t { kCompletion, kChat, kPlain };

struct BatchEnvelope {
  BatchForm form = BatchForm::kPlain;
  std::string custom_id;  // may be empty in the plain form alone
  nlohmann::json body;    // an object; of the plain form the line itself
  // Its text, which has the order of the keys; points into the line, and in the plain form is it.
  absl::string_view raw;
  std::vector<std::string> ignored;  // members of the line around the body that mean nothing
};

// `place` ("in.jsonl:17") begins every message. INVALID_ARGUMENT for what is not UTF-8, not a JSON
// object, or neither form, naming the field, what it holds and what was expected.
absl::StatusOr<BatchEnvelope> ParseBatchEnvelope(absl::string_view text, const std::string& place);

}  // namespace based

#endif  // BASED_ENGINE_BATCH_ENVELOPE_H_
