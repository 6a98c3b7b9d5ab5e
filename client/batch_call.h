// One Generate call of a batch: gathers the stream and says when it has begun and ended. All of it
// happens on the thread that runs the batch, which polls gRPC's queue itself: a short completion is
// a handful of events, and waking other threads for them would cost more than handling them.
#ifndef BASED_CLIENT_BATCH_CALL_H_
#define BASED_CLIENT_BATCH_CALL_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "based/v1/completion.grpc.pb.h"
#include "client/batch_outcome.h"
#include "grpcpp/grpcpp.h"

namespace based {

class BatchCall;

// What becomes of the calls of a batch.
class BatchEvents {
 public:
  struct Event {
    BatchCall* call = nullptr;
    bool ended = false;  // else: the daemon has taken the call
  };

  // All calls have ended.
  ~BatchEvents();

  void Add(Event event) { events_.push_back(event); }
  // Takes all there are; waits for the first until `deadline`.
  std::vector<Event> Take(std::chrono::steady_clock::time_point deadline);

  grpc::CompletionQueue& queue() { return queue_; }

 private:
  // Waits for something to happen to a call, and tells it; false after `deadline`.
  bool Hear(std::chrono::steady_clock::time_point deadline);

  grpc::CompletionQueue queue_;
  std::vector<Event> events_;  // at most two per call under way
};

// Lives until its end has been taken from `events`.
class BatchCall final {
 public:
  BatchCall(size_t entry, BatchLine line, BatchEvents& events)
      : entry_(entry), line_(std::move(line)), events_(events) {}

  // `timeout` 0: none.
  void Start(v1::CompletionService::Stub& stub, std::chrono::milliseconds timeout);
  void Cancel() { context_.TryCancel(); }

  size_t entry() const { return entry_; }
  const BatchLine& line() const { return line_; }
  std::chrono::steady_clock::time_point sent() const { return sent_; }
  bool admitted() const { return admitted_; }

  // After the end.
  BatchOutcome& outcome() { return outcome_; }
  // The wait that the daemon asks for before the next try.
  std::optional<std::chrono::milliseconds> pushback() const;

  void set_admitted() { admitted_ = true; }

  // The operation under way has ended.
  void OnEvent(bool ok);

 private:
  enum class Operation : uint8_t { kStart, kRead, kFinish };

  void Gather();
  void End();
  BatchOutcome::Choice& ChoiceAt(int32_t index);

  const size_t entry_;
  BatchLine line_;
  BatchEvents& events_;
  std::chrono::steady_clock::time_point sent_;
  bool admitted_ = false;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientAsyncReader<v1::GenerateResponse>> reader_;
  Operation operation_ = Operation::kStart;
  v1::GenerateResponse response_;
  grpc::Status status_;
  bool heard_ = false;
  int32_t finished_ = 0;  // completions
  BatchOutcome outcome_;
};

}  // namespace based

#endif  // BASED_CLIENT_BATCH_CALL_H_
