#include "client/batch_result.h"

#include <fcntl.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"
#include "nlohmann/json.hpp"

namespace based {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMaxResultBytes = int64_t{1} << 30;

const char* FinishReasonOf(v1::FinishReason reason) {
  return reason == v1::FINISH_REASON_MAX_TOKENS ? "length" : "stop";
}

Json UsageOf(const BatchOutcome& outcome) {
  return {{"prompt_tokens", outcome.prompt_tokens},
          {"completion_tokens", outcome.generated_tokens},
          {"total_tokens", outcome.prompt_tokens + outcome.generated_tokens}};
}

Json BodyOf(const BatchResultFrame& frame, const BatchLine& line, const BatchOutcome& outcome) {
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
          {"usage", UsageOf(outcome)}};
}

void AddPlain(const BatchOutcome& outcome, Json& result) {
  for (size_t i = 0; i < outcome.choices.size(); ++i) {
    const BatchOutcome::Choice& choice = outcome.choices[i];
    Json& target = i == 0 ? result : result["others"].emplace_back();
    target["text"] = choice.text;
    if (!choice.token_ids.empty()) target["token_ids"] = choice.token_ids;
    target["finish_reason"] = FinishReasonOf(choice.finish_reason);
  }
  result["usage"] = UsageOf(outcome);
}

}  // namespace

std::string BatchResultId(const std::string& input, int32_t line) {
  return absl::StrCat("batch_req_", input, "_", line);
}

std::string BatchResultJson(const BatchResultFrame& frame, const BatchLine& line, int32_t number,
                            const BatchOutcome& outcome) {
  // "id" comes first: IsOutputOf looks for it at the beginning of the line.
  Json result = {{"id", BatchResultId(frame.input, number)}};
  const bool plain = line.form == BatchForm::kPlain;
  if (plain) result["line"] = number;
  if (!line.custom_id.empty()) result["custom_id"] = line.custom_id;
  if (plain && outcome.status.ok()) {
    AddPlain(outcome, result);
  } else if (outcome.status.ok()) {
    result["response"] = {{"status_code", 200},
                          {"request_id", outcome.request_id},
                          {"body", BodyOf(frame, line, outcome)}};
  } else if (!plain) {
    result["response"] = nullptr;
  }
  if (outcome.status.ok()) {
    result["error"] = nullptr;
  } else {
    result["error"] = {{"code", absl::StatusCodeToString(outcome.status.code())},
                       {"message", std::string(outcome.status.message())}};
  }
  return result.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

absl::StatusOr<bool> IsOutputOf(const std::string& output, const BatchPlan& plan) {
  BASED_ASSIGN_OR_RETURN(const FileDescriptor file, OpenFile(output, O_RDONLY));
  LineReader reader(file.get(), output, kMaxResultBytes);
  for (const BatchEntry& entry : plan.entries()) {
    BASED_ASSIGN_OR_RETURN(const bool more, reader.Next());
    const std::string begin =
        absl::StrCat("{\"id\":\"", BatchResultId(plan.digest(), entry.line), "\",");
    if (!more || !absl::StartsWith(reader.line(), begin)) return false;
  }
  BASED_ASSIGN_OR_RETURN(const bool more, reader.Next());
  return !more;
}

}  // namespace based
