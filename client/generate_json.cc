#include "client/generate_json.h"

#include <charconv>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace based {
namespace {

using Json = nlohmann::ordered_json;

// The double that prints as briefly as the float.
double Brief(float value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof(text), value).ptr;
  double brief = 0;
  std::from_chars(text, end, brief);
  return brief;
}

Json Tokens(const std::vector<TokenEvent>& tokens) {
  Json list = Json::array();
  for (const TokenEvent& token : tokens) {
    Json alternatives = Json::array();
    for (const auto& [id, logprob] : token.alternatives) {
      alternatives.push_back({{"token_id", id}, {"logprob", Brief(logprob)}});
    }
    list.push_back({{"token_id", token.token_id},
                    {"logprob", Brief(token.logprob)},
                    {"alternatives", std::move(alternatives)}});
  }
  return list;
}

Json Message(const StartedEvent& event) {
  return {{"started",
           {{"request_id", event.request_id},
            {"seed", absl::StrCat(event.seed)},
            {"prompt_tokens", absl::StrCat(event.prompt_tokens)},
            {"reused_tokens", absl::StrCat(event.reused_tokens)},
            {"predicted_wait_ms", absl::StrCat(event.predicted_wait_ms)}}}};
}

Json Message(const DeltaEvent& event) {
  return {{"delta",
           {{"index", event.index},
            {"text", event.text},
            {"token_ids", event.token_ids},
            {"logprobs", Tokens(event.logprobs)},
            {"prompt_logprobs", Tokens(event.prompt_logprobs)}}}};
}

Json Message(const DoneEvent& event) {
  Json done = {{"index", event.index}, {"finish_reason", event.finish_reason}};
  if (event.stop_string.has_value()) done["stop_string"] = absl::Base64Escape(*event.stop_string);
  if (event.stop_token_id.has_value()) done["stop_token_id"] = *event.stop_token_id;
  done["usage"] = {{"prompt_tokens", absl::StrCat(event.usage.prompt_tokens)},
                   {"generated_tokens", absl::StrCat(event.usage.generated_tokens)},
                   {"reused_tokens", absl::StrCat(event.usage.reused_tokens)}};
  done["timings"] = {{"queue_us", absl::StrCat(event.timings.queue_us)},
                     {"prefill_us", absl::StrCat(event.timings.prefill_us)},
                     {"decode_us", absl::StrCat(event.timings.decode_us)},
                     {"prefill_tokens", absl::StrCat(event.timings.prefill_tokens)},
                     {"decode_tokens", absl::StrCat(event.timings.decode_tokens)}};
  done["snapshot"] = event.snapshot;
  done["cumulative_logprob"] = event.cumulative_logprob;
  done["session_tokens"] = absl::StrCat(event.session_tokens);
  done["seed"] = absl::StrCat(event.seed);
  return {{"done", std::move(done)}};
}

}  // namespace

std::string ToJson(const GenerateEvent& event) {
  const Json message = std::visit([](const auto& of_kind) { return Message(of_kind); }, event);
  // Text is UTF-8; what is not (there is none) would be replaced rather than thrown at.
  return message.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace based
