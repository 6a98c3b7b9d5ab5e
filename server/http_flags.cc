#include "server/http_flags.h"

#include <string>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"
#include "server/network_flags.h"

ABSL_FLAG(std::string, http_listen, "127.0.0.1:7480",
          "HOST:PORT for the OpenAI-compatible HTTP API; empty: none.");
ABSL_FLAG(int32_t, http_max_connections, 4096,
          "HTTP connections at a time; more are closed at once.");
ABSL_FLAG(int32_t, http_timeout_ms, 0,
          "HTTP calls end after so long, unless they say x-request-timeout-ms; 0: never.");
ABSL_FLAG(std::string, http_cors_origin, "",
          "Origin, e.g. https://chat.example, whose pages may call the HTTP API; empty: none.");
ABSL_FLAG(std::string, http_chat_template, "auto",
          "Of chats over HTTP, gRPC and in batches: auto: the chat template that the model brings, "
          "or the plain one where it brings none; plain: the plain template in any case.");

namespace based {
namespace {

absl::Status Wrong(absl::string_view flag, auto value, absl::string_view expected) {
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, " is '", value, "'; expected ", expected));
}

}  // namespace

absl::Status ReadHttpFlags(const ServerOptions& server, HttpApiOptions& http) {
  http.server.listen = absl::GetFlag(FLAGS_http_listen);
  if (!http.server.listen.empty()) {
    BASED_RETURN_IF_ERROR(CheckAddress("http_listen", http.server.listen));
  }
  http.server.max_connections = absl::GetFlag(FLAGS_http_max_connections);
  if (http.server.max_connections < 1) {
    return Wrong("http_max_connections", http.server.max_connections, "1 or more");
  }
  const int32_t timeout = absl::GetFlag(FLAGS_http_timeout_ms);
  if (timeout < 0) return Wrong("http_timeout_ms", timeout, "0 or more");
  http.timeout = std::chrono::milliseconds(timeout);
  http.cors_origin = absl::GetFlag(FLAGS_http_cors_origin);
  if (http.cors_origin.find_first_of(" \r\n\t,") != std::string::npos) {
    return Wrong("http_cors_origin", http.cors_origin, "one origin, e.g. https://chat.example");
  }
  const std::string chat = absl::GetFlag(FLAGS_http_chat_template);
  if (chat != "auto" && chat != "plain") return Wrong("http_chat_template", chat, "auto or plain");
  http.plain_chat_template = chat == "plain";
  http.server.write_timeout = server.write_timeout;
  http.stream_queue_bytes = static_cast<size_t>(server.stream_queue) * 1024;
  return absl::OkStatus();
}

FlagGroup HttpFlags() {
  return {"HTTP",
          {"http_listen", "http_max_connections", "http_timeout_ms", "http_cors_origin",
           "http_chat_template"}};
}

}  // namespace based
