// Flags of who may reach the daemon and how: keys, certificates, addresses, limits of connections.
#ifndef BASED_SERVER_NETWORK_FLAGS_H_
#define BASED_SERVER_NETWORK_FLAGS_H_

#include <chrono>
#include <string>

#include "absl/status/status.h"
#include "kernels/base/command_line.h"
#include "server/grpc_endpoint.h"
#include "server/tls.h"

namespace based {

struct NetworkOptions {
  std::string access_file;  // empty: no keys
  TlsFiles tls;
  bool insecure_listen = false;
  std::string admin_listen;  // empty: no AdminService
  std::chrono::milliseconds drain_grace{0};
};

// Fills `network` and the limits of `connections`. INVALID_ARGUMENT in one line.
absl::Status ReadNetworkFlags(NetworkOptions& network, EndpointOptions& connections);

FlagGroup SecurityFlags();
FlagGroup ConnectionFlags();

// INVALID_ARGUMENT unless `address` is HOST:PORT.
absl::Status CheckAddress(absl::string_view flag, const std::string& address);

// Whether HOST:PORT can be reached from this machine alone; false when it does not resolve.
bool IsLoopback(const std::string& address);

// Whether strangers are served at HOST:PORT: it is beyond loopback, and it is not encrypted or asks
// for neither keys nor certificates of clients. `keys`: the access file asks for keys.
bool IsOpen(const std::string& address, const NetworkOptions& network, bool keys);

// FAILED_PRECONDITION, which says what to do, when an address is open and --insecure_listen does
// not say that this is meant.
absl::Status CheckListenPolicy(const std::string& flag, const std::string& address,
                               const NetworkOptions& network, bool keys);

}  // namespace based

#endif  // BASED_SERVER_NETWORK_FLAGS_H_
