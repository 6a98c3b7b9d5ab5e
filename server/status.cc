#include "server/status.h"

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "based/v1/completion.pb.h"
#include "based/v1/session.pb.h"
#include "based/v1/tokenizer.pb.h"
#include "engine/refusal.h"
#include "engine/session_store.h"
#include "engine/tokenizer.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace based {
namespace {

constexpr char kErrorDomain[] = "based.v1";

bool NamesField(const google::protobuf::Descriptor* message, absl::string_view path) {
  for (absl::string_view part : absl::StrSplit(path, '.')) {
    if (message == nullptr) return false;
    const std::string name(part.substr(0, part.find('[')));
    const google::protobuf::FieldDescriptor* field = message->FindFieldByName(name);
    if (field == nullptr) return false;
    if (field->type() == google::protobuf::FieldDescriptor::TYPE_STRING) return true;  // or in it
    message = field->message_type();  // null for other scalars
  }
  return true;
}

const char* ReasonOf(RefusalReason reason) {
  switch (reason) {
    case RefusalReason::kQueueFull:
      return "QUEUE_FULL";
    case RefusalReason::kQueueTokens:
      return "QUEUE_TOKENS";
    case RefusalReason::kRequestRate:
      return "TENANT_REQUEST_RATE";
    case RefusalReason::kTokenRate:
      return "TENANT_TOKEN_RATE";
    case RefusalReason::kConcurrency:
      return "TENANT_CONCURRENCY";
    case RefusalReason::kDeadline:
      return "DEADLINE_CANNOT_BE_MET";
  }
  return "REFUSED";
}

std::string BatchReason(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kNotFound:
      return "BATCH_NOT_FOUND";
    case absl::StatusCode::kFailedPrecondition:
      return "NO_BATCHES";
    case absl::StatusCode::kResourceExhausted:
      return "BATCH_LIMIT";
    case absl::StatusCode::kUnavailable:
      return "NOT_SERVING";
    default:
      return StatusCodeName(code);
  }
}

std::string Reason(absl::StatusCode code, FailedAt failed_at) {
  if (failed_at == FailedAt::kBatch) return BatchReason(code);
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
      return "INVALID_FIELD";
    case absl::StatusCode::kNotFound:
      return "MODEL_NOT_SERVED";
    case absl::StatusCode::kFailedPrecondition:
      return failed_at == FailedAt::kStream ? "NO_TOKEN_LEFT" : "NO_TOKENIZER";
    case absl::StatusCode::kResourceExhausted:
      return failed_at == FailedAt::kAdmission ? "QUEUE_FULL" : "SLOW_READER";
    case absl::StatusCode::kUnavailable:
      return "NOT_SERVING";
    case absl::StatusCode::kUnimplemented:
      return "FIELD_NOT_SERVED";
    default:
      return StatusCodeName(code);
  }
}

// Milliseconds after which a retry may help; 0: none would.
int64_t RetryDelayMs(const absl::Status& status, FailedAt failed_at) {
  if (const auto refusal = RefusalOf(status)) return refusal->retry_after.count();
  const bool later = absl::IsUnavailable(status)
                         ? failed_at != FailedAt::kStream
                         : absl::IsResourceExhausted(status) && failed_at == FailedAt::kAdmission;
  return later ? kRetryDelayMs : 0;
}

// Valid UTF-8 of bounded length, as protobuf strings and HTTP/2 trailers need it.
std::string WireMessage(absl::string_view message) {
  std::string text(message);
  if (FindInvalidUtf8(text) != std::string::npos) text = absl::CHexEscape(text);
  if (text.size() <= kMaxStatusMessageBytes) return text;
  text.resize(kMaxStatusMessageBytes);
  if (const size_t cut = FindInvalidUtf8(text); cut != std::string::npos) text.resize(cut);
  return text + "...";
}

}  // namespace

const char* FinishReasonName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kEndOfText:
      return "end_of_text";
    case FinishReason::kStopString:
      return "stop_string";
    case FinishReason::kStopToken:
      return "stop_token";
    case FinishReason::kMaxTokens:
      return "max_tokens";
    case FinishReason::kConstraint:
      return "constraint";
  }
  return "none";
}

std::string StatusCodeName(absl::StatusCode code) { return absl::StatusCodeToString(code); }

std::string FieldOfMessage(absl::string_view message) {
  absl::string_view word = message.substr(0, message.find(' '));
  if (absl::EndsWith(word, ":")) word.remove_suffix(1);
  for (const google::protobuf::Descriptor* request :
       {v1::GenerateRequest::descriptor(), v1::TokenizeRequest::descriptor(),
        v1::DetokenizeRequest::descriptor(), v1::ForkSessionRequest::descriptor(),
        v1::ListSessionsRequest::descriptor()}) {
    if (NamesField(request, word)) return std::string(word);
  }
  return "";
}

grpc::Status ToGrpcStatus(const absl::Status& status, FailedAt failed_at) {
  if (status.ok()) return grpc::Status::OK;
  google::rpc::Status wire;
  wire.set_code(static_cast<int>(status.code()));
  wire.set_message(WireMessage(status.message()));
  const std::string field = FieldOfMessage(status.message());

  google::rpc::ErrorInfo info;
  const std::optional<Refusal> refusal = RefusalOf(status);
  const std::string session = SessionReasonOf(status);
  info.set_reason(refusal            ? ReasonOf(refusal->reason)
                  : !session.empty() ? session
                                     : Reason(status.code(), failed_at));
  info.set_domain(kErrorDomain);
  if (!field.empty()) (*info.mutable_metadata())["field"] = field;
  wire.add_details()->PackFrom(info);

  if (status.code() == absl::StatusCode::kInvalidArgument && !field.empty()) {
    google::rpc::BadRequest bad_request;
    auto* violation = bad_request.add_field_violations();
    violation->set_field(field);
    violation->set_description(wire.message());
    wire.add_details()->PackFrom(bad_request);
  }
  if (const int64_t delay = RetryDelayMs(status, failed_at); delay > 0) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(delay / 1000);
    retry.mutable_retry_delay()->set_nanos(static_cast<int32_t>(delay % 1000) * 1'000'000);
    wire.add_details()->PackFrom(retry);
  }
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), wire.message(),
                      wire.SerializeAsString());
}

grpc::Status FailCall(grpc::CallbackServerContext* context, const absl::Status& status,
                      FailedAt failed_at) {
  if (const int64_t delay = RetryDelayMs(status, failed_at); delay > 0) {
    context->AddTrailingMetadata("grpc-retry-pushback-ms", absl::StrCat(delay));
  }
  return ToGrpcStatus(status, failed_at);
}

}  // namespace based
