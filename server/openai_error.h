// What went wrong, as OpenAI's API tells it: an error object and a status code.
#ifndef BASED_SERVER_OPENAI_ERROR_H_
#define BASED_SERVER_OPENAI_ERROR_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "engine/openai_fields.h"
#include "server/http_message.h"

namespace based {

struct OpenAiError {
  int status = 400;
  std::string type;   // "invalid_request_error"
  std::string code;   // "model_not_found"; empty: null
  std::string param;  // the field at fault; empty: null
  std::string message;
  int64_t retry_after_ms = 0;  // 0: no later try is known to help
};

// `status` is not OK. Its message names fields as OpenAI does: see openai_names.h.
//   INVALID_ARGUMENT, UNIMPLEMENTED, FAILED_PRECONDITION 400   UNAUTHENTICATED 401
//   PERMISSION_DENIED 403   NOT_FOUND 404   RESOURCE_EXHAUSTED 429   CANCELLED 499
//   UNAVAILABLE 503   DEADLINE_EXCEEDED 504   others 500
OpenAiError ErrorOfStatus(const absl::Status& status, OpenAiEndpoint endpoint);

// An error that is of HTTP alone, e.g. 404, 405, 413, 415.
OpenAiError HttpError(int status, std::string_view message);

// {"error":{"message":...,"type":...,"param":...,"code":...}}
std::string ErrorBody(const OpenAiError& error);

// With Retry-After where trying again later may help.
HttpResponse ErrorResponse(const OpenAiError& error);

}  // namespace based

#endif  // BASED_SERVER_OPENAI_ERROR_H_
