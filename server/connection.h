// One TCP connection's writes.
//
// A step has a token for each of a connection's streams, and each token is a message. Written one
// by one, each costs gRPC (1.51) a pass through its transport, the kernel a call and the client a
// wake-up. gRPC writes together what it finds queued when a write of that connection ends, but a
// lone thread never finds it writing. So the messages of a delivery batch wait for the batch's end;
// the first is written, and when it is about to enter the kernel, in a `sendmsg` that this program
// exports in front of the C library's, the others are begun: gRPC queues them behind the first,
// and a thread of its own writes them as one.
//
// That thread is one for all connections. In long batches it would keep others waiting, and the
// threads of delivery write one message after the other, of which the kernel makes one packet.
#ifndef BASED_SERVER_CONNECTION_H_
#define BASED_SERVER_CONNECTION_H_

#include <atomic>
#include <cstdint>
#include <memory>

namespace based {

class Connection {
 public:
  class Writer {
   public:
    virtual ~Writer() = default;
    // Begins one write to the connection.
    virtual void Write() = 0;
  };

  void OnStreamOpened() { streams_.fetch_add(1, std::memory_order_relaxed); }
  void OnStreamClosed() { streams_.fetch_sub(1, std::memory_order_relaxed); }

  // Calls `writer` when the thread's delivery batch ends; at once outside of a batch, or while the
  // connection has but one stream. In one batch, in the order of these calls.
  void WriteAtBatchEnd(std::shared_ptr<Writer> writer);

  // From within a write at the end of this thread's batch, before it enters the kernel: begins the
  // batch's other writes to that connection if the batch is short. True when there were any, or
  // will be: more follows at once.
  static bool BeginOthers();

 private:
  class Run;

  std::atomic<int32_t> streams_{0};
};

}  // namespace based

#endif  // BASED_SERVER_CONNECTION_H_
