#include "server/score_call.h"

#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/convert.h"

namespace based {

// Collects what the engine says of one pair.
class ScoreCall::PairSink final : public TokenSink {
 public:
  PairSink(std::shared_ptr<ScoreCall> call, size_t pair) : call_(std::move(call)), pair_(pair) {}

  void OnStarted(const Started&) override {}
  bool OnDelta(Delta delta) override {
    std::move(delta.prompt_logprobs.begin(), delta.prompt_logprobs.end(),
              std::back_inserter(tokens_));
    return true;
  }
  void OnFinished(const Finished&) override { call_->OnPairEnd(pair_, tokens_, absl::OkStatus()); }
  void OnError(const absl::Status& status) override { call_->OnPairEnd(pair_, tokens_, status); }

 private:
  const std::shared_ptr<ScoreCall> call_;
  const size_t pair_;
  std::vector<TokenLogprob> tokens_;
};

ScoreCall::ScoreCall(Engine& engine, std::vector<Request> requests, bool token_logprobs,
                     v1::ScoreResponse* response, std::function<void(const absl::Status&)> done)
    : engine_(engine),
      token_logprobs_(token_logprobs),
      done_(std::move(done)),
      requests_(std::move(requests)),
      response_(response) {
  for (size_t i = 0; i < requests_.size(); ++i) response_->add_scores();
}

void ScoreCall::Cancel(const absl::Status& status) {
  std::vector<RequestId> ids;
  {
    MutexLock lock(mutex_);
    ids = FailLocked(status);
  }
  CancelAll(ids, status);
  FinishIfOver();
}

// Submits as long as there is room. Sinks may call back from inside Submit.
void ScoreCall::Pump() {
  size_t pair = 0;
  while (TakeNext(pair)) {
    Request request;
    {
      MutexLock lock(mutex_);
      request = requests_[pair];
    }
    OnSubmitted(pair, engine_.Submit(std::move(request),
                                     std::make_shared<PairSink>(shared_from_this(), pair)));
  }
  FinishIfOver();
}

bool ScoreCall::TakeNext(size_t& pair) {
  MutexLock lock(mutex_);
  if (!status_.ok() || next_ == requests_.size() || in_flight_ == kInFlight) return false;
  pair = next_++;
  ++in_flight_;
  return true;
}

void ScoreCall::OnSubmitted(size_t pair, const absl::StatusOr<RequestId>& id) {
  std::vector<RequestId> ids;
  absl::Status status;
  {
    MutexLock lock(mutex_);
    if (id.ok()) {
      ids_.push_back(*id);
      status = status_;
      // Cancelled since: the others were, this one was not known yet.
      if (!status.ok()) ids.push_back(*id);
    } else {
      --in_flight_;
      status = absl::Status(id.status().code(),
                            absl::StrCat("pairs[", pair, "]: ", id.status().message()));
      ids = FailLocked(status);
    }
  }
  CancelAll(ids, status);
}

void ScoreCall::OnPairEnd(size_t pair, const std::vector<TokenLogprob>& tokens,
                          const absl::Status& status) {
  std::vector<RequestId> ids;
  {
    MutexLock lock(mutex_);
    --in_flight_;
    if (status.ok()) {
      ScoreToProto(tokens, token_logprobs_, *response_->mutable_scores(static_cast<int>(pair)));
    } else {
      ids = FailLocked(status);
    }
  }
  CancelAll(ids, status);
  Pump();
}

// Returns what is to be cancelled.
std::vector<RequestId> ScoreCall::FailLocked(const absl::Status& status) {
  if (!status_.ok() || finished_) return {};
  status_ = status;
  return ids_;
}

void ScoreCall::CancelAll(const std::vector<RequestId>& ids, const absl::Status& status) {
  for (const RequestId id : ids) engine_.Cancel(id, status);
}

void ScoreCall::FinishIfOver() {
  absl::Status status;
  {
    MutexLock lock(mutex_);
    const bool all = next_ == requests_.size() || !status_.ok();
    if (finished_ || in_flight_ > 0 || !all) return;
    finished_ = true;
    status = status_;
  }
  done_(status);
}

}  // namespace based
