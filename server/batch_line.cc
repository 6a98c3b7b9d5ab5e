#include "server/batch_line.h"

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

int32_t BatchJobLine::sequences() const {
  int32_t sequences = 0;
  for (const Request& one : request.requests) {
    sequences += std::max({int32_t{1}, one.n, one.best_of});
  }
  return sequences;
}

absl::StatusOr<BatchJobLine> ReadBatchJobLine(absl::string_view text, const std::string& place,
                                              const OpenAiModel& model) {
  BASED_ASSIGN_OR_RETURN(BatchEnvelope envelope, ParseBatchEnvelope(text, place));
  BatchJobLine line{.form = envelope.form, .custom_id = std::move(envelope.custom_id)};
  if (line.form == BatchForm::kPlain) PlainToOpenAi(envelope.body);
  RenameIncludeStop(envelope.body);
  const std::string_view raw(envelope.raw.data(), envelope.raw.size());
  absl::StatusOr<OpenAiRequest> request = line.form == BatchForm::kChat
                                              ? ReadChat(envelope.body, raw, model)
                                              : ReadCompletion(envelope.body, raw, model);
  absl::Status status = request.status();
  if (status.ok() && request->stream) {
    status = absl::InvalidArgumentError("stream is true; expected false in a batch");
  }
  if (!status.ok()) {
    return absl::Status(status.code(), absl::StrCat(place, ": ", status.message()));
  }
  line.request = *std::move(request);
  line.request.ignored.insert(line.request.ignored.end(), envelope.ignored.begin(),
                              envelope.ignored.end());
  for (Request& one : line.request.requests) one.priority = Priority::kBatch;
  return line;
}

absl::StatusOr<BatchLineFacts> FactsOfBatchJobLine(absl::string_view text, const std::string& place,
                                                   const OpenAiModel& model,
                                                   std::set<std::string>& ignored) {
  BASED_ASSIGN_OR_RETURN(const BatchJobLine line, ReadBatchJobLine(text, place, model));
  for (const std::string& name : line.request.ignored) {
    if (ignored.size() < kMostIgnoredFields) ignored.insert(name);
  }
  BatchLineFacts facts = {.custom_id = line.custom_id, .sequences = line.sequences()};
  const Request& first = line.request.requests[0];
  for (const Request& one : line.request.requests) {
    const float tokens = one.prompt_is_text ? GuessTokens(one.prompt_text.size())
                                            : static_cast<float>(one.prompt_token_ids.size());
    facts.work = std::max(facts.work, ExpectedBatchWork(tokens, one.stop.max_tokens));
  }
  facts.prefix = first.prompt_is_text
                     ? BatchPrefix(first.prompt_text.data(), first.prompt_text.size())
                     : BatchPrefix(first.prompt_token_ids.data(),
                                   first.prompt_token_ids.size() * sizeof(int32_t));
  return facts;
}

}  // namespace based
