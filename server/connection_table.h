// Accepted connections by the address of their peer, so that calls find the socket that they write
// to, which gRPC does not tell. Thread-safe.
#ifndef BASED_SERVER_CONNECTION_TABLE_H_
#define BASED_SERVER_CONNECTION_TABLE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/delivery_batch.h"
#include "kernels/base/mutex.h"

namespace based {

// One TCP connection. A step has a token for each of its streams, and each token is a write: sent
// one by one, they cost the kernel, the client and gRPC's own threads a wake-up each. Held back for
// the microseconds that it takes to write them all, they go out together, and where a batch is
// short their ends are taken up together.
//
// The descriptor is gRPC's. After gRPC has closed it, it may be another file's: then holding back
// fails, or holds another connection's writes until the end of the batch, and the kernel for no
// longer than 200 ms.
class Connection final : public DeliveryBatch::Listener,
                         public std::enable_shared_from_this<Connection> {
 public:
  explicit Connection(int fd) : fd_(fd) {}

  void OnStreamOpened() { streams_.fetch_add(1, std::memory_order_relaxed); }
  void OnStreamClosed() { streams_.fetch_sub(1, std::memory_order_relaxed); }

  // What is written from now on leaves when the thread's delivery batch ends. Nothing happens
  // outside of a batch, nor while the connection has but one stream.
  void HoldWrites();
  void OnBatchEnd() override;

  // Waits while a short batch holds writes; not within a batch.
  void AwaitRelease() const;

 private:
  const int fd_;
  std::atomic<int32_t> streams_{0};

  // Not an atomic that is waited for: libstdc++ yields before it sleeps, which costs the thread its
  // turn.
  enum class Hold : uint8_t { kNothing, kShort, kLong };
  mutable Mutex mutex_;
  mutable CondVar released_;
  Hold hold_ ABSL_GUARDED_BY(mutex_) = Hold::kNothing;
};

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
