// The daemon's HTTP side: the OpenAI gateway on a server of its own.
#ifndef BASED_SERVER_HTTP_API_H_
#define BASED_SERVER_HTTP_API_H_

#include <chrono>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/chat.h"
#include "engine/engine.h"
#include "server/access.h"
#include "server/http_server.h"
#include "server/metrics.h"

namespace based {

struct HttpApiOptions {
  HttpServerOptions server{.listen = ""};  // no address: no HTTP API
  std::chrono::milliseconds timeout{0};    // of a call; 0: none
  std::string cors_origin;                 // that browsers may call from; empty: none
  bool plain_chat_template = false;        // even where the model brings a template
  size_t stream_queue_bytes = 256 << 10;   // that may wait for one stream's reader
};

class HttpApi {
 public:
  // Starts to listen; calls are refused until Serve. `access` and `metrics` must outlive the API.
  // UNAVAILABLE when the address cannot be bound.
  static absl::StatusOr<std::unique_ptr<HttpApi>> Start(const HttpApiOptions& options,
                                                        const AccessControl& access,
                                                        Metrics& metrics);
  virtual ~HttpApi() = default;

  virtual int port() const = 0;

  // The model is loaded: calls reach `engine`, which must outlive the API and be drained before it
  // goes. `chat`: see OpenAiModel. Call once.
  virtual void Serve(Engine& engine, const ChatFormat& chat) = 0;

  // /health fails from now on, and clients are told to come back on other connections.
  virtual void BeginDrain() = 0;

  // Takes no more calls; answers that have not left after `limit` are cut.
  virtual void Shutdown(std::chrono::milliseconds limit) = 0;
};

}  // namespace based

#endif  // BASED_SERVER_HTTP_API_H_
