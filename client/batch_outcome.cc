#include "client/batch_outcome.h"

#include <algorithm>
#include <cstddef>
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

Json StopReasonOf(const BatchOutcome::Choice& choice) {
  switch (choice.finish_reason) {
    case v1::FINISH_REASON_STOP_STRING:
      return choice.stop_string;
    case v1::FINISH_REASON_STOP_TOKEN:
      return choice.stop_token_id;
    default:
      return nullptr;
  }
}

// Of the completion alone.
std::vector<int32_t> TokenIdsOf(const BatchLine& line, const BatchOutcome& outcome,
                                const BatchOutcome::Choice& choice) {
  const size_t prompt =
      line.request.output().echo() ? static_cast<size_t>(outcome.prompt_tokens) : 0;
  const size_t skipped = std::min(prompt, choice.token_ids.size());
  return {choice.token_ids.begin() + static_cast<std::ptrdiff_t>(skipped), choice.token_ids.end()};
}

Json CompletionOf(const BatchResultFrame& frame, const BatchLine& line,
                  const BatchOutcome& outcome) {
  const bool chat = line.form == BatchForm::kChat;
  const bool token_ids = line.return_token_ids.value_or(!frame.has_tokenizer);
  Json choices = Json::array();
  for (size_t i = 0; i < outcome.choices.size(); ++i) {
    const BatchOutcome::Choice& choice = outcome.choices[i];
    Json entry = {{"index", i}};
    if (chat) {
      entry["message"] = {{"role", "assistant"}, {"content", choice.text}, {"refusal", nullptr}};
    } else {
      entry["text"] = choice.text;
    }
    if (token_ids) entry["token_ids"] = TokenIdsOf(line, outcome, choice);
    entry["logprobs"] = nullptr;
    entry["finish_reason"] = FinishReasonOf(choice.finish_reason);
    entry["stop_reason"] = StopReasonOf(choice);
    choices.push_back(std::move(entry));
  }
  return {{"id", absl::StrCat(chat ? "chatcmpl-" : "cmpl-", outcome.request_id)},
          {"object", chat ? "chat.completion" : "text_completion"},
          {"created", frame.created},
          {"model", frame.model},
          {"system_fingerprint", frame.fingerprint},
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
