// The request on one line of a batch job, for the served model.
#ifndef BASED_SERVER_BATCH_LINE_H_
#define BASED_SERVER_BATCH_LINE_H_

#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/batch_ask.h"
#include "engine/batch_plan.h"
#include "server/openai_model.h"

namespace based {

// `place` begins every message. The errors of ReadBatchAsk and BindToModel.
absl::StatusOr<BatchAsk> ReadBatchJobLine(absl::string_view text, const std::string& place,
                                          const OpenAiModel& model);

// The same as the plan wants it. Names of ignored fields are added to `ignored`, up to
// kMostIgnoredFields of them.
inline constexpr size_t kMostIgnoredFields = 20;
absl::StatusOr<BatchLineFacts> FactsOfBatchJobLine(absl::string_view text, const std::string& place,
                                                   const OpenAiModel& model,
                                                   std::set<std::string>& ignored);

}  // namespace based

#endif  // BASED_SERVER_BATCH_LINE_H_
