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
    std::vector<int32_t> token_ids;  // those of an echoed prompt included
    v1::FinishReason finish_reason = v1::FINISH_REASON_UNSPECIFIED;
    // What stopped it, for the reasons STOP_STRING and STOP_TOKEN.
    std::string stop_string;
    int32_t stop_token_id = -1;
  };
  absl::Status status;  // of the call; the rest counts only where it is OK
  std::string request_id;
  std::vector<Choice> choices;
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;
};

// What all results of a run share.
struct BatchResultFrame {
  std::string input;  // BatchPlan::digest
  std::string model;  // as the daemon calls it
  std::string fingerprint;
  bool has_tokenizer = true;  // else there are token ids instead of text
  int64_t created = 0;        // seconds since 1970
};

// The result of `line`, the input's line `number`, without its line break; its body is what the
// HTTP API and the daemon's jobs answer.
std::string BatchOutcomeJson(const BatchResultFrame& frame, const BatchLine& line, int32_t number,
                             const BatchOutcome& outcome);

}  // namespace based

#endif  // BASED_CLIENT_BATCH_OUTCOME_H_
