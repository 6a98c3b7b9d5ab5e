#include "server/server.h"

#include <algorithm>
#include <limits>
#include <mutex>

#include "absl/synchronization/mutex.h"
#include "based/v1/completion.grpc.pb.h"
#include "grpc/support/log.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/resource_quota.h"
#include "kernels/base/status.h"
#include "server/completion_service.h"
#include "server/connection_listener.h"
#include "server/gate.h"
#include "server/log.h"
#include "server/model_service.h"
#include "server/stream_watch.h"
#include "server/tokenizer_service.h"

namespace based {
namespace {

// A client that pings oftener than this without calls is cut.
constexpr int kMinPingIntervalMs = 10'000;
// Descriptors that are no connections of clients: files, pipes, metrics, a few to spare.
constexpr int64_t kReservedDescriptors = 128;
// A connection must have spoken HTTP/2 within the first, and one without calls is closed after the
// second; gRPC's clients then connect again when they have something to ask.
constexpr int kHandshakeTimeoutMs = 20'000;
constexpr int kMaxConnectionIdleMs = 300'000;

// gRPC's own lines are for its developers: kept, but only at debug level.
void LogOfGrpc(gpr_log_func_args* args) {
  Log(LogLevel::kDebug, "grpc", {{"message", absl::string_view(args->message)}});
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

void SetLimits(const ServerOptions& options, grpc::ServerBuilder& builder) {
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
  builder.SetResourceQuota(quota);
}

class GrpcServer final : public Server {
 public:
  GrpcServer(const ServerOptions& options, const AccessControl& access, Metrics& metrics)
      : watch_(options.write_timeout),
        gate_(access),
        completion_(gate_, metrics, watch_, static_cast<size_t>(options.stream_queue)),
        model_(gate_),
        tokenizer_(gate_) {}

  ~GrpcServer() override { Shutdown(std::chrono::milliseconds(0)); }

  absl::Status Listen(const ServerOptions& options) {
    grpc::ServerBuilder builder;
    SetLimits(options, builder);
    const int64_t descriptors = RaiseDescriptorLimit() - kReservedDescriptors;
    BASED_ASSIGN_OR_RETURN(
        listener_,
        ConnectionListener::Bind(options.listen, static_cast<int32_t>(std::clamp<int64_t>(
                                                     descriptors, 1, options.max_connections))));
    acceptor_ = builder.experimental().AddExternalConnectionAcceptor(
        grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
        options.credentials != nullptr ? options.credentials : grpc::InsecureServerCredentials());
    builder.RegisterService(&completion_);
    builder.RegisterService(&model_);
    builder.RegisterService(&tokenizer_);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr) return absl::InternalError("gRPC did not start");
    SetServing(false);
    listener_->Start([this](int listener, int connection) {
      grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters parameters;
      parameters.listener_fd = listener;
      parameters.fd = connection;
      acceptor_->HandleNewConnection(&parameters);
    });
    return absl::OkStatus();
  }

  int port() const override { return listener_->port(); }

  void Serve(Engine& engine) override {
    gate_.Open(engine);
    SetServing(true);
  }

  void SetServing(bool serving) override {
    grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService();
    health->SetServingStatus("", serving);
    health->SetServingStatus(v1::CompletionService::service_full_name(), serving);
  }

  void Shutdown(std::chrono::milliseconds limit) override {
    if (server_ == nullptr) return;
    listener_->Stop();
    server_->Shutdown(std::chrono::system_clock::now() + limit);
  }

  std::shared_ptr<grpc::Channel> InProcessChannel() override {
    return server_->InProcessChannel(grpc::ChannelArguments());
  }

 private:
  StreamWatch watch_;
  Gate gate_;
  CompletionService completion_;
  ModelService model_;
  TokenizerService tokenizer_;
  std::unique_ptr<ConnectionListener> listener_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;
  std::unique_ptr<grpc::Server> server_;  // last: stops before the services go
};

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options,
                                                      const AccessControl& access,
                                                      Metrics& metrics) {
  InitOnce();
  auto server = std::make_unique<GrpcServer>(options, access, metrics);
  if (absl::Status status = server->Listen(options); !status.ok()) return status;
  return server;
}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options, Engine& engine,
                                                      Metrics& metrics) {
  static const auto* open = new AccessControl();
  BASED_ASSIGN_OR_RETURN(std::unique_ptr<Server> server, Start(options, *open, metrics));
  server->Serve(engine);
  return server;
}

}  // namespace based
