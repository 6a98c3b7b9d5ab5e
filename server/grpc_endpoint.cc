#include "server/grpc_endpoint.h"

#include <algorithm>
#include <limits>
#include <mutex>
#include <utility>

#include "absl/strings/match.h"
#include "absl/synchronization/mutex.h"
#include "grpc/support/log.h"
#include "grpcpp/ext/channelz_service_plugin.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/resource_quota.h"
#include "kernels/base/status.h"
#include "server/guarded_reads.h"
#include "server/log.h"

namespace based {
namespace {

// A client that pings oftener than this without calls is cut.
constexpr int kMinPingIntervalMs = 10'000;
// A connection must have spoken HTTP/2 within the first, and one without calls is closed after the
// second; gRPC's clients then connect again when they have something to ask.
constexpr int kHandshakeTimeoutMs = 20'000;
constexpr int kMaxConnectionIdleMs = 300'000;
// Reflection and channelz hold a thread for every call that is under way.
constexpr int kMostSyncThreads = 16;
// A header block of more than so many --max_header_bytes ends its connection; up to there a call is
// told that its headers are too large. Not less than the bytes, in which a hundred calls have room
// before the client acknowledges the settings.
constexpr size_t kCutAtHeaders = 8, kLeastHeaderBytes = size_t{128} << 10;

// gRPC's own lines are for its developers: kept, but only at debug level, unless it is about to
// abort.
void LogOfGrpc(gpr_log_func_args* args) {
  const bool fatal = absl::StartsWith(args->message, "assertion failed");
  Log(fatal ? LogLevel::kError : LogLevel::kDebug, "grpc",
      {{"message", absl::string_view(args->message)}});
}

void InitOnce() {
  static std::once_flag once;
  std::call_once(once, [] {
    gpr_set_log_function(LogOfGrpc);
    // Debian builds absl with its detector of lock cycles on; gRPC would pay for it at every lock.
    absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  });
}

int Milliseconds(std::chrono::seconds duration) {
  const int64_t milliseconds = std::chrono::milliseconds(duration).count();
  return static_cast<int>(std::min<int64_t>(milliseconds, std::numeric_limits<int>::max()));
}

void SetLimits(const EndpointOptions& options, grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(options.max_message_bytes);
  builder.SetMaxSendMessageSize(-1);  // what we send is bounded by what we were asked
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, options.max_header_bytes);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS,
                             static_cast<int>(options.keepalive_time.count()));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                             static_cast<int>(options.keepalive_timeout.count()));
  if (options.max_connection_age.count() > 0) {
    builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS,
                               Milliseconds(options.max_connection_age));
    builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS,
                               Milliseconds(options.max_connection_age_grace));
  }
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kMinPingIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, kMaxConnectionIdleMs);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, options.max_streams_per_connection);
  // Only reflection uses the synchronous API.
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 2);
  grpc::ResourceQuota quota("based");
  quota.Resize(static_cast<size_t>(options.memory_quota_bytes));
  quota.SetMaxThreads(kMostSyncThreads);
  builder.SetResourceQuota(quota);
}

}  // namespace

void ServeChannelz() { grpc::channelz::experimental::InitChannelzService(); }

absl::StatusOr<std::unique_ptr<GrpcEndpoint>> GrpcEndpoint::Start(
    const std::string& flag, const std::string& address, const EndpointOptions& options,
    const std::vector<grpc::Service*>& services, ConnectionTable* connections) {
  InitOnce();
  std::unique_ptr<GrpcEndpoint> endpoint(new GrpcEndpoint());
  const ConnectionLimits limits = {
      .connections = options.max_connections,
      .descriptors = RaiseDescriptorLimit() - options.reserved_descriptors};
  BASED_ASSIGN_OR_RETURN(endpoint->listener_, ConnectionListener::Bind(address, limits, flag));
  grpc::ServerBuilder builder;
  SetLimits(options, builder);
  endpoint->acceptor_ = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      options.credentials != nullptr ? options.credentials : grpc::InsecureServerCredentials());
  for (grpc::Service* service : services) builder.RegisterService(service);
  endpoint->server_ = builder.BuildAndStart();
  if (endpoint->server_ == nullptr) return absl::InternalError("gRPC did not start");
  endpoint->SetServing("", false);
  const size_t headers =
      std::max(kCutAtHeaders * static_cast<size_t>(options.max_header_bytes), kLeastHeaderBytes);
  const bool tls = options.credentials != nullptr;
  if (tls) GuardTlsReads(headers);
  endpoint->listener_->Start(
      [=, acceptor = endpoint->acceptor_.get()](int listener, int connection) {
        if (!tls) GuardReads(connection, headers);
        if (connections != nullptr) connections->Add(connection);
        grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters parameters;
        parameters.listener_fd = listener;
        parameters.fd = connection;
        acceptor->HandleNewConnection(&parameters);
      });
  return endpoint;
}

void GrpcEndpoint::SetServing(const std::string& service, bool serving) {
  grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService();
  health->SetServingStatus("", serving);
  if (!service.empty()) health->SetServingStatus(service, serving);
}

void GrpcEndpoint::Shutdown(std::chrono::milliseconds limit) {
  if (server_ == nullptr) return;
  listener_->Stop();
  server_->Shutdown(std::chrono::system_clock::now() + limit);
}

}  // namespace based
