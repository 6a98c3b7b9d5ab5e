// Results of a batch as lines of its output: one for every line of the input, in its order.
//
//   {"id": "batch_req_<input>_<line>", "custom_id": "a", "response": {"status_code": 200,
//    "request_id": "...", "body": {a completion object as OpenAI's}}, "error": null}
//   {"id": ..., "custom_id": "a", "response": null, "error": {"code": "...", "message": "..."}}
// and for a line of the plain form
//   {"id": ..., "line": 7, "text": "...", "finish_reason": "stop", "usage": {...}, "error": null}
// where "others" holds the second completion and those after it, if the line asks for n above 1. A
// model without a tokenizer gives "token_ids" and an empty text.
#ifndef BASED_CLIENT_BATCH_RESULT_H_
#define BASED_CLIENT_BATCH_RESULT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/batch_line.h"
#include "client/batch_plan.h"

namespace based {

// What came of one call.
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

// "batch_req_<input>_<line>": of this input and no other.
std::string BatchResultId(const std::string& input, int32_t line);

// One line without its line break.
std::string BatchResultJson(const BatchResultFrame& frame, const BatchLine& line, int32_t number,
                            const BatchOutcome& outcome);

// Whether `output` holds the result of every entry of `plan`, in order, and nothing else: the batch
// had finished before.
absl::StatusOr<bool> IsOutputOf(const std::string& output, const BatchPlan& plan);

}  // namespace based

#endif  // BASED_CLIENT_BATCH_RESULT_H_
