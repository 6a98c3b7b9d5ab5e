#include "server/debug_page.h"

#include <algorithm>
#include <limits>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "civetweb.h"

namespace based {
namespace {

int Answer(mg_connection* connection, int code, absl::string_view reason,
           absl::string_view content_type, absl::string_view body) {
  const std::string message =
      absl::StrCat("HTTP/1.1 ", code, " ", reason, "\r\nContent-Type: ", content_type,
                   "; charset=utf-8\r\nContent-Length: ", body.size(),
                   "\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
                   "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n"
                   "Connection: close\r\n\r\n",
                   body);
  mg_write(connection, message.data(), message.size());
  return code;
}

bool IsLocal(const mg_request_info& request) {
  const absl::string_view peer = absl::StripPrefix(request.remote_addr, "::ffff:");
  return peer == "::1" || absl::StartsWith(peer, "127.");
}

// Null when the request is answered already.
const DebugSource* Admit(mg_connection* connection, void* source) {
  const mg_request_info& request = *mg_get_request_info(connection);
  if (absl::string_view(request.request_method) != "GET") {
    Answer(connection, 405, "Method Not Allowed", "text/plain", "only GET\n");
    return nullptr;
  }
  if (!IsLocal(request)) {
    Answer(connection, 403, "Forbidden", "text/plain",
           "shown on the daemon's own machine alone; see AdminService\n");
    return nullptr;
  }
  return static_cast<const DebugSource*>(source);
}

// Empty where the query has none of that name.
std::string QueryField(mg_connection* connection, const char* name) {
  const char* const query = mg_get_request_info(connection)->query_string;
  if (query == nullptr) return "";
  std::string value(absl::string_view(query).size() + 1, '\0');
  const int bytes = mg_get_var(query, value.size() - 1, name, value.data(), value.size());
  value.resize(static_cast<size_t>(std::max(bytes, 0)));
  return value;
}

int HandleHtml(mg_connection* connection, void* data) {
  const DebugSource* source = Admit(connection, data);
  if (source == nullptr) return 400;
  return Answer(connection, 200, "OK", "text/html", DebugHtml((*source)(true)));
}

int HandleJson(mg_connection* connection, void* data) {
  const DebugSource* source = Admit(connection, data);
  if (source == nullptr) return 400;
  const std::string requests = QueryField(connection, "requests");
  uint32_t most = std::numeric_limits<uint32_t>::max();
  if (!requests.empty() && !absl::SimpleAtoi(requests, &most)) {
    return Answer(connection, 400, "Bad Request", "text/plain",
                  absl::StrCat("requests is '", absl::CHexEscape(requests),
                               "'; expected a number of requests\n"));
  }
  const bool steps = QueryField(connection, "steps") != "0";
  return Answer(connection, 200, "OK", "application/json", DebugJson((*source)(steps), most));
}

}  // namespace

void AddDebugPages(mg_context* context, const DebugSource* source) {
  void* data = const_cast<DebugSource*>(source);
  mg_set_request_handler(context, "/debug$", HandleHtml, data);
  mg_set_request_handler(context, "/debug.json$", HandleJson, data);
}

}  // namespace based
