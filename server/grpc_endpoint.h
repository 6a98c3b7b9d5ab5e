// One gRPC address: our listener, gRPC's server behind it, limits and credentials.
#ifndef BASED_SERVER_GRPC_ENDPOINT_H_
#define BASED_SERVER_GRPC_ENDPOINT_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "grpcpp/grpcpp.h"
#include "server/connection_listener.h"
#include "server/connection_table.h"

namespace based {

// How connections are treated; see network_flags.h.
struct EndpointOptions {
  int32_t max_connections = 16'384;
  // Descriptors that its connections leave to what is none of them: files, pipes, other addresses.
  int32_t reserved_descriptors = 128;
  int32_t max_message_bytes = 16 << 20;
  int32_t max_header_bytes = 16 << 10;
  int32_t max_streams_per_connection = 16'384;
  // A silent client is pinged after the first and given up after the second.
  std::chrono::milliseconds keepalive_time{60'000};
  std::chrono::milliseconds keepalive_timeout{20'000};
  std::chrono::seconds max_connection_age{0};  // 0: none
  std::chrono::seconds max_connection_age_grace{300};
  int64_t memory_quota_bytes = int64_t{1} << 30;         // of gRPC's own buffers
  std::shared_ptr<grpc::ServerCredentials> credentials;  // null: no TLS
};

// Endpoints started from now on serve grpc.channelz.v1 too.
void ServeChannelz();

class GrpcEndpoint {
 public:
  // Serves `services`, which must outlive it, health and reflection at HOST:PORT; port 0 takes a
  // free one. Accepted connections are entered into `connections`, which may be null. Health says
  // NOT_SERVING. UNAVAILABLE, naming `flag`, when the address cannot be bound.
  static absl::StatusOr<std::unique_ptr<GrpcEndpoint>> Start(
      const std::string& flag, const std::string& address, const EndpointOptions& options,
      const std::vector<grpc::Service*>& services, ConnectionTable* connections = nullptr);
  ~GrpcEndpoint() { Shutdown(std::chrono::milliseconds(0)); }

  int port() const { return listener_->port(); }
  grpc::Server& server() { return *server_; }

  // What health says of "" and `service`.
  void SetServing(const std::string& service, bool serving);

  // Takes no more calls (GOAWAY); those that have not ended after `limit` are cut. Returns when all
  // are over. Idempotent.
  void Shutdown(std::chrono::milliseconds limit);

 private:
  GrpcEndpoint() = default;

  std::unique_ptr<ConnectionListener> listener_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace based

#endif  // BASED_SERVER_GRPC_ENDPOINT_H_
