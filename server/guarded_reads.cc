#include "server/guarded_reads.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "kernels/base/mutex.h"
#include "server/header_guard.h"
#include "server/log.h"
#include "server/original.h"

namespace based {
namespace {

void LogCut() { Log(LogLevel::kWarning, "headers_too_large", {}); }

// --- plain connections

// Tells sockets apart whose descriptors are the same number, one after the other.
std::optional<uint64_t> CookieOf(int fd) {
  uint64_t cookie = 0;
  socklen_t size = sizeof(cookie);
  if (::getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) != 0) return std::nullopt;
  return cookie;
}

bool HasSpoken(int fd) {
  tcp_info info{};
  socklen_t size = sizeof(info);
  return ::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 && info.tcpi_bytes_sent > 0;
}

struct PlainGuard {
  const uint64_t cookie;
  HeaderGuard guard;  // of whichever thread reads
};

class PlainGuards {
 public:
  void Set(int fd, std::shared_ptr<PlainGuard> guard) {
    const auto place = static_cast<size_t>(fd);
    MutexLock lock(mutex_);
    if (by_fd_.size() <= place) by_fd_.resize(place + 1);
    by_fd_[place] = std::move(guard);
  }
  std::shared_ptr<PlainGuard> Find(int fd) const {
    const auto place = static_cast<size_t>(fd);
    MutexLock lock(mutex_);
    return place < by_fd_.size() ? by_fd_[place] : nullptr;
  }

 private:
  mutable Mutex mutex_;
  std::vector<std::shared_ptr<PlainGuard>> by_fd_ ABSL_GUARDED_BY(mutex_);
};

PlainGuards& AllPlain() {
  static auto* const all = new PlainGuards();  // threads may read until the process is gone
  return *all;
}

bool MayPass(int fd, const msghdr& message, size_t bytes) {
  const std::shared_ptr<PlainGuard> plain = AllPlain().Find(fd);
  if (plain == nullptr || CookieOf(fd) != plain->cookie) return true;
  for (size_t i = 0; i < message.msg_iovlen && bytes > 0; ++i) {
    const iovec& part = message.msg_iov[i];
    const absl::string_view read(static_cast<const char*>(part.iov_base),
                                 std::min(bytes, part.iov_len));
    if (!plain->guard.Pass(read, [fd] { return HasSpoken(fd); })) return false;
    bytes -= read.size();
  }
  return true;
}

// --- TLS

std::atomic<size_t> most_of_tls{0};  // 0: they are not guarded

struct TlsGuard {
  HeaderGuard guard;
  bool has_spoken = false;
};

void FreeTlsGuard(void*, void* guard, CRYPTO_EX_DATA*, int, long, void*) {
  delete static_cast<TlsGuard*>(guard);
}

// Null when the connection is not guarded. gRPC reads and writes one connection under a lock.
TlsGuard* GuardOf(SSL* ssl) {
  const size_t most = most_of_tls.load(std::memory_order_relaxed);
  if (most == 0 || SSL_is_server(ssl) == 0) return nullptr;
  static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, FreeTlsGuard);
  auto* guard = static_cast<TlsGuard*>(SSL_get_ex_data(ssl, index));
  if (guard != nullptr) return guard;
  auto fresh = std::make_unique<TlsGuard>(TlsGuard{HeaderGuard(most)});
  if (SSL_set_ex_data(ssl, index, fresh.get()) != 1) return nullptr;
  return fresh.release();
}

// A function of its own so that the suppressions of ThreadSanitizer can name it.
ssize_t OriginalRecvmsg(int fd, msghdr* message, int flags) {
  static const Original<decltype(&recvmsg)> next("recvmsg");
  return next(fd, message, flags);
}

}  // namespace

void GuardReads(int fd, size_t most_header_bytes) {
  if (const auto cookie = CookieOf(fd)) {
    AllPlain().Set(
        fd, std::make_shared<PlainGuard>(PlainGuard{*cookie, HeaderGuard(most_header_bytes)}));
  }
}

void GuardTlsReads(size_t most_header_bytes) { most_of_tls = most_header_bytes; }

}  // namespace based

extern "C" ssize_t recvmsg(int fd, msghdr* message, int flags) {
  const ssize_t bytes = based::OriginalRecvmsg(fd, message, flags);
  if (bytes <= 0 || flags != 0 || based::MayPass(fd, *message, static_cast<size_t>(bytes))) {
    return bytes;
  }
  based::LogCut();
  return 0;
}

extern "C" int SSL_read(SSL* ssl, void* buffer, int size) {
  static const based::Original<decltype(&SSL_read)> next("SSL_read");
  const int bytes = next(ssl, buffer, size);
  based::TlsGuard* const guard = bytes > 0 ? based::GuardOf(ssl) : nullptr;
  if (guard == nullptr ||
      guard->guard.Pass({static_cast<const char*>(buffer), static_cast<size_t>(bytes)},
                        [guard] { return guard->has_spoken; })) {
    return bytes;
  }
  based::LogCut();
  ERR_raise(ERR_LIB_USER, ERR_R_PASSED_INVALID_ARGUMENT);
  return -1;
}

extern "C" int SSL_write(SSL* ssl, const void* buffer, int size) {
  static const based::Original<decltype(&SSL_write)> next("SSL_write");
  const int bytes = next(ssl, buffer, size);
  if (based::TlsGuard* const guard = bytes > 0 ? based::GuardOf(ssl) : nullptr) {
    guard->has_spoken = true;
  }
  return bytes;
}
