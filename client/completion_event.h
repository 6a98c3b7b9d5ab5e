// What a load test needs of the JSON that an OpenAI-compatible server sends: of an event of a
// stream of completions, or of the body of a refusal.
#ifndef BASED_CLIENT_COMPLETION_EVENT_H_
#define BASED_CLIENT_COMPLETION_EVENT_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace based {

struct CompletionEvent {
  int32_t tokens = 0;   // ids in "token_ids" of all "choices"
  bool failed = false;  // there is an "error"
  std::string error_code, error_message;
};

// Builds no document: there are thousands of events a second. INVALID_ARGUMENT for what is not a
// JSON object.
absl::StatusOr<CompletionEvent> ReadCompletionEvent(std::string_view json);

}  // namespace based

#endif  // BASED_CLIENT_COMPLETION_EVENT_H_
