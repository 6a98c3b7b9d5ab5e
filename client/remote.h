// Commands that talk to a daemon. They know the proto and nothing of the engine.
#ifndef BASED_CLIENT_REMOTE_H_
#define BASED_CLIENT_REMOTE_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "based/v1/completion.pb.h"
#include "client/command.h"
#include "grpcpp/grpcpp.h"

namespace based {

// A channel to --address without a limit on what the daemon may send.
std::shared_ptr<grpc::Channel> DaemonChannel();

// Sets the deadline that --timeout asks for.
void SetDeadline(grpc::ClientContext& context);

// The code's name and the server's message; UNAVAILABLE also says where the daemon was looked for.
absl::Status FromGrpc(const grpc::Status& status);

// The message in one line of JSON with the proto's field names.
std::string ToJson(const google::protobuf::Message& message);

// The request that the command line describes; standard input is read where no prompt is given.
absl::StatusOr<v1::GenerateRequest> RequestFromFlags(const CommandLine& line);

Command GenerateCommand();
Command InfoCommand();
// Needs no daemon.
Command KeygenCommand();
// Tokenizes at the daemon.
absl::Status TokenizeAtDaemon(const std::string& text);
absl::Status DetokenizeAtDaemon(const std::vector<int32_t>& ids);

}  // namespace based

#endif  // BASED_CLIENT_REMOTE_H_
