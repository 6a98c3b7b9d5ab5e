// The daemon's HTTP listener for operators: /metrics, /healthz and the live page. Apart from
// gRPC, so that a scrape never waits behind requests.
#ifndef BASED_SERVER_METRICS_LISTENER_H_
#define BASED_SERVER_METRICS_LISTENER_H_

#include <functional>
#include <memory>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/debug_page.h"

struct mg_context;
struct mg_connection;

namespace based {

class MetricsListener {
 public:
  struct Handlers {
    // Prometheus' text format, of the series of these names; of all where there is none. They come
    // from /metrics?name[]=A&name[]=B, as other exporters have it.
    std::function<std::string(const std::set<std::string>& names)> metrics;
    std::function<absl::Status()> health;  // OK: 200, else 503 with the message
    DebugSource debug;                     // see debug_page.h; empty: no such page
  };

  // `address` is HOST:PORT, with [..] around an IPv6 host; port 0 takes a free one. Handlers are
  // called from the listener's threads. On a loopback address, only requests whose Host names
  // loopback or is HOST are answered. UNAVAILABLE when the address cannot be bound.
  static absl::StatusOr<std::unique_ptr<MetricsListener>> Start(const std::string& address,
                                                                Handlers handlers);
  ~MetricsListener();

  int port() const { return port_; }

 private:
  MetricsListener(const std::string& address, Handlers handlers);

  static int CheckHost(mg_connection* connection);
  static int HandleMetrics(mg_connection* connection, void* self);
  static int HandleHealth(mg_connection* connection, void* self);
  static int HandlePage(mg_connection* connection, void* self);

  struct StartLog;

  const std::string host_;
  const bool loopback_;
  const Handlers handlers_;
  std::unique_ptr<StartLog> start_log_;
  mg_context* context_ = nullptr;
  int port_ = 0;
};

}  // namespace based

#endif  // BASED_SERVER_METRICS_LISTENER_H_
