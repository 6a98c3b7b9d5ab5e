// The request on one line of a batch job (see batch_envelope.h), read as the HTTP API reads bodies.
#ifndef BASED_SERVER_BATCH_LINE_H_
#define BASED_SERVER_BATCH_LINE_H_

#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/batch_envelope.h"
#include "engine/batch_plan.h"
#include "server/openai_request.h"

namespace based {

struct BatchJobLine {
  BatchForm form = BatchForm::kPlain;
  std::string custom_id;
  OpenAiRequest request;  // at batch priority

  // Completions that live at once.
  int32_t sequences() const;
};

// `place` begins every message. INVALID_ARGUMENT, NOT_FOUND and UNIMPLEMENTED as ReadCompletion and
// ReadChat have them, and for a line that asks for a stream.
absl::StatusOr<BatchJobLine> ReadBatchJobLine(absl::string_view text, const std::string& place,
                                              const OpenAiModel& model);

// The same as the plan wants it. Names of ignored fields are added to `ignored`, up to
// kMostIgnoredFields of them.
inline constexpr size_t kMostIgnoredFields = 20;
absl::StatusOr<BatchLineFacts> FactsOfBatchJobLine(absl::string_view text, const std::string& place,
                                                   const OpenAiModel& model,
                                                   std::set<std::string>& ignored);

}  // namespace based

#endif  // BASED_SERVER_BATCH_LINE_H_
