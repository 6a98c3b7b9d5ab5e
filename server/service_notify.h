// What a service manager is told of the daemon's life, in the datagrams that sd_notify(3)
// documents: lines of NAME=VALUE to the socket that NOTIFY_SOCKET names. Without the variable
// nothing happens.
//
// Own code, since the protocol is one sendto: libsystemd would come into every image for it.
// Thread-safe.
#ifndef BASED_SERVER_SERVICE_NOTIFY_H_
#define BASED_SERVER_SERVICE_NOTIFY_H_

#include <chrono>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace based {

class ServiceNotifier {
 public:
  // Reads NOTIFY_SOCKET (a path, or @NAME in the abstract namespace), WATCHDOG_USEC and
  // WATCHDOG_PID of the environment.
  ServiceNotifier();
  // `socket` empty: nobody to tell.
  ServiceNotifier(std::string socket, std::optional<std::chrono::microseconds> watchdog)
      : socket_(std::move(socket)), watchdog_(watchdog) {}

  // Time within which Watchdog must be called again and again, if the manager wants that.
  std::optional<std::chrono::microseconds> watchdog() const { return watchdog_; }

  void Loading(absl::string_view model) const;
  // Serving; also after Reloading.
  void Ready(absl::string_view status) const;
  void Reloading() const;
  void Stopping(absl::string_view status) const;
  void Status(absl::string_view status) const;
  void Watchdog() const;

 private:
  // What cannot be sent is dropped: a manager that does not listen must not hold up the daemon.
  void Send(absl::string_view lines) const;

  std::string socket_;
  std::optional<std::chrono::microseconds> watchdog_;
};

}  // namespace based

#endif  // BASED_SERVER_SERVICE_NOTIFY_H_
