// A load test's requests as streams of the HTTP API.
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <limits>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/bench_transport.h"
#include "client/completion_event.h"
#include "client/sse_parser.h"
#include "engine/json_fields.h"
#include "engine/json_file.h"
#include "kernels/base/mutex.h"
#include "kernels/base/status.h"
#include "nlohmann/json.hpp"

namespace based {
namespace {

constexpr int kOk = 200;
constexpr size_t kMostAnswerBytes = 1 << 20;          // of what is no stream
constexpr int64_t kMostTimeoutMs = 24 * 3600 * 1000;  // that the daemon takes
constexpr int kJsonDepth = 16;
// An event takes a thread about 5 us (tests/bench/client_cost.py): one is enough for a small host.
constexpr unsigned kCoresPerThread = 8, kMostThreads = 4;

// A connection takes a descriptor, and shells allow few.
void AllowManyConnections() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

std::chrono::nanoseconds TimeoutOf(const RequestOptions& options) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
      std::chrono::duration<double>(options.timeout_s));
}

// What another answer than a stream says; "429 rate_limit_exceeded" and a message.
std::pair<std::string, std::string> RefusalOf(int status, const std::string& body) {
  const absl::StatusOr<CompletionEvent> event = ReadCompletionEvent(body);
  if (event.ok() && event->failed) {
    return {absl::StrCat(status, " ", event->error_code), event->error_message};
  }
  return {absl::StrCat(status), body.substr(0, 200)};
}

// One completion; deletes itself at its end.
class Stream final : public HttpListener {
 public:
  explicit Stream(LoadListener* listener) : listener_(listener) {}

  void OnSent() override { listener_->OnSent(); }
  void OnHead(int status) override { status_ = status; }

  void OnBody(std::string_view piece) override {
    if (status_ != kOk) {
      if (refusal_.size() < kMostAnswerBytes) refusal_ += piece;
      return;
    }
    const absl::Status parsed =
        parser_.Put(piece, [this](std::string_view data) { OnEvent(data); });
    if (!parsed.ok()) Fail("INVALID_ANSWER", parsed.message());
  }

  void OnEnd(const absl::Status& status) override {
    if (!status.ok()) {
      Fail(absl::StatusCodeToString(status.code()), status.message());
    } else if (status_ != kOk) {
      const auto [code, message] = RefusalOf(status_, refusal_);
      Fail(code, message);
    } else if (!done_) {
      Fail("INVALID_ANSWER", "the stream ended before [DONE]");
    } else if (!counted_) {
      Fail("INVALID_ANSWER", "no event has token_ids; the server does not know return_token_ids");
    }
    LoadListener* listener = listener_;
    const std::string code = std::move(code_), message = std::move(message_);
    delete this;
    listener->OnEnd(code, message);
  }

 private:
  void OnEvent(std::string_view data) {
    if (data == "[DONE]") {
      done_ = true;
      return;
    }
    const absl::StatusOr<CompletionEvent> event = ReadCompletionEvent(data);
    if (!event.ok()) return Fail("INVALID_ANSWER", event.status().message());
    if (event->failed) {
      return Fail(absl::StrCat(status_, " ", event->error_code), event->error_message);
    }
    if (event->tokens == 0) return;
    counted_ = true;
    listener_->OnTokens(event->tokens);
  }

  // The first counts.
  void Fail(absl::string_view code, absl::string_view message) {
    if (!code_.empty()) return;
    code_ = std::string(code);
    message_ = std::string(message);
  }

  LoadListener* const listener_;
  int status_ = 0;
  SseParser parser_;
  std::string refusal_;  // the body that came in place of a stream
  bool done_ = false, counted_ = false;
  std::string code_, message_;
};

// An answer as a whole.
class Whole final : public HttpListener {
 public:
  void OnHead(int status) override { status_ = status; }
  void OnBody(std::string_view piece) override {
    if (body_.size() < kMostAnswerBytes) body_ += piece;
  }
  void OnEnd(const absl::Status& status) override {
    MutexLock lock(mutex_);
    end_ = status;
    ended_.NotifyAll();
  }

  // The body of an answer with status 200.
  absl::StatusOr<std::string> Wait() {
    {
      MutexLock lock(mutex_);
      while (!end_) ended_.Wait(mutex_);
      BASED_RETURN_IF_ERROR(*end_);
    }
    if (status_ == kOk) return std::move(body_);
    const auto [code, message] = RefusalOf(status_, body_);
    return absl::FailedPreconditionError(absl::StrCat(code, ": ", message));
  }

 private:
  int status_ = 0;
  std::string body_;
  Mutex mutex_;
  CondVar ended_;
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);
};

class HttpTransport final : public LoadTransport {
 public:
  HttpTransport(std::vector<std::unique_ptr<HttpClient>> clients, const HttpTarget& target,
                const std::string& api_key, const RequestOptions& options)
      : options_(options),
        place_(absl::StrCat("http://", target.authority, "/v1/models")),
        headers_(absl::StrCat(
            " HTTP/1.1\r\nhost: ", target.authority, "\r\nuser-agent: based-bench\r\n",
            api_key.empty() ? "" : absl::StrCat("authorization: Bearer ", api_key, "\r\n"))),
        clients_(std::move(clients)) {}

  absl::StatusOr<ServedModel> FindModel() override {
    Whole answer;
    clients_[0]->Send(absl::StrCat("GET /v1/models", headers_, "\r\n"), TimeoutOf(options_),
                      &answer);
    const absl::StatusOr<std::string> body = answer.Wait();
    if (!body.ok()) {
      return absl::Status(body.status().code(),
                          absl::StrCat(place_, ": ", body.status().message(), " (see --http)"));
    }
    BASED_ASSIGN_OR_RETURN(const nlohmann::json models, ParseJsonObject(*body, place_, kJsonDepth));
    BASED_ASSIGN_OR_RETURN(const ServedModel model, Choose(models));
    Prepare(model.name);
    return model;
  }

  void Send(const BenchRequest& request, LoadListener* listener) override {
    const std::string body = absl::StrCat(body_begin_, request.output_tokens, ",\"prompt\":[",
                                          absl::StrJoin(request.prompt, ","), "]}");
    clients_[sent_++ % clients_.size()]->Send(
        absl::StrCat(head_begin_, body.size(), "\r\n\r\n", body), TimeoutOf(options_),
        new Stream(listener));
  }

  void CancelAll() override {
    for (const auto& client : clients_) client->CancelAll();
  }

 private:
  // The first of the list, or the one that --model names.
  absl::StatusOr<ServedModel> Choose(const nlohmann::json& models) const {
    const auto data = models.find("data");
    std::string names;
    for (const nlohmann::json& model : data != models.end() ? *data : nlohmann::json::array()) {
      JsonFields fields(model, place_, "data[].");
      const std::string name = fields.String("id");
      if (!options_.model.empty() && name != options_.model) {
        absl::StrAppend(&names, names.empty() ? "" : ", ", "'", name, "'");
        continue;
      }
      const int32_t vocab_size = fields.Int("vocab_size", 1, std::numeric_limits<int32_t>::max());
      BASED_RETURN_IF_ERROR(fields.status());
      return ServedModel{.server = place_, .name = name, .vocab_size = vocab_size};
    }
    return absl::NotFoundError(absl::StrCat(place_, ": no model '", options_.model, "'; there is ",
                                            names.empty() ? "none" : names));
  }

  // What all requests share.
  void Prepare(const std::string& model) {
    const auto timeout_ms =
        std::clamp(static_cast<int64_t>(1e3 * options_.timeout_s), int64_t{1}, kMostTimeoutMs);
    head_begin_ = absl::StrCat(
        "POST /v1/completions", headers_, "content-type: application/json\r\naccept: ",
        "text/event-stream\r\nx-request-timeout-ms: ", timeout_ms, "\r\ncontent-length: ");
    body_begin_ = absl::StrCat(
        "{\"model\":", nlohmann::json(model).dump(), ",\"temperature\":", options_.temperature,
        ",\"stream\":true,\"ignore_eos\":true,\"return_token_ids\":true,\"max_tokens\":");
  }

  const RequestOptions options_;
  const std::string place_;    // for messages
  const std::string headers_;  // of every request, from the end of its target on
  std::string head_begin_;     // of a completion, up to the length of the body
  std::string body_begin_;     // up to max_tokens
  std::atomic<size_t> sent_{0};
  std::vector<std::unique_ptr<HttpClient>> clients_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<LoadTransport>> NewHttpTransport(const HttpTarget& target,
                                                                const std::string& api_key,
                                                                const RequestOptions& options) {
  AllowManyConnections();
  std::vector<std::unique_ptr<HttpClient>> clients(
      std::clamp(std::thread::hardware_concurrency() / kCoresPerThread, 1u, kMostThreads));
  for (auto& client : clients) {
    BASED_ASSIGN_OR_RETURN(client, HttpClient::Open(target));
  }
  return std::make_unique<HttpTransport>(std::move(clients), target, api_key, options);
}

}  // namespace based
