// Commands that talk to a daemon. They know the proto and nothing of the engine.
#ifndef BASED_CLIENT_REMOTE_H_
#define BASED_CLIENT_REMOTE_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "client/command.h"
#include "client/perplexity_command.h"
#include "google/protobuf/message.h"
#include "grpcpp/grpcpp.h"

namespace based {

// A channel to --address without a limit on what the daemon may send. Channels of different numbers
// have connections of their own.
std::shared_ptr<grpc::Channel> DaemonChannel(int32_t number = 0);

// Sets the deadline that --timeout asks for.
void SetDeadline(grpc::ClientContext& context);

// The code's name and the server's message; UNAVAILABLE also says where the daemon was looked for.
absl::Status FromGrpc(const grpc::Status& status);

// The message in one line of JSON with the proto's field names.
std::string ToJson(const google::protobuf::Message& message);

Command InfoCommand();
// Scores at the daemon, by its Score call.
absl::StatusOr<std::unique_ptr<TextScorer>> ScoreAtDaemon(int32_t window);
Command SessionCommand();
// Needs no daemon.
Command KeygenCommand();
// Tokenizes at the daemon.
absl::Status TokenizeAtDaemon(const std::string& text);
absl::Status DetokenizeAtDaemon(const std::vector<int32_t>& ids);

}  // namespace based

#endif  // BASED_CLIENT_REMOTE_H_
