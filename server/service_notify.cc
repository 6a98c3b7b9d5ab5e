#include "server/service_notify.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace based {
namespace {

std::string Variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// A line ends the value.
std::string StatusLine(absl::string_view status) {
  return absl::StrCat("STATUS=", absl::StrReplaceAll(status, {{"\n", " "}}));
}

int64_t MonotonicMicroseconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(now).count();
}

}  // namespace

ServiceNotifier::ServiceNotifier() : socket_(Variable("NOTIFY_SOCKET")) {
  int64_t microseconds = 0;
  int64_t pid = 0;
  if (!absl::SimpleAtoi(Variable("WATCHDOG_USEC"), &microseconds) || microseconds <= 0) return;
  // For another process of the unit.
  if (absl::SimpleAtoi(Variable("WATCHDOG_PID"), &pid) && pid != ::getpid()) return;
  watchdog_ = std::chrono::microseconds(microseconds);
}

void ServiceNotifier::Loading(absl::string_view model) const {
  Status(absl::StrCat("loading ", model.empty() ? "the demo model" : model));
}

void ServiceNotifier::Ready(absl::string_view status) const {
  Send(absl::StrCat("READY=1\n", StatusLine(status)));
}

void ServiceNotifier::Reloading() const {
  Send(absl::StrCat("RELOADING=1\nMONOTONIC_USEC=", MonotonicMicroseconds()));
}

void ServiceNotifier::Stopping(absl::string_view status) const {
  Send(absl::StrCat("STOPPING=1\n", StatusLine(status)));
}

void ServiceNotifier::Status(absl::string_view status) const { Send(StatusLine(status)); }

void ServiceNotifier::Watchdog() const { Send("WATCHDOG=1"); }

void ServiceNotifier::Send(absl::string_view lines) const {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (socket_.empty() || socket_.size() >= sizeof(address.sun_path)) return;
  std::memcpy(address.sun_path, socket_.data(), socket_.size());
  if (address.sun_path[0] == '@') address.sun_path[0] = '\0';
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + socket_.size());
  ::sendto(fd, lines.data(), lines.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
           reinterpret_cast<const sockaddr*>(&address), length);
  ::close(fd);
}

}  // namespace based
