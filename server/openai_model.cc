#include "server/openai_model.h"

#include <utility>

#include "kernels/base/status.h"
#include "server/convert.h"

namespace based {
namespace {

absl::StatusOr<OpenAiRequest> Read(const nlohmann::json& body, std::string_view raw,
                                   OpenAiEndpoint endpoint, const OpenAiModel& model) {
  BASED_ASSIGN_OR_RETURN(OpenAiRequest call, ReadOpenAiRequest(body, raw, endpoint));
  BASED_RETURN_IF_ERROR(BindToModel(model, call));
  return call;
}

}  // namespace

OpenAiModel OpenAiModelOf(const Model& model, ChatFormat chat) {
  return {.name = model.name, .has_tokenizer = model.tokenizer != nullptr, .chat = std::move(chat)};
}

absl::Status BindToModel(const OpenAiModel& model, OpenAiRequest& call) {
  BASED_RETURN_IF_ERROR(CheckModelName(call.model, model.name));
  if (call.chat) {
    if (!model.has_tokenizer) {
      return absl::FailedPreconditionError(
          "messages are text and the model has no tokenizer; use /v1/completions with token ids, "
          "or start the daemon with --tokenizer");
    }
    BASED_RETURN_IF_ERROR(SetChatPrompt(call.messages, model.chat, call.requests[0]));
  }
  call.token_ids = call.return_token_ids.value_or(!model.has_tokenizer);
  for (Request& request : call.requests) {
    request.output.text = model.has_tokenizer;
    request.output.token_ids |= call.token_ids;
  }
  return absl::OkStatus();
}

absl::StatusOr<OpenAiRequest> ReadCompletion(const nlohmann::json& body, std::string_view raw,
                                             const OpenAiModel& model) {
  return Read(body, raw, OpenAiEndpoint::kCompletions, model);
}

absl::StatusOr<OpenAiRequest> ReadChat(const nlohmann::json& body, std::string_view raw,
                                       const OpenAiModel& model) {
  return Read(body, raw, OpenAiEndpoint::kChat, model);
}

}  // namespace based
