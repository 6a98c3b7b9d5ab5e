// The request on one line of a batch's input (see batch_envelope.h), for the daemon's Generate.
//
// Lines are read as the daemon reads those of its jobs and the bodies of its HTTP API (see
// batch_ask.h): the same fields, defaults and faults, and chats are rendered by the daemon. What
// only those two serve is refused: several prompts, and log-probabilities, which need the text of
// tokens.
#ifndef BASED_CLIENT_BATCH_LINE_H_
#define BASED_CLIENT_BATCH_LINE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "based/v1/completion.pb.h"
#include "engine/batch_envelope.h"
#include "engine/batch_plan.h"
#include "engine/openai_names.h"

namespace based {

struct BatchLine {
  BatchForm form = BatchForm::kPlain;
  std::string custom_id;  // may be empty in the plain form alone
  v1::GenerateRequest request;
  OpenAiNames names;                     // of what it has sent
  std::optional<bool> return_token_ids;  // beside the text; absent: where there is no text
  std::vector<std::string> ignored;      // fields that mean nothing here, of the line and its body
  BatchLineFacts facts;
};

// `place` ("in.jsonl:17") begins every message. The errors of ReadBatchAsk; UNIMPLEMENTED for what
// is served elsewhere, naming the field and where.
absl::StatusOr<BatchLine> ParseBatchLine(absl::string_view text, const std::string& place);

}  // namespace based

#endif  // BASED_CLIENT_BATCH_LINE_H_
