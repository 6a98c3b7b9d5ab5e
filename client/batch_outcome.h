// What came of one line at the daemon, as a line of the output; see batch_result.h.
#ifndef BASED_CLIENT_BATCH_OUTCOME_H_
#define BASED_CLIENT_BATCH_OUTCOME_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/batch_line.h"

namespace based {

struct BatchOutcome {
  struct Choice {
    std::string text;
    std::vector<int32_t> token_ids;  // from a model without a tokenizer, which has no text
    v1::FinishReason finish_reason = v1::FINISH_REASON_UNSPECIFIED;
  };
  absl::Status status;  // of the call; the rest counts only where it is OK
  std::string request_id;
  std::vector<Choice> choices;
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;
};

// What all results of a run share.
struct BatchResultFrame {
  std::string input;    // BatchPlan::digest
  std::string model;    // as the daemon calls it
  int64_t created = 0;  // seconds since 1970
};

// The result of `line`, the input's line `number`, without its line break.
std::string BatchOutcomeJson(const BatchResultFrame& frame, const BatchLine& line, int32_t number,
                             const BatchOutcome& outcome);

}  // namespace based

#endif  // BASED_CLIENT_BATCH_OUTCOME_H_
