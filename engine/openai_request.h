// OpenAI's request bodies turned into requests of the engine, as far as the body alone says: what
// the served model must say is left to whoever knows it.
#ifndef BASED_ENGINE_OPENAI_REQUEST_H_
#define BASED_ENGINE_OPENAI_REQUEST_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/chat.h"
#include "engine/openai_names.h"
#include "engine/request.h"
#include "nlohmann/json.hpp"

namespace based {

struct OpenAiRequest {
  OpenAiNames names;
  std::string model;  // that it asks for; empty: any
  bool chat = false;
  ChatAsk messages;               // of a chat: the prompt that its request lacks
  std::vector<Request> requests;  // one per prompt; each returns its n completions
  bool stream = false;
  bool include_usage = false;
  bool logprobs = false;
  bool echo = false;
  std::optional<bool> return_token_ids;  // whether token ids were asked for
  bool token_ids = false;                // in the answer, beside its text
  std::vector<std::string> ignored;      // names of fields that mean nothing here
};

// The body as a JSON object. INVALID_ARGUMENT with the byte where it is not UTF-8 or not JSON, when
// it nests deeper than 64 levels, or naming what one of its objects holds twice: readers differ in
// which of the two counts.
absl::StatusOr<nlohmann::json> ParseBody(std::string_view body);

// Checks what the engine cannot see and copies the rest, which Engine::Submit checks; `raw` is the
// text of `body`, `endpoint` kCompletions or kChat; request_id and deadline stay as they are in
// Request{}. Messages name OpenAI's fields.
//   INVALID_ARGUMENT  a field has a wrong type or contradicts another
//   UNIMPLEMENTED     a field is refused by name
absl::StatusOr<OpenAiRequest> ReadOpenAiRequest(const nlohmann::json& body, std::string_view raw,
                                                OpenAiEndpoint endpoint);

}  // namespace based

#endif  // BASED_ENGINE_OPENAI_REQUEST_H_
