#include "server/http_api.h"

#include <utility>

#include "kernels/base/status.h"
#include "server/openai_error.h"
#include "server/openai_gateway.h"

namespace based {
namespace {

class GatewayApi final : public HttpApi {
 public:
  GatewayApi(const HttpApiOptions& options, const AccessControl& access, Metrics& metrics)
      : metrics_(metrics),
        gateway_({.timeout = options.timeout,
                  .cors_origin = options.cors_origin,
                  .stream_queue_bytes = options.stream_queue_bytes},
                 access, metrics) {}

  absl::Status Listen(HttpServerOptions options) {
    options.refusal = [this](int status, std::string_view message) {
      metrics_.OnHttpResponse(status);
      return ErrorResponse(HttpError(status, message));
    };
    options.on_lag = [this](std::chrono::nanoseconds lag) { metrics_.OnHttpLoopLag(lag); };
    BASED_ASSIGN_OR_RETURN(
        server_, HttpServer::Start(options, [this](std::shared_ptr<HttpExchange> exchange) {
          gateway_.Handle(exchange);
        }));
    return absl::OkStatus();
  }

  int port() const override { return server_->port(); }

  void Serve(Engine& engine, const ChatFormat& chat) override { gateway_.Serve(engine, chat); }

  void BeginDrain() override {
    gateway_.SetServing(false);
    server_->BeginDrain();
  }

  void Shutdown(std::chrono::milliseconds limit) override { server_->Shutdown(limit); }

 private:
  Metrics& metrics_;
  OpenAiGateway gateway_;
  std::unique_ptr<HttpServer> server_;  // last: stops before the gateway goes
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpApi>> HttpApi::Start(const HttpApiOptions& options,
                                                        const AccessControl& access,
                                                        Metrics& metrics) {
  auto api = std::make_unique<GatewayApi>(options, access, metrics);
  if (absl::Status status = api->Listen(options.server); !status.ok()) return status;
  return api;
}

}  // namespace based
