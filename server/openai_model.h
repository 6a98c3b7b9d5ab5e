// What OpenAI's requests must be told of the served model.
#ifndef BASED_SERVER_OPENAI_MODEL_H_
#define BASED_SERVER_OPENAI_MODEL_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/chat.h"
#include "engine/model.h"
#include "engine/openai_request.h"
#include "nlohmann/json.hpp"

namespace based {

struct OpenAiModel {
  std::string name;
  bool has_tokenizer = true;
  ChatFormat chat{};
};

OpenAiModel OpenAiModelOf(const Model& model, ChatFormat chat);

// Makes what ReadOpenAiRequest has read a request for `model`: sets the prompt of a chat and what
// is in the answer.
//   INVALID_ARGUMENT     the messages cannot be rendered
//   NOT_FOUND            `model` is not served
//   UNIMPLEMENTED        chat by a template that cannot be used
//   FAILED_PRECONDITION  chat, and the model has no tokenizer
absl::Status BindToModel(const OpenAiModel& model, OpenAiRequest& call);

// ReadOpenAiRequest and BindToModel, with the errors of both.
absl::StatusOr<OpenAiRequest> ReadCompletion(const nlohmann::json& body, std::string_view raw,
                                             const OpenAiModel& model);
absl::StatusOr<OpenAiRequest> ReadChat(const nlohmann::json& body, std::string_view raw,
                                       const OpenAiModel& model);

}  // namespace based

#endif  // BASED_SERVER_OPENAI_MODEL_H_
