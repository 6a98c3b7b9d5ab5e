#include "server/openai_gateway.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "server/convert.h"
#include "server/http_log.h"
#include "server/openai_call.h"
#include "server/openai_json.h"
#include "server/openai_tokenizer.h"
#include "server/request_id.h"

namespace based {
namespace {

constexpr char kRequestId[] = "x-request-id";
constexpr char kTimeout[] = "x-request-timeout-ms";
constexpr char kIgnoredFields[] = "x-based-ignored-fields";
constexpr int64_t kMaxTimeoutMs = 24 * 3600 * 1000;
constexpr char kModelPrefix[] = "/v1/models/";

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

int64_t SecondsNow() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

bool IsJson(absl::string_view content_type) {
  const absl::string_view type = content_type.substr(0, content_type.find(';'));
  return absl::EqualsIgnoreCase(absl::StripAsciiWhitespace(type), "application/json");
}

// Names as a header's value: what a client may have made them of is not ours to repeat.
std::string HeaderList(const std::vector<std::string>& names) {
  constexpr size_t kMostNames = 20;
  constexpr size_t kMostBytes = 64;
  std::string list;
  for (size_t i = 0; i < std::min(names.size(), kMostNames); ++i) {
    if (i > 0) list += ", ";
    for (const char c : names[i].substr(0, kMostBytes)) {
      list += absl::ascii_isalnum(static_cast<uint8_t>(c)) || c == '_' || c == '-' || c == '.'
                  ? c
                  : '?';
    }
  }
  if (names.size() > kMostNames) list += ", ...";
  return list;
}

// As OpenAI lists it, and what `based bench` makes its prompts of.
std::string ModelJson(const Engine& engine, int64_t created) {
  return absl::StrCat(
      "{\"id\":", JsonString(engine.model().name), ",\"object\":\"model\",\"created\":", created,
      ",\"owned_by\":\"based-serve\",\"max_model_len\":", engine.capacity().max_prompt_tokens,
      ",\"vocab_size\":", engine.model().config.vocab_size, "}");
}

// Counts and logs one completion.
class CallLog final : public OpenAiCallObserver {
 public:
  CallLog(Metrics& metrics, std::shared_ptr<HttpExchange> exchange, OpenAiEndpoint endpoint,
          std::string request_id, std::string tenant)
      : metrics_(metrics),
        exchange_(std::move(exchange)),
        endpoint_(endpoint),
        request_id_(std::move(request_id)),
        tenant_(std::move(tenant)) {
    metrics_.OnStreamOpened();
  }
  ~CallLog() override { metrics_.OnStreamClosed(); }

  void OnEnd(const OpenAiCallSummary& summary) override {
    const absl::Status& status = summary.status;
    const int code = status.ok() ? 200 : ErrorOfStatus(status, endpoint_).status;
    metrics_.OnHttpResponse(code);
    LogHttpCall(exchange_->request(), request_id_,
                {.status = code,
                 .message = std::string(status.message()),
                 .tenant = tenant_,
                 .prompt_tokens = summary.prompt_tokens,
                 .generated_tokens = summary.generated_tokens,
                 .timings = summary.timings,
                 .total = summary.total});
  }

 private:
  Metrics& metrics_;
  const std::shared_ptr<HttpExchange> exchange_;
  const OpenAiEndpoint endpoint_;
  const std::string request_id_;
  const std::string tenant_;
};

}  // namespace

struct OpenAiGateway::Served {
  Engine& engine;
  OpenAiModel model;
};

struct OpenAiGateway::Call {
  std::shared_ptr<HttpExchange> exchange;
  std::string request_id;
  Clock::time_point arrival = Clock::now();
  std::vector<HttpHeader> headers{};  // of every answer
  OpenAiEndpoint endpoint = OpenAiEndpoint::kCompletions;
  Caller caller{};
  const Served* served = nullptr;  // set once the call is admitted
};

// Who may call: anybody, whoever has a key, or whoever has one with the permission.
enum class Asks { kNothing, kKey, kGenerate };

struct OpenAiGateway::Route {
  absl::string_view method;
  absl::string_view path;  // or a prefix, if it ends with '/'
  OpenAiEndpoint endpoint;
  Asks asks;
  void (OpenAiGateway::*handle)(Call&);
};

const std::vector<OpenAiGateway::Route>& OpenAiGateway::Routes() {
  using Endpoint = OpenAiEndpoint;
  using Gateway = OpenAiGateway;
  static const auto* routes = new std::vector<Route>{
      {"POST", "/v1/completions", Endpoint::kCompletions, Asks::kGenerate, &Gateway::Complete},
      {"POST", "/v1/chat/completions", Endpoint::kChat, Asks::kGenerate, &Gateway::Chat},
      {"POST", "/v1/embeddings", Endpoint::kCompletions, Asks::kGenerate, &Gateway::Embed},
      {"GET", "/v1/models", Endpoint::kCompletions, Asks::kKey, &Gateway::ListModels},
      {"GET", kModelPrefix, Endpoint::kCompletions, Asks::kKey, &Gateway::GetModel},
      {"POST", "/tokenize", Endpoint::kTokenize, Asks::kKey, &Gateway::Tokenize},
      {"POST", "/detokenize", Endpoint::kDetokenize, Asks::kKey, &Gateway::Detokenize},
      {"GET", "/health", Endpoint::kCompletions, Asks::kNothing, &Gateway::Health},
  };
  return *routes;
}

OpenAiGateway::OpenAiGateway(OpenAiGatewayOptions options, const AccessControl& access,
                             Metrics& metrics)
    : options_(std::move(options)), access_(access), metrics_(metrics), created_(SecondsNow()) {}

OpenAiGateway::~OpenAiGateway() = default;

void OpenAiGateway::Serve(Engine& engine, const ChatFormat& chat) {
  loaded_ = std::make_unique<Served>(
      Served{.engine = engine, .model = OpenAiModelOf(engine.model(), chat)});
  served_.store(loaded_.get(), std::memory_order_release);
}

void OpenAiGateway::Handle(const std::shared_ptr<HttpExchange>& exchange) {
  const HttpRequest& request = exchange->request();
  Call call{.exchange = exchange, .request_id = RequestIdFrom(View(request.Header(kRequestId)))};
  call.headers.push_back({kRequestId, call.request_id});
  if (!options_.cors_origin.empty()) {
    AllowOrigin(call);
    // A browser asks before it calls, without the key.
    if (request.method == "OPTIONS") return Answer(call, {.status = 204});
  }
  const Route* route = FindRoute(call);
  if (route != nullptr && Admit(call, *route)) (this->*route->handle)(call);
}

void OpenAiGateway::AllowOrigin(Call& call) const {
  call.headers.push_back({"access-control-allow-origin", options_.cors_origin});
  call.headers.push_back({"access-control-expose-headers",
                          absl::StrCat(kRequestId, ", ", kIgnoredFields, ", retry-after")});
  call.headers.push_back({"vary", "origin"});
  if (call.exchange->request().method != "OPTIONS") return;
  call.headers.push_back({"access-control-allow-methods", "GET, POST"});
  call.headers.push_back(
      {"access-control-allow-headers", absl::StrCat("authorization, content-type, ", kRequestId,
                                                    ", ", kTenantMetadata, ", ", kTimeout)});
  call.headers.push_back({"access-control-max-age", "3600"});
}

// Null when none fits: the call is then answered.
const OpenAiGateway::Route* OpenAiGateway::FindRoute(Call& call) {
  const HttpRequest& request = call.exchange->request();
  const Route* found = nullptr;
  for (const Route& route : Routes()) {
    const bool prefix = absl::EndsWith(route.path, "/");
    if (prefix ? absl::StartsWith(request.path, route.path) : request.path == route.path) {
      found = &route;
    }
  }
  if (found == nullptr) {
    const auto append = [](std::string* out, const Route& route) {
      absl::StrAppend(out, route.path);
    };
    Refuse(call, HttpError(404, absl::StrCat("unknown URL; this daemon serves ",
                                             absl::StrJoin(Routes(), ", ", append))));
    return nullptr;
  }
  const bool head = request.method == "HEAD" && found->method == "GET";
  if (request.method != found->method && !head) {
    call.headers.push_back({"allow", std::string(found->method)});
    Refuse(call, HttpError(405, absl::StrCat("expected ", found->method)));
    return nullptr;
  }
  call.endpoint = found->endpoint;
  return found;
}

bool OpenAiGateway::Admit(Call& call, const Route& route) {
  const HttpRequest& request = call.exchange->request();
  call.served = served_.load(std::memory_order_acquire);
  if (route.asks == Asks::kNothing) return true;
  const Attempt attempt = {.authorization = View(request.Header("authorization")),
                           .tenant = View(request.Header(kTenantMetadata)),
                           .peer = request.peer,
                           .request_id = call.request_id};
  const bool generates = route.asks == Asks::kGenerate;
  absl::StatusOr<Caller> caller =
      generates ? Authorize(access_, Permission::kGenerate, attempt) : Authorize(access_, attempt);
  absl::Status status = caller.status();
  if (status.ok() && call.served == nullptr) {
    status = absl::UnavailableError("the model is loading");
  }
  if (!status.ok()) {
    if (generates) metrics_.OnRejected(status);
    Refuse(call, status);
    return false;
  }
  call.caller = *std::move(caller);
  const absl::string_view encoding = View(request.Header("content-encoding"));
  if (route.method == "POST" && (!IsJson(View(request.Header("content-type"))) ||
                                 !(encoding.empty() || encoding == "identity"))) {
    Refuse(call, HttpError(415, "expected content-type: application/json and no content-encoding"));
    return false;
  }
  return true;
}

void OpenAiGateway::Answer(Call& call, HttpResponse response, const std::string& message) {
  response.headers.insert(response.headers.end(), call.headers.begin(), call.headers.end());
  metrics_.OnHttpResponse(response.status);
  LogHttpCall(call.exchange->request(), call.request_id,
              {.status = response.status,
               .message = message,
               .tenant = call.caller.tenant,
               .total = Clock::now() - call.arrival});
  call.exchange->Respond(std::move(response));
}

void OpenAiGateway::Refuse(Call& call, const OpenAiError& error) {
  Answer(call, ErrorResponse(error), error.message);
}

void OpenAiGateway::Refuse(Call& call, const absl::Status& status) {
  Refuse(call, ErrorOfStatus(status, call.endpoint));
}

void OpenAiGateway::TellIgnored(Call& call, const std::vector<std::string>& ignored) {
  if (!ignored.empty()) call.headers.push_back({kIgnoredFields, HeaderList(ignored)});
}

void OpenAiGateway::AnswerJson(Call& call, absl::StatusOr<std::string> body) {
  if (!body.ok()) return Refuse(call, body.status());
  Answer(call, {.body = *std::move(body)});
}

absl::StatusOr<Clock::time_point> OpenAiGateway::DeadlineOf(const HttpRequest& request) const {
  const absl::string_view text = View(request.Header(kTimeout));
  int64_t timeout = options_.timeout.count();
  if (!text.empty() &&
      (!absl::SimpleAtoi(text, &timeout) || timeout < 1 || timeout > kMaxTimeoutMs)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the header ", kTimeout, " is no number of milliseconds in [1, ", kMaxTimeoutMs, "]"));
  }
  if (timeout == 0) return Clock::time_point::max();
  return Clock::now() + std::chrono::milliseconds(timeout);
}

void OpenAiGateway::Complete(Call& call) {
  const std::string raw = call.exchange->TakeBody();
  const absl::StatusOr<nlohmann::json> body = ParseBody(raw);
  StartCall(call, body.ok() ? ReadCompletion(*body, raw, call.served->model) : body.status());
}

void OpenAiGateway::Chat(Call& call) {
  const std::string raw = call.exchange->TakeBody();
  const absl::StatusOr<nlohmann::json> body = ParseBody(raw);
  StartCall(call, body.ok() ? ReadChat(*body, raw, call.served->model) : body.status());
}

void OpenAiGateway::StartCall(Call& call, absl::StatusOr<OpenAiRequest> request) {
  const absl::StatusOr<Clock::time_point> deadline = DeadlineOf(call.exchange->request());
  const absl::Status status = request.ok() ? deadline.status() : request.status();
  if (!status.ok()) {
    metrics_.OnRejected(status);
    return Refuse(call, status);
  }
  TellIgnored(call, request->ignored);
  for (Request& one : request->requests) {
    one.request_id = call.request_id;
    one.tenant = call.caller.tenant;
    one.deadline = *deadline;
  }
  Engine& engine = call.served->engine;
  OpenAiReplyOptions options = ReplyOptionsOf(*request, engine.model(), call.request_id);
  options.headers = call.headers;
  options.queue_bytes = options_.stream_queue_bytes;
  auto reply = request->stream ? NewStreamReply(std::move(options), call.exchange)
                               : NewWholeReply(std::move(options), call.exchange);
  auto observer = std::make_unique<CallLog>(metrics_, call.exchange, call.endpoint, call.request_id,
                                            call.caller.tenant);
  std::make_shared<OpenAiCall>(engine, call.exchange, request->names, std::move(reply),
                               std::move(observer))
      ->Start(std::move(request->requests));
}

void OpenAiGateway::Embed(Call& call) {
  Refuse(call, absl::UnimplementedError(
                   "embeddings are not served: the model generates text; use /v1/completions"));
}

void OpenAiGateway::ListModels(Call& call) {
  Answer(call, {.body = absl::StrCat("{\"object\":\"list\",\"data\":[",
                                     ModelJson(call.served->engine, created_), "]}")});
}

void OpenAiGateway::GetModel(Call& call) {
  const std::string name = call.exchange->request().path.substr(sizeof(kModelPrefix) - 1);
  const absl::Status named = CheckModelName(name, call.served->model.name);
  if (!named.ok() || name.empty()) {
    return Refuse(call, named.ok() ? absl::NotFoundError("model is not named") : named);
  }
  Answer(call, {.body = ModelJson(call.served->engine, created_)});
}

void OpenAiGateway::Tokenize(Call& call) {
  std::vector<std::string> ignored;
  auto answer = TokenizeJson(call.exchange->TakeBody(), call.served->engine,
                             call.served->model.chat.chat_template, ignored);
  TellIgnored(call, ignored);
  AnswerJson(call, std::move(answer));
}

void OpenAiGateway::Detokenize(Call& call) {
  std::vector<std::string> ignored;
  auto answer = DetokenizeJson(call.exchange->TakeBody(), call.served->engine, ignored);
  TellIgnored(call, ignored);
  AnswerJson(call, std::move(answer));
}

void OpenAiGateway::Health(Call& call) {
  absl::Status health = absl::UnavailableError("the model is loading");
  if (call.served != nullptr) health = call.served->engine.health();
  if (health.ok() && !serving_) health = absl::UnavailableError("the daemon is draining");
  if (!health.ok()) return Refuse(call, absl::UnavailableError(health.message()));
  Answer(call, {.body = "{\"status\":\"ok\"}"});
}

}  // namespace based
