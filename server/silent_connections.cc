#include "server/silent_connections.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace based {

SilentConnections::~SilentConnections() {
  for (const auto& [connection, waiting] : waiting_) ::close(connection);
}

void SilentConnections::Add(int listener, int connection, TimePoint now) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = connection;
  if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, connection, &event) != 0) {
    ::close(connection);
    return;
  }
  waiting_[connection] = {listener, now};
  arrivals_.push_back({now, connection});
}

int SilentConnections::Take(int connection) {
  const auto found = waiting_.find(connection);
  if (found == waiting_.end()) return -1;
  const int listener = found->second.listener;
  waiting_.erase(found);
  ::epoll_ctl(epoll_, EPOLL_CTL_DEL, connection, nullptr);
  char byte = 0;
  if (::recv(connection, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1) return listener;
  ::close(connection);
  return -1;
}

void SilentConnections::CloseOlderThan(TimePoint since) {
  while (!arrivals_.empty()) {
    const auto [arrived, connection] = arrivals_.front();
    const auto found = waiting_.find(connection);
    const bool waits = found != waiting_.end() && found->second.since == arrived;
    if (waits && arrived > since) return;
    arrivals_.pop_front();
    if (!waits) continue;
    waiting_.erase(found);
    ::close(connection);  // which epoll notices
  }
}

}  // namespace based
