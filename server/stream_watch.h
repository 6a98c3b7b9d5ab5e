// Cuts calls whose client takes nothing: a message that has been with gRPC for longer than the
// limit means that flow control holds it, and would hold the call and its memory for as long as the
// client keeps the connection. One thread looks at every open stream a few times per limit.
// Thread-safe.
#ifndef BASED_SERVER_STREAM_WATCH_H_
#define BASED_SERVER_STREAM_WATCH_H_

#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "kernels/base/mutex.h"
#include "server/generate_stream.h"

namespace based {

class StreamWatch {
 public:
  // A write is cut between `limit` and 1.25 times `limit` after it began.
  explicit StreamWatch(std::chrono::milliseconds limit);
  ~StreamWatch();

  // Watches `stream` until it is gone.
  void Add(const std::shared_ptr<GenerateStream>& stream);

 private:
  void Run();
  // Drops streams that are gone and returns the rest.
  std::vector<std::shared_ptr<GenerateStream>> Living() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::chrono::milliseconds limit_;
  Mutex mutex_;
  CondVar changed_;
  std::vector<std::weak_ptr<GenerateStream>> streams_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace based

#endif  // BASED_SERVER_STREAM_WATCH_H_
