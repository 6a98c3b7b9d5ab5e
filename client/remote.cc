#include "client/remote.h"

#include <chrono>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "client/common_flags.h"
#include "client/daemon_credentials.h"
#include "google/protobuf/util/json_util.h"

namespace based {

std::shared_ptr<grpc::Channel> DaemonChannel(int32_t number) {
  grpc::ChannelArguments arguments;
  arguments.SetInt("based.channel_number", number);  // equal arguments share a connection
  arguments.SetMaxReceiveMessageSize(-1);
  const absl::StatusOr<DaemonCredentials> credentials = ReadDaemonCredentials();
  // No channel at all rather than one without what the flags ask for; main has reported why.
  if (!credentials.ok()) return grpc::CreateChannel("", nullptr);
  return NewChannel(absl::GetFlag(FLAGS_address), *credentials, arguments);
}

void SetDeadline(grpc::ClientContext& context) {
  const double seconds = absl::GetFlag(FLAGS_timeout);
  if (seconds <= 0) return;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000)));
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  const auto code = static_cast<absl::StatusCode>(status.error_code());
  std::string message = absl::StrCat(absl::StatusCodeToString(code), ": ", status.error_message());
  if (code == absl::StatusCode::kUnavailable) {
    absl::StrAppend(&message, " (daemon at ", absl::GetFlag(FLAGS_address), ", see --address)");
  }
  return absl::Status(code, message);
}

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
  return status.ok() ? json : absl::StrCat("{\"error\":\"", status.ToString(), "\"}");
}

}  // namespace based
