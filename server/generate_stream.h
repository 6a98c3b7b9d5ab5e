// What one Generate call and the engine share: the bounded queue between the delivery thread that
// makes messages and the gRPC stream that writes them. A TokenSink; outlives both sides.
//
// Queue rule: Deltas that wait are merged, but for the first few, which a moment's delay leaves
// behind. From message number kSeparate on (in a short queue, from its middle), one takes Deltas
// until it holds kMergeTokens tokens or kMergeBytes bytes of text, then the next begins; when
// `max_queued_messages` wait, the reader is too slow and OnDelta returns false. So a stream holds
// about max_queued_messages * kMergeBytes bytes at most, and a reader may fall about
// max_queued_messages * kMergeTokens tokens behind. A reader that takes nothing at all is cut by
// StreamWatch, whether or not its sequence has ended.
#ifndef BASED_SERVER_GENERATE_STREAM_H_
#define BASED_SERVER_GENERATE_STREAM_H_

#include <algorithm>
#include <cstdint>
#include <deque>
#include <string>

#include "based/v1/completion.grpc.pb.h"
#include "engine/request.h"
#include "kernels/base/mutex.h"
#include "server/call_timer.h"
#include "server/connection.h"

namespace based {

// What is known of a call when it ends; for the access log.
struct StreamSummary {
  Started started;
  Finished finished;             // unless status is OK its timings alone, up to the end
  int64_t delivered_tokens = 0;  // tokens of the Deltas that the engine handed over
  std::chrono::nanoseconds longest_write{0};  // that one message waited for the reader
  absl::Status status;
};

class GenerateStream final : public TokenSink,
                             public Connection::Writer,
                             public std::enable_shared_from_this<GenerateStream> {
 public:
  using Reactor = grpc::ServerWriteReactor<v1::GenerateResponse>;

  static constexpr size_t kSeparate = 4;
  static constexpr int32_t kMergeTokens = 16;
  static constexpr size_t kMergeBytes = 1024;

  // `reactor` and `context` live until the reactor's OnDone, which follows Finish: they are not
  // touched after that.
  // `connection` may be null.
  GenerateStream(Reactor* reactor, grpc::CallbackServerContext* context,
                 std::shared_ptr<Connection> connection, std::string request_id, bool token_ids,
                 size_t max_queued_messages)
      : reactor_(reactor),
        context_(context),
        connection_(std::move(connection)),
        request_id_(std::move(request_id)),
        token_ids_(token_ids),
        max_queued_messages_(max_queued_messages),
        separate_(std::min(kSeparate, (max_queued_messages + 1) / 2)) {}

  // TokenSink: from one delivery thread.
  void OnStarted(const Started& started) override;
  bool OnDelta(Delta delta) override;
  void OnChoiceFinished(const Finished& finished) override;
  void OnFinished(const Finished& finished) override;
  void OnError(const absl::Status& status) override;

  // From the reactor. `ok` is false when the write failed: the client is gone, and what is queued
  // is dropped.
  void OnWriteDone(bool ok);

  // From the reactor's OnDone: the call is over, and gRPC will destroy it.
  void OnCallDone();

  // Cancels the call if the write in flight began at or before `since`.
  void CutIfStalled(Clock::time_point since);

  // Begins the write that OnDelta and the others have left to their batch's end.
  void Write() override;

  StreamSummary summary() const;
  const std::string& request_id() const { return request_id_; }

 private:
  // The next thing to do with the stream, decided under the lock and done without it: gRPC may call
  // back from inside StartWrite.
  enum class Action { kWait, kWrite, kWriteLast, kFinish };

  Action NextAction() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Do(Action action);
  void WriteIsOver() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void End(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Constant after construction.
  Reactor* const reactor_;
  grpc::CallbackServerContext* const context_;
  const std::shared_ptr<Connection> connection_;
  const std::string request_id_;
  const bool token_ids_;
  const size_t max_queued_messages_;
  const size_t separate_;  // messages that stay as they are

  // Owned by the write in flight: set while idle, read by gRPC until OnWriteDone.
  v1::GenerateResponse writing_;
  Action chosen_ = Action::kWait;  // of Write
  bool hold_ = false;              // it may wait for the next message, which follows at once

  mutable Mutex mutex_;
  std::deque<v1::GenerateResponse> queue_ ABSL_GUARDED_BY(mutex_);
  int32_t last_tokens_ ABSL_GUARDED_BY(mutex_) = 0;  // tokens merged into queue_.back()
  bool busy_ ABSL_GUARDED_BY(mutex_) = false;        // a write is in flight, or Finish was called
  // A write is; OnWriteDone follows, or OnCallDone if it was the last.
  bool in_flight_ ABSL_GUARDED_BY(mutex_) = false;
  bool cut_ ABSL_GUARDED_BY(mutex_) = false;  // for its slow reader
  Clock::time_point write_began_ ABSL_GUARDED_BY(mutex_);
  bool ends_ ABSL_GUARDED_BY(mutex_) = false;    // OnFinished follows at once
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;   // nothing more comes from the engine
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;  // a write failed
  CallTimer timer_ ABSL_GUARDED_BY(mutex_);      // from construction on
  StreamSummary summary_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace based

#endif  // BASED_SERVER_GENERATE_STREAM_H_
