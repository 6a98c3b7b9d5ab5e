// Results of a batch as lines of its output: one for every line of the input, in its order.
//
//   {"id": "batch_req_<input>_<line>", "custom_id": "a", "response": {"status_code": 200,
//    "request_id": "...", "body": {a completion object as OpenAI's}}, "error": null}
//   {"id": ..., "custom_id": "a", "response": null, "error": {"code": "...", "message": "..."}}
// and for a line of the plain form
//   {"id": ..., "line": 7, "text": "...", "finish_reason": "stop", "usage": {...}, "error": null}
// where "others" holds the second completion and those after it, if the line asks for n above 1. A
// model without a tokenizer gives "token_ids" and an empty text.
#ifndef BASED_ENGINE_BATCH_RESULT_H_
#define BASED_ENGINE_BATCH_RESULT_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/batch_envelope.h"
#include "engine/batch_plan.h"
#include "nlohmann/json.hpp"

namespace based {

// Whose result it is.
struct BatchResultHead {
  std::string input;  // BatchPlan::digest
  int32_t line = 0;   // from 1
  BatchForm form = BatchForm::kPlain;
  std::string custom_id;
};

// One line without its line break; `completion` is OpenAI's object.
std::string BatchResultJson(const BatchResultHead& head, const std::string& request_id,
                            nlohmann::ordered_json completion);
// The same of a line that failed with `status`.
std::string BatchErrorJson(const BatchResultHead& head, const absl::Status& status);

// How many lines have an error, if `output` holds the result of every entry of `plan`, in order,
// and nothing else: the batch had finished before. Nothing for another file.
absl::StatusOr<std::optional<int64_t>> FailuresInOutput(const std::string& output,
                                                        const BatchPlan& plan);

// An error where `failed` is all of `lines`: FAILED_PRECONDITION that names `output`, where the
// lines' own errors are. Some results, or an empty input, are a success.
absl::Status CheckSomeSucceeded(int64_t failed, int64_t lines, const std::string& output);

}  // namespace based

#endif  // BASED_ENGINE_BATCH_RESULT_H_
