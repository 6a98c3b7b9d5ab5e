// Accepted connections whose client has not said anything yet. Of one thread.
//
// gRPC (1.51) buffers for every connection it gets and sets timers for it; many that fire at once
// on a busy machine leave it with hundreds of threads, which never end. Here a client that connects
// and is silent costs a descriptor. In HTTP/2 and in TLS the client speaks first.
#ifndef BASED_SERVER_SILENT_CONNECTIONS_H_
#define BASED_SERVER_SILENT_CONNECTIONS_H_

#include <chrono>
#include <deque>
#include <unordered_map>

namespace based {

class SilentConnections {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // `epoll`, which outlives this, reports connections by their descriptor.
  explicit SilentConnections(int epoll) : epoll_(epoll) {}
  ~SilentConnections();

  // Watches `connection`, accepted now from `listener`, and owns it.
  void Add(int listener, int connection, TimePoint now);

  // Of a connection that epoll reports: the listener that it came from when its client has spoken,
  // and it is the caller's then; -1 when the client has gone, and it is closed.
  int Take(int connection);

  // Closes those that have been silent since `since` or longer.
  void CloseOlderThan(TimePoint since);

  bool empty() const { return waiting_.empty(); }

 private:
  struct Waiting {
    int listener = -1;
    TimePoint since;
  };
  struct Arrival {
    TimePoint since;
    int connection = -1;
  };

  const int epoll_;
  std::unordered_map<int, Waiting> waiting_;  // by descriptor
  // Oldest first. One that is no longer waiting, or whose descriptor is now another's, is skipped.
  std::deque<Arrival> arrivals_;
};

}  // namespace based

#endif  // BASED_SERVER_SILENT_CONNECTIONS_H_
