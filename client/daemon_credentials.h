// How commands show who they are to a daemon, and how they know it: the flags of TLS and API key.
#ifndef BASED_CLIENT_DAEMON_CREDENTIALS_H_
#define BASED_CLIENT_DAEMON_CREDENTIALS_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "grpcpp/grpcpp.h"

namespace based {

struct DaemonCredentials {
  std::shared_ptr<grpc::ChannelCredentials> channel;
  std::string api_key;  // empty: none
};

// Reads the files that the flags name. A usage error when flags do not fit together, NOT_FOUND or
// INVALID_ARGUMENT for a file, naming it.
absl::StatusOr<DaemonCredentials> ReadDaemonCredentials();

// A channel to `address` that sends the key with every call.
std::shared_ptr<grpc::Channel> NewChannel(const std::string& address,
                                          const DaemonCredentials& credentials,
                                          const grpc::ChannelArguments& arguments);

}  // namespace based

#endif  // BASED_CLIENT_DAEMON_CREDENTIALS_H_
