#include "server/metrics_listener.h"

#include <dlfcn.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "civetweb.h"
#include "server/host_check.h"
#include "server/live_page.h"
#include "server/network_flags.h"

namespace based {
namespace {

constexpr char kPlainText[] = "text/plain; charset=utf-8";
// The page runs its own files alone, whatever text a prompt or a label may bring into it.
constexpr char kContentPolicy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
constexpr char kPrometheusText[] = "text/plain; version=0.0.4; charset=utf-8";

constexpr std::chrono::milliseconds kVisitInterval(5);

// HOST of HOST:PORT, without the [..] of IPv6.
std::string HostOf(const std::string& address) {
  std::string host = address.substr(0, address.rfind(':'));
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  return host;
}

int Answer(mg_connection* connection, int code, absl::string_view reason, const char* content_type,
           absl::string_view body) {
  const bool head = absl::string_view(mg_get_request_info(connection)->request_method) == "HEAD";
  const std::string message =
      absl::StrCat("HTTP/1.1 ", code, " ", reason, "\r\nContent-Type: ", content_type,
                   "\r\nContent-Length: ", body.size(),
                   "\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n",
                   "Content-Security-Policy: ", kContentPolicy, "\r\nConnection: close\r\n\r\n",
                   head ? "" : body);
  mg_write(connection, message.data(), message.size());
  return code;
}

bool IsRead(mg_connection* connection) {
  const absl::string_view method = mg_get_request_info(connection)->request_method;
  return method == "GET" || method == "HEAD";
}

int RefuseMethod(mg_connection* connection) {
  return Answer(connection, 405, "Method Not Allowed", kPlainText, "only GET and HEAD\n");
}

std::string Decoded(absl::string_view text) {
  std::string decoded(text.size() + 1, '\0');
  const int bytes = mg_url_decode(text.data(), static_cast<int>(text.size()), decoded.data(),
                                  static_cast<int>(decoded.size()), /*is_form_url_encoded=*/1);
  decoded.resize(static_cast<size_t>(std::max(bytes, 0)));
  return decoded;
}

// The values of "name[]" in a query, whose length the listener bounds.
std::set<std::string> NamesOf(absl::string_view query) {
  std::set<std::string> names;
  for (const absl::string_view part : absl::StrSplit(query, '&')) {
    const std::pair<absl::string_view, absl::string_view> field =
        absl::StrSplit(part, absl::MaxSplits('=', 1));
    if (Decoded(field.first) == "name[]") names.insert(Decoded(field.second));
  }
  return names;
}

}  // namespace

// civetweb logs why it cannot start instead of returning it. The first line is kept; what it
// logs of single connections once it runs is dropped.
struct MetricsListener::StartLog {
  std::atomic<bool> starting{true};
  std::string reason;

  static int Keep(const mg_connection* connection, const char* line) {
    auto* listener = static_cast<MetricsListener*>(mg_get_user_data(mg_get_context(connection)));
    if (listener == nullptr) return 1;
    StartLog& log = *listener->start_log_;
    if (log.starting && log.reason.empty()) log.reason = line;
    return 1;
  }
};

MetricsListener::MetricsListener(const std::string& address, Handlers handlers)
    : host_(HostOf(address)),
      loopback_(IsLoopback(address)),
      handlers_(std::move(handlers)),
      start_log_(std::make_unique<StartLog>()) {}

absl::StatusOr<std::unique_ptr<MetricsListener>> MetricsListener::Start(const std::string& address,
                                                                        Handlers handlers) {
  std::unique_ptr<MetricsListener> listener(new MetricsListener(address, std::move(handlers)));
  // A peer that says nothing, or reads nothing, has a thread for a second. So many threads that a
  // hundred of them hold nobody up.
  const char* options[] = {"listening_ports",
                           address.c_str(),
                           "num_threads",
                           "128",
                           "request_timeout_ms",
                           "1000",
                           "enable_keep_alive",
                           "no",
                           nullptr};
  mg_callbacks callbacks{};
  callbacks.log_message = StartLog::Keep;
  callbacks.begin_request = CheckHost;
  listener->context_ = mg_start(&callbacks, listener.get(), options);
  listener->start_log_->starting = false;
  if (listener->context_ == nullptr) {
    return absl::UnavailableError(absl::StrCat(
        "cannot listen on ", address,
        " (--metrics_listen): the address is in use, or not an address of this machine (",
        listener->start_log_->reason, ")"));
  }
  mg_server_port port{};
  if (mg_get_server_ports(listener->context_, 1, &port) == 1) listener->port_ = port.port;
  mg_set_request_handler(listener->context_, "/metrics$", HandleMetrics, listener.get());
  mg_set_request_handler(listener->context_, "/healthz$", HandleHealth, listener.get());
  if (listener->handlers_.debug) AddDebugPages(listener->context_, &listener->handlers_.debug);
  mg_set_request_handler(listener->context_, "**", HandlePage, listener.get());
  return listener;
}

MetricsListener::~MetricsListener() {
  if (context_ == nullptr) return;
  // civetweb's thread sees that it is to stop after two seconds, or when somebody connects.
  std::atomic<bool> stopped{false};
  std::thread visitor([&] {
    while (!stopped) {
      char error[128];
      mg_connection* visit = mg_connect_client(host_.c_str(), port_, 0, error, sizeof(error));
      if (visit != nullptr) mg_close_connection(visit);
      std::this_thread::sleep_for(kVisitInterval);
    }
  });
  mg_stop(context_);
  stopped = true;
  visitor.join();
}

// 0: the request is to be answered.
int MetricsListener::CheckHost(mg_connection* connection) {
  const auto& self = *static_cast<MetricsListener*>(mg_get_user_data(mg_get_context(connection)));
  const char* const host = mg_get_header(connection, "Host");
  // Every browser sends one.
  if (!self.loopback_ || host == nullptr || NamesLoopback(host, self.host_)) return 0;
  return Answer(connection, 403, "Forbidden", kPlainText,
                absl::StrCat("Host is '", absl::CHexEscape(host),
                             "'; expected localhost or a loopback address, since that is where "
                             "this is served (--metrics_listen)\n"));
}

int MetricsListener::HandleMetrics(mg_connection* connection, void* self) {
  if (!IsRead(connection)) return RefuseMethod(connection);
  const char* const query = mg_get_request_info(connection)->query_string;
  const Handlers& handlers = static_cast<MetricsListener*>(self)->handlers_;
  return Answer(connection, 200, "OK", kPrometheusText,
                handlers.metrics(NamesOf(query == nullptr ? "" : query)));
}

int MetricsListener::HandleHealth(mg_connection* connection, void* self) {
  if (!IsRead(connection)) return RefuseMethod(connection);
  const absl::Status health = static_cast<MetricsListener*>(self)->handlers_.health();
  if (health.ok()) return Answer(connection, 200, "OK", kPlainText, "ok\n");
  return Answer(connection, 503, "Service Unavailable", kPlainText,
                absl::StrCat(health.message(), "\n"));
}

int MetricsListener::HandlePage(mg_connection* connection, void*) {
  if (!IsRead(connection)) return RefuseMethod(connection);
  const absl::string_view path = mg_get_request_info(connection)->local_uri;
  for (const PageFile& file : LivePage()) {
    if (file.path == path) return Answer(connection, 200, "OK", file.content_type, file.body);
  }
  return Answer(connection, 404, "Not Found", kPlainText,
                "nothing here; try / or /metrics or /healthz\n");
}

}  // namespace based

// civetweb gives its threads 100 KiB of stack, which must also hold the thread-local data of every
// library in the process; cuBLASLt alone has 92 KiB, and the threads could then not be made.
// Exported to the libraries that this program is linked with, in front of the C library's own.
extern "C" int pthread_attr_setstacksize(pthread_attr_t* attributes, size_t bytes) noexcept {
  constexpr size_t kLeastStack = size_t{1} << 20;
  using Function = int (*)(pthread_attr_t*, size_t);
  static const auto next =
      reinterpret_cast<Function>(dlsym(RTLD_NEXT, "pthread_attr_setstacksize"));
  return next(attributes, std::max(bytes, kLeastStack));
}
