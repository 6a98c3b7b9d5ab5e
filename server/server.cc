#include "server/server.h"

#include <utility>

#include "based/v1/completion.grpc.pb.h"
#include "kernels/base/status.h"
#include "server/batch_service.h"
#include "server/completion_service.h"
#include "server/connection_table.h"
#include "server/gate.h"
#include "server/model_service.h"
#include "server/session_service.h"
#include "server/stream_watch.h"
#include "server/tokenizer_service.h"

namespace based {
namespace {

class GrpcServer final : public Server {
 public:
  GrpcServer(const ServerOptions& options, const AccessControl& access, Metrics& metrics)
      : watch_(options.write_timeout),
        gate_(access, options.connections.max_header_bytes),
        batches_(gate_, metrics, options.write_timeout),
        completion_(gate_, metrics, watch_, connections_, static_cast<size_t>(options.stream_queue),
                    options.write_timeout),
        model_(gate_, options.write_timeout),
        sessions_(gate_, options.write_timeout),
        tokenizer_(gate_, options.write_timeout) {}

  absl::Status Listen(const ServerOptions& options) {
    BASED_ASSIGN_OR_RETURN(
        endpoint_, GrpcEndpoint::Start("listen", options.listen, options.connections,
                                       {&batches_, &completion_, &model_, &sessions_, &tokenizer_},
                                       &connections_));
    SetServing(false);
    return absl::OkStatus();
  }

  int port() const override { return endpoint_->port(); }

  void Serve(Engine& engine, const ChatFormat& chat, BatchJobs* batches) override {
    if (batches != nullptr) batches_.Serve(*batches);
    gate_.Open(engine, chat);
    SetServing(true);
  }

  void SetServing(bool serving) override {
    endpoint_->SetServing(v1::CompletionService::service_full_name(), serving);
  }

  void Shutdown(std::chrono::milliseconds limit) override { endpoint_->Shutdown(limit); }

  std::shared_ptr<grpc::Channel> InProcessChannel() override {
    return endpoint_->server().InProcessChannel(grpc::ChannelArguments());
  }

 private:
  StreamWatch watch_;
  ConnectionTable connections_;
  Gate gate_;
  BatchService batches_;
  CompletionService completion_;
  ModelService model_;
  SessionService sessions_;
  TokenizerService tokenizer_;
  std::unique_ptr<GrpcEndpoint> endpoint_;  // last: stops before the services go
};

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options,
                                                      const AccessControl& access,
                                                      Metrics& metrics) {
  auto server = std::make_unique<GrpcServer>(options, access, metrics);
  if (absl::Status status = server->Listen(options); !status.ok()) return status;
  return server;
}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options, Engine& engine,
                                                      Metrics& metrics) {
  static const auto* open = new AccessControl();
  BASED_ASSIGN_OR_RETURN(std::unique_ptr<Server> server, Start(options, *open, metrics));
  server->Serve(engine, {}, nullptr);
  return server;
}

}  // namespace based
