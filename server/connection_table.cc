#include "server/connection_table.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"

namespace based {

void ConnectionTable::Add(int fd) {
  const std::optional<Address> peer = PeerOf(fd);
  if (!peer) return;
  MutexLock lock(mutex_);
  const auto place = static_cast<size_t>(fd);
  if (by_fd_.size() <= place) by_fd_.resize(place + 1);
  if (by_fd_[place]) by_peer_.erase(*by_fd_[place]);
  by_fd_[place] = peer;
  by_peer_[*peer] = std::make_shared<Connection>();
}

std::shared_ptr<Connection> ConnectionTable::Find(const std::string& peer) const {
  const std::optional<Address> address = Parse(peer);
  if (!address) return nullptr;
  MutexLock lock(mutex_);
  const auto found = by_peer_.find(*address);
  return found == by_peer_.end() ? nullptr : found->second;
}

std::optional<ConnectionTable::Address> ConnectionTable::PeerOf(int fd) {
  sockaddr_storage storage{};
  socklen_t size = sizeof(storage);
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&storage), &size) != 0) return std::nullopt;
  Address address{};
  if (storage.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(storage);
    address.first[10] = address.first[11] = 0xff;
    std::copy_n(reinterpret_cast<const uint8_t*>(&v4.sin_addr), 4, address.first.begin() + 12);
    address.second = ntohs(v4.sin_port);
  } else if (storage.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(storage);
    std::copy_n(reinterpret_cast<const uint8_t*>(&v6.sin6_addr), 16, address.first.begin());
    address.second = ntohs(v6.sin6_port);
  } else {
    return std::nullopt;
  }
  return address;
}

std::optional<ConnectionTable::Address> ConnectionTable::Parse(const std::string& peer) {
  const size_t colon = peer.rfind(':');
  if (colon == std::string::npos) return std::nullopt;
  std::string host = peer.substr(0, colon);
  Address address{};
  int32_t port = 0;
  if (!absl::SimpleAtoi(peer.substr(colon + 1), &port) || port < 0 || port > 65'535) {
    return std::nullopt;
  }
  address.second = static_cast<uint16_t>(port);
  if (absl::StartsWith(host, "ipv4:")) {
    host = absl::StrCat("::ffff:", host.substr(5));
  } else if (absl::StartsWith(host, "ipv6:")) {
    // gRPC writes a URI: the brackets are percent-encoded.
    host = absl::StrReplaceAll(host.substr(5), {{"%5B", ""}, {"%5D", ""}, {"[", ""}, {"]", ""}});
  } else {
    return std::nullopt;
  }
  if (::inet_pton(AF_INET6, host.c_str(), address.first.data()) != 1) return std::nullopt;
  return address;
}

}  // namespace based
