// The daemon's HTTP API: OpenAI's completions, chat and models, and vLLM's tokenize, detokenize and
// health, over one engine. Thread-safe.
#ifndef BASED_SERVER_OPENAI_GATEWAY_H_
#define BASED_SERVER_OPENAI_GATEWAY_H_

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "server/access.h"
#include "server/http_server.h"
#include "server/metrics.h"
#include "server/openai_error.h"
#include "server/openai_model.h"

namespace based {

struct OpenAiGatewayOptions {
  // Calls that say nothing of it (x-request-timeout-ms) end after so long; 0: never.
  std::chrono::milliseconds timeout{0};
  std::string cors_origin;  // that browsers may call from; empty: none
  size_t stream_queue_bytes = 256 << 10;
};

class OpenAiGateway {
 public:
  // References must outlive the gateway and its calls.
  OpenAiGateway(OpenAiGatewayOptions options, const AccessControl& access, Metrics& metrics);
  ~OpenAiGateway();

  // Answers one request; an HttpServer::Handler.
  void Handle(const std::shared_ptr<HttpExchange>& exchange);

  // Calls reach `engine`, which outlives them, from now on; until then they are refused: the model
  // is loading. `chat`: see OpenAiModel. Call once.
  void Serve(Engine& engine, const ChatFormat& chat);

  // What /health says; calls are refused by the engine once it drains.
  void SetServing(bool serving) { serving_ = serving; }

 private:
  struct Route;
  struct Call;
  struct Served;

  static const std::vector<Route>& Routes();
  // False when the call is answered.
  bool Admit(Call& call, const Route& route);
  const Route* FindRoute(Call& call);
  void AllowOrigin(Call& call) const;
  void Answer(Call& call, HttpResponse response, const std::string& message = "");
  void Refuse(Call& call, const OpenAiError& error);
  void Refuse(Call& call, const absl::Status& status);
  // Names the fields in a header of the answer.
  static void TellIgnored(Call& call, const std::vector<std::string>& ignored);
  void AnswerJson(Call& call, absl::StatusOr<std::string> body);
  absl::StatusOr<Clock::time_point> DeadlineOf(const HttpRequest& request) const;

  void Complete(Call& call);
  void Chat(Call& call);
  void StartCall(Call& call, absl::StatusOr<OpenAiRequest> request);
  void Embed(Call& call);
  void ListModels(Call& call);
  void GetModel(Call& call);
  void Tokenize(Call& call);
  void Detokenize(Call& call);
  void Health(Call& call);

  const OpenAiGatewayOptions options_;
  const AccessControl& access_;
  Metrics& metrics_;
  const int64_t created_;  // seconds since 1970
  std::unique_ptr<const Served> loaded_;
  std::atomic<const Served*> served_{nullptr};  // loaded_, once other threads may use it
  std::atomic<bool> serving_{true};
};

}  // namespace based

#endif  // BASED_SERVER_OPENAI_GATEWAY_H_
