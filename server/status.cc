#include "server/status.h"

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "based/v1/completion.pb.h"
#include "based/v1/tokenizer.pb.h"
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
    message = field->message_type();  // null for scalars
  }
  return true;
}

std::string Reason(absl::StatusCode code, FailedAt failed_at) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
      return "INVALID_FIELD";
    case absl::StatusCode::kNotFound:
      return "MODEL_NOT_SERVED";
    case absl::StatusCode::kFailedPrecondition:
      return "NO_TOKENIZER";
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

bool MayRetry(absl::StatusCode code, FailedAt failed_at) {
  return failed_at == FailedAt::kAdmission && (code == absl::StatusCode::kResourceExhausted ||
                                               code == absl::StatusCode::kUnavailable);
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

std::string StatusCodeName(absl::StatusCode code) { return absl::StatusCodeToString(code); }

std::string FieldOfMessage(absl::string_view message) {
  absl::string_view word = message.substr(0, message.find(' '));
  if (absl::EndsWith(word, ":")) word.remove_suffix(1);
  for (const google::protobuf::Descriptor* request :
       {v1::GenerateRequest::descriptor(), v1::TokenizeRequest::descriptor(),
        v1::DetokenizeRequest::descriptor()}) {
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
  info.set_reason(Reason(status.code(), failed_at));
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
  if (MayRetry(status.code(), failed_at)) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(kRetryDelayMs / 1000);
    retry.mutable_retry_delay()->set_nanos(kRetryDelayMs % 1000 * 1'000'000);
    wire.add_details()->PackFrom(retry);
  }
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), wire.message(),
                      wire.SerializeAsString());
}

grpc::Status FailCall(grpc::CallbackServerContext* context, const absl::Status& status,
                      FailedAt failed_at) {
  if (MayRetry(status.code(), failed_at)) {
    context->AddTrailingMetadata("grpc-retry-pushback-ms", absl::StrCat(kRetryDelayMs));
  }
  return ToGrpcStatus(status, failed_at);
}

}  // namespace based
