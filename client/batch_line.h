// The request on one line of a batch's input (see batch_envelope.h), for the daemon's Generate.
//
// Fields of a body are OpenAI's (prompt, max_tokens, temperature, top_p, n, best_of, stop, seed,
// presence_penalty, frequency_penalty, logit_bias, echo), the fields of structured output (see
// openai_constraint.h) and those of based.v1 under their own names (top_k, min_p, typical_p,
// repetition_penalty, ignore_eos, min_tokens, include_stop, stop_token_ids, allowed_token_ids,
// bad_words). Unknown ones are ignored, as OpenAI does, and named in BatchLine::ignored; those that
// would change the answer and are not served (stream, logprobs, tools, ...) are refused.
//
// A chat becomes one prompt by the plain template of the daemon's HTTP gateway: "### System:",
// "### User:" or "### Assistant:", the content on the next line, a blank line, and at the end
// "### Assistant:" with a line break. The reply stops at "\n### " besides its own stops.
#ifndef BASED_CLIENT_BATCH_LINE_H_
#define BASED_CLIENT_BATCH_LINE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "based/v1/completion.pb.h"
#include "engine/batch_envelope.h"

namespace based {

struct BatchLine {
  BatchForm form = BatchForm::kPlain;
  std::string custom_id;  // may be empty in the plain form alone
  v1::GenerateRequest request;
  std::vector<std::string> ignored;  // fields that mean nothing here, of the line and its body

  // Completions that live at once in the daemon.
  int32_t sequences() const;
};

// `place` ("in.jsonl:17") begins every message. INVALID_ARGUMENT naming the field, what it holds
// and what was expected.
absl::StatusOr<BatchLine> ParseBatchLine(absl::string_view text, const std::string& place);

}  // namespace based

#endif  // BASED_CLIENT_BATCH_LINE_H_
