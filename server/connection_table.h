// Accepted connections by the address of their peer, so that calls find the one that they write to,
// which gRPC does not tell. Thread-safe.
#ifndef BASED_SERVER_CONNECTION_TABLE_H_
#define BASED_SERVER_CONNECTION_TABLE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "kernels/base/mutex.h"
#include "server/connection.h"

namespace based {

class ConnectionTable {
 public:
  // `fd` is connected, and if it was in the table it was another connection then.
  void Add(int fd);

  // Of what gRPC calls the peer of a call ("ipv4:127.0.0.1:50000"); null when no connection of that
  // name was accepted.
  std::shared_ptr<Connection> Find(const std::string& peer) const;

 private:
  // IPv6, or IPv4 mapped into it, and the port.
  using Address = std::pair<std::array<uint8_t, 16>, uint16_t>;
  static std::optional<Address> PeerOf(int fd);
  static std::optional<Address> Parse(const std::string& peer);

  mutable Mutex mutex_;
  absl::flat_hash_map<Address, std::shared_ptr<Connection>> by_peer_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::optional<Address>> by_fd_ ABSL_GUARDED_BY(mutex_);  // what Add put into by_peer_
};

}  // namespace based

#endif  // BASED_SERVER_CONNECTION_TABLE_H_
