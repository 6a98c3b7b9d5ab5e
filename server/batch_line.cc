#include "server/batch_line.h"

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"

namespace based {

absl::StatusOr<BatchAsk> ReadBatchJobLine(absl::string_view text, const std::string& place,
                                          const OpenAiModel& model) {
  BASED_ASSIGN_OR_RETURN(BatchAsk line, ReadBatchAsk(text, place));
  const absl::Status bound = BindToModel(model, line.request);
  if (bound.ok()) return line;
  return absl::Status(bound.code(), absl::StrCat(place, ": ", bound.message()));
}

absl::StatusOr<BatchLineFacts> FactsOfBatchJobLine(absl::string_view text, const std::string& place,
                                                   const OpenAiModel& model,
                                                   std::set<std::string>& ignored) {
  BASED_ASSIGN_OR_RETURN(const BatchAsk line, ReadBatchJobLine(text, place, model));
  for (const std::string& name : line.request.ignored) {
    if (ignored.size() < kMostIgnoredFields) ignored.insert(name);
  }
  return line.Facts();
}

}  // namespace based
