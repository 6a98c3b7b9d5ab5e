#include "server/http_api.h"

#include <utility>

#include "kernels/base/status.h"
#include "server/openai_chat.h"
#include "server/openai_error.h"
#include "server/openai_gateway.h"

namespace based {
namespace {

class GatewayApi final : public HttpApi {
 public:
  GatewayApi(OpenAiGatewayOptions options, Engine& engine, Metrics& metrics)
      : gateway_(std::move(options), engine, metrics) {}

  absl::Status Listen(HttpServerOptions options) {
    options.refusal = [](int status, std::string_view message) {
      return ErrorResponse(HttpError(status, message));
    };
    BASED_ASSIGN_OR_RETURN(
        server_, HttpServer::Start(options, [this](std::shared_ptr<HttpExchange> exchange) {
          gateway_.Handle(exchange);
        }));
    return absl::OkStatus();
  }

  int port() const override { return server_->port(); }

  void BeginDrain() override {
    gateway_.SetServing(false);
    server_->BeginDrain();
  }

  void Shutdown(std::chrono::milliseconds limit) override { server_->Shutdown(limit); }

 private:
  OpenAiGateway gateway_;
  std::unique_ptr<HttpServer> server_;  // last: stops before the gateway goes
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpApi>> HttpApi::Start(const HttpApiOptions& options,
                                                        const std::string& tokenizer_dir,
                                                        const AccessControl& access,
                                                        Engine& engine, Metrics& metrics) {
  OpenAiGatewayOptions gateway{.timeout = options.timeout,
                               .cors_origin = options.cors_origin,
                               .foreign_chat_template = "",
                               .stream_queue_bytes = options.stream_queue_bytes,
                               .access = &access};
  if (!options.plain_chat_template) {
    gateway.foreign_chat_template = ForeignChatTemplate(tokenizer_dir);
  }
  auto api = std::make_unique<GatewayApi>(std::move(gateway), engine, metrics);
  if (absl::Status status = api->Listen(options.server); !status.ok()) return status;
  return api;
}

}  // namespace based
