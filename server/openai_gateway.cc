#include "server/openai_gateway.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "engine/utf8.h"
#include "kernels/base/status.h"
#include "server/convert.h"
#include "server/http_log.h"
#include "server/openai_call.h"
#include "server/openai_fields.h"
#include "server/openai_json.h"
#include "server/request_id.h"
#include "server/version.h"

namespace based {
namespace {

constexpr char kRequestId[] = "x-request-id";
constexpr char kTimeout[] = "x-request-timeout-ms";
constexpr char kIgnoredFields[] = "x-based-ignored-fields";
constexpr int64_t kMaxTimeoutMs = 24 * 3600 * 1000;
constexpr char kModelPrefix[] = "/v1/models/";
constexpr char kHealth[] = "/health";

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
      list += absl::ascii_isalnum(static_cast<uint8_t>(c)) || c == '_' || c == '-' ? c : '?';
    }
  }
  if (names.size() > kMostNames) list += ", ...";
  return list;
}

absl::Status NoTokenizer(const Model& model) {
  if (model.tokenizer != nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("model '", model.name,
                   "' has no tokenizer; use token ids, or start the daemon with --tokenizer"));
}

// One completion's model entry, as OpenAI lists it.
std::string ModelJson(const Model& model, int64_t created, int64_t max_prompt_tokens) {
  return absl::StrCat("{\"id\":", JsonString(model.name), ",\"object\":\"model\",\"created\":",
                      created, ",\"owned_by\":\"based-serve\",\"max_model_len\":",
                      max_prompt_tokens, "}");
}

}  // namespace

struct OpenAiGateway::Call {
  std::shared_ptr<HttpExchange> exchange;
  std::string request_id;
  Clock::time_point arrival = Clock::now();
  std::vector<HttpHeader> headers{};  // of every answer
  OpenAiEndpoint endpoint = OpenAiEndpoint::kCompletions;
  Caller caller{};
};

struct OpenAiGateway::Route {
  absl::string_view method;
  absl::string_view path;  // or a prefix, if it ends with '/'
  OpenAiEndpoint endpoint;
  void (OpenAiGateway::*handle)(Call&);
};

const std::vector<OpenAiGateway::Route>& OpenAiGateway::Routes() {
  using Endpoint = OpenAiEndpoint;
  static const auto* routes = new std::vector<Route>{
      {"POST", "/v1/completions", Endpoint::kCompletions, &OpenAiGateway::Complete},
      {"POST", "/v1/chat/completions", Endpoint::kChat, &OpenAiGateway::Chat},
      {"POST", "/v1/embeddings", Endpoint::kCompletions, &OpenAiGateway::Embed},
      {"GET", "/v1/models", Endpoint::kCompletions, &OpenAiGateway::ListModels},
      {"GET", kModelPrefix, Endpoint::kCompletions, &OpenAiGateway::GetModel},
      {"POST", "/tokenize", Endpoint::kTokenize, &OpenAiGateway::Tokenize},
      {"POST", "/detokenize", Endpoint::kDetokenize, &OpenAiGateway::Detokenize},
      {"GET", kHealth, Endpoint::kCompletions, &OpenAiGateway::Health},
  };
  return *routes;
}

OpenAiGateway::OpenAiGateway(OpenAiGatewayOptions options, Engine& engine, Metrics& metrics)
    : options_(std::move(options)),
      engine_(engine),
      metrics_(metrics),
      model_{.name = engine.model().name,
             .has_tokenizer = engine.model().tokenizer != nullptr,
             .foreign_chat_template = options_.foreign_chat_template},
      created_(SecondsNow()) {}

void OpenAiGateway::Handle(const std::shared_ptr<HttpExchange>& exchange) {
  const HttpRequest& request = exchange->request();
  Call call{.exchange = exchange, .request_id = RequestIdFrom(View(request.Header(kRequestId)))};
  call.headers.push_back({kRequestId, call.request_id});
  if (!options_.cors_origin.empty()) {
    call.headers.push_back({"access-control-allow-origin", options_.cors_origin});
    call.headers.push_back({"access-control-expose-headers",
                            absl::StrCat(kRequestId, ", ", kIgnoredFields, ", retry-after")});
    call.headers.push_back({"vary", "origin"});
    if (request.method == "OPTIONS") {  // a browser asks before it calls
      call.headers.push_back({"access-control-allow-methods", "GET, POST"});
      call.headers.push_back({"access-control-allow-headers",
                              absl::StrCat("authorization, content-type, ", kRequestId, ", ",
                                           kTimeout)});
      call.headers.push_back({"access-control-max-age", "3600"});
      return Answer(call, {.status = 204});
    }
  }
  const Route* route = FindRoute(call);
  if (route == nullptr) return;
  if (const absl::Status status = Admit(call); !status.ok()) {
    metrics_.OnRejected(status);
    return Refuse(call, status);
  }
  (this->*route->handle)(call);
}

// Everything but /health asks for a key, where keys are in force.
absl::Status OpenAiGateway::Admit(Call& call) const {
  const HttpRequest& request = call.exchange->request();
  if (options_.access == nullptr || request.path == kHealth) return absl::OkStatus();
  BASED_ASSIGN_OR_RETURN(call.caller,
                         Authorize(*options_.access, Permission::kGenerate,
                                   {.authorization = View(request.Header("authorization")),
                                    .peer = request.peer,
                                    .request_id = call.request_id}));
  return absl::OkStatus();
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
  const absl::string_view encoding = View(request.Header("content-encoding"));
  if (found->method == "POST" && (!IsJson(View(request.Header("content-type"))) ||
                                  !(encoding.empty() || encoding == "identity"))) {
    Refuse(call, HttpError(
                     415, "expected content-type: application/json and no content-encoding"));
    return nullptr;
  }
  call.endpoint = found->endpoint;
  return found;
}

void OpenAiGateway::Answer(Call& call, HttpResponse response, const std::string& message) {
  response.headers.insert(response.headers.end(), call.headers.begin(), call.headers.end());
  LogHttpCall(call.exchange->request(), call.request_id,
              {.status = response.status,
               .message = message,
               .total = Clock::now() - call.arrival});
  call.exchange->Respond(std::move(response));
}

void OpenAiGateway::Refuse(Call& call, const OpenAiError& error) {
  Answer(call, ErrorResponse(error), error.message);
}

void OpenAiGateway::Refuse(Call& call, const absl::Status& status) {
  Refuse(call, ErrorOfStatus(status, call.endpoint));
}

absl::StatusOr<Clock::time_point> OpenAiGateway::DeadlineOf(const HttpRequest& request) const {
  const absl::string_view text = View(request.Header(kTimeout));
  int64_t timeout = options_.timeout.count();
  if (!text.empty() &&
      (!absl::SimpleAtoi(text, &timeout) || timeout < 1 || timeout > kMaxTimeoutMs)) {
    return absl::InvalidArgumentError(absl::StrCat("the header ", kTimeout,
                                                   " is no number of milliseconds in [1, ",
                                                   kMaxTimeoutMs, "]"));
  }
  if (timeout == 0) return Clock::time_point::max();
  return Clock::now() + std::chrono::milliseconds(timeout);
}

void OpenAiGateway::Complete(Call& call) {
  const absl::StatusOr<nlohmann::json> body = ParseBody(call.exchange->TakeBody());
  StartCall(call, body.ok() ? ReadCompletion(*body, model_) : body.status());
}

void OpenAiGateway::Chat(Call& call) {
  const absl::StatusOr<nlohmann::json> body = ParseBody(call.exchange->TakeBody());
  StartCall(call, body.ok() ? ReadChat(*body, model_) : body.status());
}

void OpenAiGateway::StartCall(Call& call, absl::StatusOr<OpenAiRequest> request) {
  const absl::StatusOr<Clock::time_point> deadline = DeadlineOf(call.exchange->request());
  const absl::Status status = request.ok() ? deadline.status() : request.status();
  if (!status.ok()) {
    metrics_.OnRejected(status);
    return Refuse(call, status);
  }
  if (!request->ignored.empty()) {
    call.headers.push_back({kIgnoredFields, HeaderList(request->ignored)});
  }
  for (Request& one : request->requests) {
    one.request_id = call.request_id;
    one.deadline = *deadline;
    one.tenant = call.caller.tenant;
  }
  const Model& model = engine_.model();
  OpenAiReplyOptions options{
      .chat = request->chat,
      .id = absl::StrCat(request->chat ? "chatcmpl-" : "cmpl-", call.request_id),
      .created = SecondsNow(),
      .model = model.name,
      .fingerprint = absl::StrCat("based-", kVersion, "-", model.checkpoint.digest.substr(0, 12)),
      .headers = call.headers,
      .include_usage = request->include_usage,
      .logprobs = request->logprobs,
      .top_logprobs = request->requests[0].output.top_logprobs > 0,
      .token_ids = request->token_ids,
      .prompts = static_cast<int32_t>(request->requests.size()),
      .n = request->requests[0].n,
      .tokenizer = model.tokenizer.get(),
      .queue_bytes = options_.stream_queue_bytes};
  auto reply = request->stream ? NewStreamReply(std::move(options), call.exchange)
                               : NewWholeReply(std::move(options), call.exchange);
  std::make_shared<OpenAiCall>(engine_, metrics_, call.exchange, call.endpoint, call.request_id,
                               std::move(reply))
      ->Start(std::move(request->requests));
}

void OpenAiGateway::Embed(Call& call) {
  Refuse(call, absl::UnimplementedError(
                   "embeddings are not served: the model generates text; use /v1/completions"));
}

void OpenAiGateway::ListModels(Call& call) {
  Answer(call, {.body = absl::StrCat("{\"object\":\"list\",\"data\":[",
                                     ModelJson(engine_.model(), created_,
                                               engine_.capacity().max_prompt_tokens),
                                     "]}")});
}

void OpenAiGateway::GetModel(Call& call) {
  const std::string name = call.exchange->request().path.substr(sizeof(kModelPrefix) - 1);
  const absl::Status named = CheckModelName(name, model_.name);
  if (!named.ok() || name.empty()) {
    return Refuse(call, named.ok() ? absl::NotFoundError("model is not named") : named);
  }
  Answer(call, {.body = ModelJson(engine_.model(), created_,
                                  engine_.capacity().max_prompt_tokens)});
}

void OpenAiGateway::Tokenize(Call& call) {
  const Model& model = engine_.model();
  const auto tokens = [&]() -> absl::StatusOr<std::vector<int32_t>> {
    BASED_ASSIGN_OR_RETURN(const nlohmann::json body, ParseBody(call.exchange->TakeBody()));
    std::vector<std::string> ignored;
    BASED_RETURN_IF_ERROR(CheckOpenAiFields(body, call.endpoint, ignored));
    OpenAiFields fields(body);
    std::string name;
    std::string prompt;
    fields.Read("model", name);
    fields.Read("prompt", prompt);
    BASED_RETURN_IF_ERROR(fields.status());
    BASED_RETURN_IF_ERROR(CheckModelName(name, model.name));
    BASED_RETURN_IF_ERROR(NoTokenizer(model));
    return model.tokenizer->Encode(prompt);
  }();
  if (!tokens.ok()) return Refuse(call, tokens.status());
  Answer(call, {.body = absl::StrCat("{\"count\":", tokens->size(), ",\"max_model_len\":",
                                     engine_.capacity().max_prompt_tokens, ",\"tokens\":[",
                                     absl::StrJoin(*tokens, ","), "]}")});
}

void OpenAiGateway::Detokenize(Call& call) {
  const Model& model = engine_.model();
  const auto text = [&]() -> absl::StatusOr<std::string> {
    BASED_ASSIGN_OR_RETURN(const nlohmann::json body, ParseBody(call.exchange->TakeBody()));
    std::vector<std::string> ignored;
    BASED_RETURN_IF_ERROR(CheckOpenAiFields(body, call.endpoint, ignored));
    OpenAiFields fields(body);
    std::string name;
    std::vector<int32_t> ids;
    bool skip_special = false;
    fields.Read("model", name);
    fields.Read("tokens", ids);
    fields.Read("skip_special_tokens", skip_special);
    BASED_RETURN_IF_ERROR(fields.status());
    BASED_RETURN_IF_ERROR(CheckModelName(name, model.name));
    BASED_RETURN_IF_ERROR(NoTokenizer(model));
    Utf8Stream utf8;
    std::string decoded;
    for (size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] < 0 || ids[i] >= model.config.vocab_size) {
        return absl::InvalidArgumentError(absl::StrCat("tokens[", i, "] is ", ids[i],
                                                       "; expected a token id in [0, ",
                                                       model.config.vocab_size, ")"));
      }
      decoded += utf8.Push(model.tokenizer->Bytes(ids[i], skip_special));
    }
    return decoded + utf8.Finish();
  }();
  if (!text.ok()) return Refuse(call, text.status());
  Answer(call, {.body = absl::StrCat("{\"prompt\":", JsonString(*text), "}")});
}

void OpenAiGateway::Health(Call& call) {
  absl::Status health = engine_.health();
  if (health.ok() && !serving_) health = absl::UnavailableError("the daemon is draining");
  if (!health.ok()) return Refuse(call, absl::UnavailableError(health.message()));
  Answer(call, {.body = "{\"status\":\"ok\"}"});
}

}  // namespace based
