#include "engine/batch_ask.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"

namespace based {
namespace {

using Json = nlohmann::json;

constexpr int64_t kPlainMaxTokens = 256;  // as in based.v1

// The plain form has the names and defaults of based.v1.
void PlainToOpenAi(Json& body) {
  if (body.value("max_tokens", Json()).is_null()) body["max_tokens"] = kPlainMaxTokens;
}

void RenameIncludeStop(Json& body) {
  const auto found = body.find("include_stop");
  if (found == body.end()) return;
  body["include_stop_str_in_output"] = std::move(*found);
  body.erase("include_stop");
}

}  // namespace

int32_t BatchAsk::sequences() const {
  int32_t sequences = 0;
  for (const Request& one : request.requests) {
    sequences += std::max({int32_t{1}, one.n, one.best_of});
  }
  return sequences;
}

BatchLineFacts BatchAsk::Facts() const {
  BatchLineFacts facts = {.custom_id = custom_id, .model = request.model, .sequences = sequences()};
  // Tells chats apart as well as what they are rendered to.
  const std::string chat = request.chat ? request.messages.messages.dump() : "";
  for (const Request& one : request.requests) {
    const std::string& text = request.chat ? chat : one.prompt_text;
    const float tokens = one.prompt_is_text ? GuessTokens(text.size())
                                            : static_cast<float>(one.prompt_token_ids.size());
    facts.work = std::max(facts.work, ExpectedBatchWork(tokens, one.stop.max_tokens));
    if (&one != &request.requests[0]) continue;
    facts.prefix = one.prompt_is_text ? BatchPrefix(text.data(), text.size())
                                      : BatchPrefix(one.prompt_token_ids.data(),
                                                    one.prompt_token_ids.size() * sizeof(int32_t));
  }
  return facts;
}

absl::StatusOr<BatchAsk> ReadBatchAsk(absl::string_view text, const std::string& place) {
  BASED_ASSIGN_OR_RETURN(BatchEnvelope envelope, ParseBatchEnvelope(text, place));
  BatchAsk ask{.form = envelope.form, .custom_id = std::move(envelope.custom_id)};
  if (ask.form == BatchForm::kPlain) PlainToOpenAi(envelope.body);
  RenameIncludeStop(envelope.body);
  const auto endpoint =
      ask.form == BatchForm::kChat ? OpenAiEndpoint::kChat : OpenAiEndpoint::kCompletions;
  absl::StatusOr<OpenAiRequest> request = ReadOpenAiRequest(
      envelope.body, std::string_view(envelope.raw.data(), envelope.raw.size()), endpoint);
  absl::Status status = request.status();
  if (status.ok() && request->stream) {
    status = absl::InvalidArgumentError("stream is true; expected false in a batch");
  }
  if (!status.ok()) {
    return absl::Status(status.code(), absl::StrCat(place, ": ", status.message()));
  }
  ask.request = *std::move(request);
  ask.request.ignored.insert(ask.request.ignored.end(), envelope.ignored.begin(),
                             envelope.ignored.end());
  for (Request& one : ask.request.requests) one.priority = Priority::kBatch;
  return ask;
}

}  // namespace based
