// The request on one line of a batch (see batch_envelope.h), read as the HTTP API reads bodies.
//
// Beside the HTTP API's names a body may call include_stop_str_in_output include_stop, and in the
// plain form max_tokens is 256 by default, both as in based.v1.
#ifndef BASED_ENGINE_BATCH_ASK_H_
#define BASED_ENGINE_BATCH_ASK_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/batch_envelope.h"
#include "engine/batch_plan.h"
#include "engine/openai_request.h"

namespace based {

struct BatchAsk {
  BatchForm form = BatchForm::kPlain;
  std::string custom_id;  // may be empty in the plain form alone
  OpenAiRequest request;  // at batch priority; ignored has the members around the body too

  // Completions that live at once.
  int32_t sequences() const;
  // As the plan wants it.
  BatchLineFacts Facts() const;
};

// `place` ("in.jsonl:17") begins every message. INVALID_ARGUMENT and UNIMPLEMENTED as
// ReadOpenAiRequest has them, and for a line that asks for a stream.
absl::StatusOr<BatchAsk> ReadBatchAsk(absl::string_view text, const std::string& place);

}  // namespace based

#endif  // BASED_ENGINE_BATCH_ASK_H_
