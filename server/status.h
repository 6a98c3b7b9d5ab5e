// absl::Status of the engine turned into what goes over the wire: grpc::Status with google.rpc
// details (ErrorInfo always; BadRequest for a field; RetryInfo when trying again later may help).
#ifndef BASED_SERVER_STATUS_H_
#define BASED_SERVER_STATUS_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/request.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/status.h"

namespace based {

// Where a call failed; RESOURCE_EXHAUSTED and UNAVAILABLE mean different things before and after.
enum class FailedAt : uint8_t {
  kAdmission,  // nothing was done; a retry may be admitted
  kStream,     // a running request was ended
  kBatch,      // a call of BatchService: its limits hold until jobs are deleted
};

// Wait that a daemon asks for before a retry where no Refusal says how long.
inline constexpr int kRetryDelayMs = 1000;

// Messages are cut at this many bytes: a trailer must pass every peer's header limit (8 KiB).
inline constexpr size_t kMaxStatusMessageBytes = 1024;

grpc::Status ToGrpcStatus(const absl::Status& status, FailedAt failed_at);

// As above, and adds the `grpc-retry-pushback-ms` trailer where RetryInfo is given. Call before
// Finish.
grpc::Status FailCall(grpc::CallbackServerContext* context, const absl::Status& status,
                      FailedAt failed_at);

// "end_of_text", "stop_string", "stop_token" or "max_tokens", likewise.
const char* FinishReasonName(FinishReason reason);

// "INVALID_ARGUMENT" and so on, for logs and metrics.
std::string StatusCodeName(absl::StatusCode code);

// The request field that a message names first ("sampling.top_p is 2; ..." gives "sampling.top_p"),
// or "" when its first word is no field of the requests that the daemon takes.
std::string FieldOfMessage(absl::string_view message);

}  // namespace based

#endif  // BASED_SERVER_STATUS_H_
