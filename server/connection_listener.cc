#include "server/connection_listener.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/log.h"
#include "server/silent_connections.h"

namespace based {
namespace {

using std::chrono::steady_clock;

constexpr int kBacklog = 4096;  // the kernel lowers it to its own limit
constexpr int kAcceptsPerTurn = 256;
// Counting walks all descriptors: seldom enough to cost nothing beside a flood.
constexpr std::chrono::milliseconds kCountInterval{500};
constexpr std::chrono::milliseconds kRetryAccept{50};
// A client must have said something by then.
constexpr std::chrono::seconds kSilenceLimit{20};
constexpr int kSilenceCheckMs = 500;

absl::Status Unbound(const std::string& flag, const std::string& address, const char* why) {
  return absl::UnavailableError(
      absl::StrCat("cannot listen on ", address, " (--", flag, "): ", why));
}

// A listening socket on `info` with `port` (0: a free one); -1 with errno otherwise.
int Listen(const addrinfo& info, int port) {
  const int fd = ::socket(info.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  sockaddr_storage address{};
  std::memcpy(&address, info.ai_addr, info.ai_addrlen);
  // The port lies at the same place in both families.
  reinterpret_cast<sockaddr_in*>(&address)->sin_port = htons(static_cast<uint16_t>(port));
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  // "[::]" takes IPv4 too; a resolved pair such as localhost's has one address of each family.
  const int v6_only = 0;
  if (info.ai_family == AF_INET6) {
    ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, sizeof(v6_only));
  }
  if (::bind(fd, reinterpret_cast<sockaddr*>(&address), info.ai_addrlen) == 0 &&
      ::listen(fd, kBacklog) == 0) {
    return fd;
  }
  const int error = errno;
  ::close(fd);
  errno = error;
  return -1;
}

int PortOf(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  return ntohs(reinterpret_cast<sockaddr_in*>(&address)->sin_port);
}

// Waits for `fd` to be readable, with all others of `epoll`.
bool Watch(int epoll, int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  return ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

struct Descriptors {
  int64_t all = 0;
  int64_t of_port = 0;  // sockets whose own port it is
};

Descriptors CountDescriptors(int port) {
  Descriptors count;
  std::error_code error;
  std::filesystem::directory_iterator at("/proc/self/fd", error);
  for (; !error && at != std::filesystem::directory_iterator(); at.increment(error)) {
    ++count.all;
    int fd = -1;
    if (absl::SimpleAtoi(at->path().filename().string(), &fd) && PortOf(fd) == port) {
      ++count.of_port;
    }
  }
  return count;
}

}  // namespace

int64_t RaiseDescriptorLimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  const rlim_t before = limit.rlim_cur;
  limit.rlim_cur = limit.rlim_max;
  const bool raised = ::setrlimit(RLIMIT_NOFILE, &limit) == 0;
  return static_cast<int64_t>(std::min<rlim_t>(raised ? limit.rlim_max : before, 1 << 30));
}

absl::StatusOr<std::unique_ptr<ConnectionListener>> ConnectionListener::Bind(
    const std::string& address, const ConnectionLimits& limits, const std::string& flag) {
  const size_t colon = address.rfind(':');
  std::string host = address.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const std::string port_text = colon == std::string::npos ? "" : address.substr(colon + 1);
  if (const int error = ::getaddrinfo(host.c_str(), port_text.c_str(), &hints, &found);
      error != 0) {
    return Unbound(flag, address, ::gai_strerror(error));
  }
  const auto release = absl::MakeCleanup([&] { ::freeaddrinfo(found); });
  std::unique_ptr<ConnectionListener> listener(new ConnectionListener(limits));
  listener->wake_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  listener->epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
  if (listener->wake_ < 0 || listener->epoll_ < 0 || !Watch(listener->epoll_, listener->wake_)) {
    return Unbound(flag, address, std::strerror(errno));
  }
  listener->port_ = ntohs(reinterpret_cast<sockaddr_in*>(found->ai_addr)->sin_port);
  int unusable = 0;
  for (const addrinfo* info = found; info != nullptr; info = info->ai_next) {
    const int fd = Listen(*info, listener->port_);
    if (fd >= 0) {
      listener->listeners_.push_back(fd);
      if (!Watch(listener->epoll_, fd)) return Unbound(flag, address, std::strerror(errno));
      if (listener->port_ == 0) listener->port_ = PortOf(fd);
    } else if (errno == EADDRNOTAVAIL || errno == EAFNOSUPPORT) {
      unusable = errno;  // a family that this machine does not have
    } else {
      return Unbound(flag, address,
                     errno == EADDRINUSE ? "the address is in use" : std::strerror(errno));
    }
  }
  if (listener->listeners_.empty()) return Unbound(flag, address, std::strerror(unusable));
  return listener;
}

ConnectionListener::~ConnectionListener() {
  Stop();
  if (wake_ >= 0) ::close(wake_);
  if (epoll_ >= 0) ::close(epoll_);
}

void ConnectionListener::Start(Handler handler) {
  handler_ = std::move(handler);
  thread_ = std::thread([this] { Run(); });
}

void ConnectionListener::Stop() {
  if (thread_.joinable()) {
    const uint64_t one = 1;
    // An eventfd that is at its limit wakes as well.
    [[maybe_unused]] const ssize_t written = ::write(wake_, &one, sizeof(one));
    thread_.join();
  }
  for (const int fd : listeners_) ::close(fd);
  listeners_.clear();
}

void ConnectionListener::Run() {
  SilentConnections silent(epoll_);
  std::array<epoll_event, 256> events;
  while (true) {
    const int timeout = silent.empty() ? -1 : kSilenceCheckMs;
    const int count = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), timeout);
    if (count < 0 && errno != EINTR) return;
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<size_t>(i)].data.fd;
      if (fd == wake_) return;
      if (std::find(listeners_.begin(), listeners_.end(), fd) != listeners_.end()) {
        AcceptSome(fd, silent);
      } else if (const int listener = silent.Take(fd); listener >= 0) {
        handler_(listener, fd);
      }
    }
    silent.CloseOlderThan(steady_clock::now() - kSilenceLimit);
  }
}

void ConnectionListener::AcceptSome(int listener, SilentConnections& silent) {
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    const int connection = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (connection >= 0) {
      Keep(listener, connection, silent);
    } else if (errno == EAGAIN) {
      return;
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      // The connection stays in the backlog; descriptors come free when others close.
      std::this_thread::sleep_for(kRetryAccept);
      return;
    }
    // Else this connection failed before it was accepted: the next one.
  }
}

void ConnectionListener::Keep(int listener, int connection, SilentConnections& silent) {
  if (Full()) {
    ::close(connection);
    return;
  }
  --room_;
  const int on = 1;
  ::setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  silent.Add(listener, connection, steady_clock::now());
}

bool ConnectionListener::Full() {
  if (room_ > 0) return false;
  const auto now = steady_clock::now();
  if (now - counted_ < kCountInterval) return true;
  counted_ = now;
  room_ = CountRoom();
  if (room_ <= 0) {
    Log(LogLevel::kWarning, "connections_full",
        {{"port", int64_t{port_}}, {"max_connections", limits_.connections}});
  }
  return room_ <= 0;
}

int64_t ConnectionListener::CountRoom() const {
  const Descriptors open = CountDescriptors(port_);
  // Without the one that asks.
  const int64_t connections = open.of_port - static_cast<int64_t>(listeners_.size()) - 1;
  return std::min(limits_.connections - connections, limits_.descriptors - open.all);
}

}  // namespace based
