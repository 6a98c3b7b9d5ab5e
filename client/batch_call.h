// One Generate call of a batch: gathers the stream and says when it has begun and ended.
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
#include "kernels/base/mutex.h"

namespace based {

class BatchCall;

// What gRPC's threads tell the one that runs the batch.
class BatchEvents {
 public:
  struct Event {
    BatchCall* call = nullptr;
    bool ended = false;  // else: the daemon has taken the call
  };

  void Add(Event event);
  // Takes all there are; waits for the first until `deadline`.
  std::vector<Event> Take(std::chrono::steady_clock::time_point deadline);

 private:
  Mutex mutex_;
  CondVar changed_;
  std::vector<Event> events_ ABSL_GUARDED_BY(mutex_);  // at most two per call under way
};

// Lives until its end has been taken from `events`.
class BatchCall final : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  BatchCall(size_t entry, BatchLine line, BatchEvents& events)
      : entry_(entry), line_(std::move(line)), events_(events) {}

  // `timeout` 0: none.
  void Start(v1::CompletionService::Stub& stub, std::chrono::milliseconds timeout);
  void Cancel() { context_.TryCancel(); }

  size_t entry() const { return entry_; }
  const BatchLine& line() const { return line_; }
  std::chrono::steady_clock::time_point sent() const { return sent_; }
  bool admitted() const { return admitted_; }  // of the running thread, as it has heard

  // After the end.
  BatchOutcome& outcome() { return outcome_; }
  // The wait that the daemon asks for before the next try.
  std::optional<std::chrono::milliseconds> pushback() const;

  // Called by the running thread alone.
  void set_admitted() { admitted_ = true; }

 private:
  void OnReadDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;
  BatchOutcome::Choice& ChoiceAt(int32_t index);

  const size_t entry_;
  BatchLine line_;
  BatchEvents& events_;
  std::chrono::steady_clock::time_point sent_;
  bool admitted_ = false;
  grpc::ClientContext context_;
  v1::GenerateResponse response_;
  bool heard_ = false;
  BatchOutcome outcome_;
};

}  // namespace based

#endif  // BASED_CLIENT_BATCH_CALL_H_
