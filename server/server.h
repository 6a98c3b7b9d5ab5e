// The gRPC side of the daemon: the services that clients use, health and reflection.
#ifndef BASED_SERVER_SERVER_H_
#define BASED_SERVER_SERVER_H_

#include <chrono>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/chat.h"
#include "engine/engine.h"
#include "grpcpp/grpcpp.h"
#include "server/access.h"
#include "server/batch_jobs.h"
#include "server/grpc_endpoint.h"
#include "server/metrics.h"

namespace based {

struct ServerOptions {
  std::string listen = "127.0.0.1:7433";  // HOST:PORT; port 0 takes a free one
  int32_t stream_queue = 256;             // messages; see generate_stream.h
  // A client that takes no message for so long is cut; see stream_watch.h.
  std::chrono::milliseconds write_timeout{30'000};
  EndpointOptions connections;
};

class Server {
 public:
  // Starts to listen; health says NOT_SERVING and calls are refused until Serve. `access` and
  // `metrics` must outlive the server. UNAVAILABLE when the address cannot be bound.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerOptions& options,
                                                       const AccessControl& access,
                                                       Metrics& metrics);
  // Start without keys, and Serve.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerOptions& options, Engine& engine,
                                                       Metrics& metrics);
  virtual ~Server() = default;

  virtual int port() const = 0;

  // The model is loaded: calls reach `engine`, which must outlive the server, and health says
  // SERVING. Its model chats as `chat` has it. `batches`, which must outlive it too, may be null:
  // there are none. Call once.
  virtual void Serve(Engine& engine, const ChatFormat& chat, BatchJobs* batches) = 0;

  // What health says of "" and based.v1.CompletionService; watchers hear of a change.
  virtual void SetServing(bool serving) = 0;

  // Takes no more calls; calls that have not ended after `limit` are cut. Returns when all are
  // over.
  virtual void Shutdown(std::chrono::milliseconds limit) = 0;

  virtual std::shared_ptr<grpc::Channel> InProcessChannel() = 0;
};

}  // namespace based

#endif  // BASED_SERVER_SERVER_H_
