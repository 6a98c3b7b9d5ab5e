#include "server/openai_error.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "engine/refusal.h"
#include "server/openai_json.h"

namespace based {
namespace {

// Of a daemon that drains or cannot say.
constexpr int64_t kRetryAfterMs = 1000;
constexpr char kInvalidRequest[] = "invalid_request_error";

// The field that a message names first ("stop[0] is ..." gives "stop"), if the endpoint has it.
std::string ParamOf(absl::string_view message, OpenAiEndpoint endpoint) {
  absl::ConsumePrefix(&message, "a key of ");
  const absl::string_view word = message.substr(0, message.find(' '));
  const absl::string_view field = word.substr(0, word.find_first_of("[.:"));
  return IsOpenAiField(field, endpoint) ? std::string(field) : "";
}

OpenAiError BaseOf(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
      return {.status = 400, .type = kInvalidRequest, .code = "invalid_value"};
    case absl::StatusCode::kUnimplemented:
      return {.status = 400, .type = kInvalidRequest, .code = "unsupported_parameter"};
    case absl::StatusCode::kFailedPrecondition:
      return {.status = 400, .type = kInvalidRequest, .code = "failed_precondition"};
    case absl::StatusCode::kUnauthenticated:
      return {.status = 401, .type = "authentication_error", .code = "invalid_api_key"};
    case absl::StatusCode::kPermissionDenied:
      return {.status = 403, .type = "permission_error", .code = "permission_denied"};
    case absl::StatusCode::kNotFound:
      return {.status = 404, .type = kInvalidRequest, .code = "model_not_found"};
    case absl::StatusCode::kResourceExhausted:
      return {.status = 429, .type = "rate_limit_error", .code = "rate_limit_exceeded"};
    case absl::StatusCode::kCancelled:
      return {.status = 499, .type = "cancelled", .code = "client_closed_request"};
    case absl::StatusCode::kUnavailable:
      return {.status = 503, .type = "service_unavailable_error", .code = "not_serving"};
    case absl::StatusCode::kDeadlineExceeded:
      return {.status = 504, .type = "timeout_error", .code = "deadline_exceeded"};
    default:
      return {.status = 500, .type = "server_error", .code = "internal_error"};
  }
}

}  // namespace

OpenAiError ErrorOfStatus(const absl::Status& status, OpenAiEndpoint endpoint) {
  OpenAiError error = BaseOf(status.code());
  error.message = std::string(status.message());
  error.param = ParamOf(error.message, endpoint);
  if (const auto refusal = RefusalOf(status)) {
    error.retry_after_ms = refusal->retry_after.count();
  } else if (error.status == 429 || error.status == 503) {
    error.retry_after_ms = kRetryAfterMs;
  }
  return error;
}

OpenAiError HttpError(int status, std::string_view message) {
  OpenAiError error{.status = status, .type = kInvalidRequest, .message = std::string(message)};
  switch (status) {
    case 404:
      error.code = "unknown_url";
      break;
    case 405:
      error.code = "method_not_allowed";
      break;
    case 408:
      error.code = "request_timeout";
      break;
    case 413:
      error.code = "request_too_large";
      break;
    case 415:
      error.code = "unsupported_media_type";
      break;
    case 500:
      error.type = "server_error";
      error.code = "internal_error";
      break;
    case 503:
      error.type = "service_unavailable_error";
      error.code = "overloaded";
      error.retry_after_ms = kRetryAfterMs;
      break;
    default:
      error.code = "invalid_request";
  }
  return error;
}

std::string ErrorBody(const OpenAiError& error) {
  std::string body = "{\"error\":{\"message\":";
  AppendJsonString(error.message, body);
  body += ",\"type\":";
  AppendJsonString(error.type, body);
  body += ",\"param\":";
  error.param.empty() ? void(body += "null") : AppendJsonString(error.param, body);
  body += ",\"code\":";
  error.code.empty() ? void(body += "null") : AppendJsonString(error.code, body);
  body += "}}";
  return body;
}

HttpResponse ErrorResponse(const OpenAiError& error) {
  HttpResponse response{.status = error.status, .headers = {}, .body = ErrorBody(error)};
  if (error.retry_after_ms > 0) {
    // Whole seconds by the standard; OpenAI's clients prefer the other.
    response.headers.push_back({"retry-after", absl::StrCat((error.retry_after_ms + 999) / 1000)});
    response.headers.push_back({"retry-after-ms", absl::StrCat(error.retry_after_ms)});
  }
  if (error.status == 401) response.headers.push_back({"www-authenticate", "Bearer"});
  return response;
}

}  // namespace based
