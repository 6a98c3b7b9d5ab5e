#include "client/batch_outcome.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/batch_result.h"
#include "nlohmann/json.hpp"

namespace based {
namespace {

using Json = nlohmann::ordered_json;

const char* FinishReasonOf(v1::FinishReason reason) {
  return reason == v1::FINISH_REASON_MAX_TOKENS ? "length" : "stop";
}

Json CompletionOf(const BatchResultFrame& frame, const BatchLine& line,
                  const BatchOutcome& outcome) {
  const bool chat = line.form == BatchForm::kChat;
  Json choices = Json::array();
  for (size_t i = 0; i < outcome.choices.size(); ++i) {
    const BatchOutcome::Choice& choice = outcome.choices[i];
    Json entry = {{"index", i}};
    if (chat) {
      entry["message"] = {{"role", "assistant"}, {"content", choice.text}};
    } else {
      entry["text"] = choice.text;
    }
    if (!choice.token_ids.empty()) entry["token_ids"] = choice.token_ids;
    entry["logprobs"] = nullptr;
    entry["finish_reason"] = FinishReasonOf(choice.finish_reason);
    choices.push_back(std::move(entry));
  }
  return {{"id", absl::StrCat(chat ? "chatcmpl-" : "cmpl-", outcome.request_id)},
          {"object", chat ? "chat.completion" : "text_completion"},
          {"created", frame.created},
          {"model", frame.model},
          {"choices", std::move(choices)},
          {"usage",
           {{"prompt_tokens", outcome.prompt_tokens},
            {"completion_tokens", outcome.generated_tokens},
            {"total_tokens", outcome.prompt_tokens + outcome.generated_tokens}}}};
}

}  // namespace

std::string BatchOutcomeJson(const BatchResultFrame& frame, const BatchLine& line, int32_t number,
                             const BatchOutcome& outcome) {
  const BatchResultHead head = {
      .input = frame.input, .line = number, .form = line.form, .custom_id = line.custom_id};
  if (!outcome.status.ok()) return BatchErrorJson(head, outcome.status);
  return BatchResultJson(head, outcome.request_id, CompletionOf(frame, line, outcome));
}

}  // namespace based
