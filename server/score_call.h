// One Score call: groups of its pairs are requests to the engine, a bounded number of pairs at a
// time.
#ifndef BASED_SERVER_SCORE_CALL_H_
#define BASED_SERVER_SCORE_CALL_H_

#include <functional>
#include <memory>
#include <vector>

#include "based/v1/completion.pb.h"
#include "engine/engine.h"
#include "kernels/base/mutex.h"
#include "server/convert.h"

namespace based {

// Thread-safe. Shared by whoever started it and the engine's sinks.
class ScoreCall : public std::enable_shared_from_this<ScoreCall> {
 public:
  static constexpr size_t kInFlight = ScoreGroup::kMostPairs;  // pairs

  // `groups` are those of ScoresFromProto, one or more. `response` lives until `done`, which is
  // called once, from any thread, maybe from inside Start: when all pairs are scored, or after an
  // error when none is with the engine any more.
  ScoreCall(Engine& engine, std::vector<ScoreGroup> groups, bool token_logprobs,
            v1::ScoreResponse* response, std::function<void(const absl::Status&)> done);

  void Start() { Pump(); }
  // Ends the call with `status` unless it has ended.
  void Cancel(const absl::Status& status);

 private:
  class GroupSink;

  void Pump();
  bool TakeNext(size_t& group, Request& request);
  void OnSubmitted(size_t group, const absl::StatusOr<RequestId>& id);
  // `heard` is of each of the group's continuations, `computed` the tokens that they took.
  void OnGroupEnd(size_t group, const std::vector<std::vector<TokenLogprob>>& heard,
                  int64_t computed, const absl::Status& status);
  std::vector<RequestId> FailLocked(const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CancelAll(const std::vector<RequestId>& ids, const absl::Status& status);
  void FinishIfOver();

  Engine& engine_;
  const bool token_logprobs_;
  const std::function<void(const absl::Status&)> done_;

  Mutex mutex_;
  std::vector<ScoreGroup> groups_ ABSL_GUARDED_BY(mutex_);  // requests are taken one by one
  v1::ScoreResponse* const response_ ABSL_PT_GUARDED_BY(mutex_);
  std::vector<RequestId> ids_ ABSL_GUARDED_BY(mutex_);  // submitted
  size_t next_ ABSL_GUARDED_BY(mutex_) = 0;             // group to submit
  size_t in_flight_ ABSL_GUARDED_BY(mutex_) = 0;        // pairs
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);  // the first error
};

}  // namespace based

#endif  // BASED_SERVER_SCORE_CALL_H_
