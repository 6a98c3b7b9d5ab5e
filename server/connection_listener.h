// Listens, and hands accepted connections to gRPC once their clients have spoken.
//
// gRPC's own listener (1.51) closes for good when accept fails for want of descriptors: whoever
// opens enough connections would end the service. This one keeps below the limit and outlives the
// failure.
//
// Rule: while as many are open as may be, a new one is accepted and closed at once, so that its
// client hears of it; connections that exist are not touched. One whose client says nothing for 20
// s is closed, and gRPC never hears of it.
#ifndef BASED_SERVER_CONNECTION_LISTENER_H_
#define BASED_SERVER_CONNECTION_LISTENER_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"

namespace based {

class SilentConnections;

struct ConnectionLimits {
  int64_t connections = 1;  // of this listener
  // Of the whole process: no connection is kept while so many are open.
  int64_t descriptors = std::numeric_limits<int64_t>::max();
};

class ConnectionListener {
 public:
  // Takes an accepted connection, non-blocking and close-on-exec, and owns it: `listener` is the
  // descriptor that it came from. There is something to read.
  using Handler = std::function<void(int listener, int connection)>;

  // Binds every address that HOST:PORT resolves to; port 0 takes a free one. UNAVAILABLE when it
  // does not resolve or cannot be bound.
  // `flag` is named in messages.
  static absl::StatusOr<std::unique_ptr<ConnectionListener>> Bind(
      const std::string& address, const ConnectionLimits& limits,
      const std::string& flag = "listen");
  ~ConnectionListener();

  int port() const { return port_; }

  // Begins to accept, on a thread of its own. Call once.
  void Start(Handler handler);
  // Accepts no more and closes the listening sockets and what is silent.
  void Stop();

 private:
  explicit ConnectionListener(const ConnectionLimits& limits) : limits_(limits) {}

  void Run();
  void AcceptSome(int listener, SilentConnections& silent);
  void Keep(int listener, int connection, SilentConnections& silent);
  bool Full();
  // Connections that may be kept beyond those that are open, for one that was accepted just now.
  // Counts them: gRPC, which closes them, does not tell.
  int64_t CountRoom() const;

  const ConnectionLimits limits_;
  std::vector<int> listeners_;
  int port_ = 0;
  int epoll_ = -1;
  int wake_ = -1;  // eventfd: Stop was called
  Handler handler_;
  std::thread thread_;
  // The thread's own.
  int64_t room_ = 0;  // at the last count, less all that were kept since
  std::chrono::steady_clock::time_point counted_;
};

// Raises this process's limit of descriptors to what it may be; returns the limit.
int64_t RaiseDescriptorLimit();

}  // namespace based

#endif  // BASED_SERVER_CONNECTION_LISTENER_H_
