// OpenAI's request bodies turned into requests of the engine.
#ifndef BASED_SERVER_OPENAI_REQUEST_H_
#define BASED_SERVER_OPENAI_REQUEST_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model.h"
#include "engine/request.h"
#include "nlohmann/json.hpp"
#include "server/openai_chat.h"
#include "server/openai_error.h"

namespace based {

// What the mapping must know of the served model.
struct OpenAiModel {
  std::string name;
  bool has_tokenizer = true;
  ServedChatTemplate chat_template{nullptr};  // null: the plain one
  // Ends a reply, beside the model's own end of text: the template's end of turn.
  std::vector<int32_t> chat_stop_ids{};
};

OpenAiModel OpenAiModelOf(const Model& model, ServedChatTemplate chat_template);

struct OpenAiRequest {
  bool chat = false;
  std::vector<Request> requests;  // one per prompt; each returns its n completions
  bool stream = false;
  bool include_usage = false;
  bool logprobs = false;
  bool echo = false;
  bool token_ids = false;            // in the answer, beside its text
  std::vector<std::string> ignored;  // names of fields that mean nothing here
};

// The body as a JSON object. INVALID_ARGUMENT with the byte where it is not UTF-8 or not JSON, when
// it nests deeper than 64 levels, or naming what one of its objects holds twice: readers differ in
// which of the two counts.
absl::StatusOr<nlohmann::json> ParseBody(std::string_view body);

// Checks what the engine cannot see and copies the rest, which Engine::Submit checks; `raw` is the
// text of `body`; request_id and deadline stay as they are in Request{}. Messages name OpenAI's
// fields.
//   INVALID_ARGUMENT  a field has a wrong type or contradicts another
//   NOT_FOUND         `model` is not served
//   UNIMPLEMENTED     a field is refused by name, or chat by a template that cannot be used
absl::StatusOr<OpenAiRequest> ReadCompletion(const nlohmann::json& body, std::string_view raw,
                                             const OpenAiModel& model);
absl::StatusOr<OpenAiRequest> ReadChat(const nlohmann::json& body, std::string_view raw,
                                       const OpenAiModel& model);

}  // namespace based

#endif  // BASED_SERVER_OPENAI_REQUEST_H_
