#include "server/score_call.h"

#include <iterator>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "server/convert.h"

namespace based {

// Collects what the engine says of one group.
class ScoreCall::GroupSink final : public TokenSink {
 public:
  GroupSink(std::shared_ptr<ScoreCall> call, size_t group, size_t continuations)
      : call_(std::move(call)), group_(group), heard_(continuations) {}

  void OnStarted(const Started&) override {}
  bool OnDelta(Delta delta) override {
    std::move(delta.prompt_logprobs.begin(), delta.prompt_logprobs.end(),
              std::back_inserter(heard_[static_cast<size_t>(delta.index)]));
    return true;
  }
  void OnChoiceFinished(const Finished& finished) override {
    computed_ += finished.timings.prefill_tokens;
  }
  void OnFinished(const Finished& finished) override {
    OnChoiceFinished(finished);
    call_->OnGroupEnd(group_, heard_, computed_, absl::OkStatus());
  }
  void OnError(const absl::Status& status) override {
    call_->OnGroupEnd(group_, heard_, computed_, status);
  }

 private:
  const std::shared_ptr<ScoreCall> call_;
  const size_t group_;
  std::vector<std::vector<TokenLogprob>> heard_;  // of each continuation
  int64_t computed_ = 0;                          // tokens
};

ScoreCall::ScoreCall(Engine& engine, std::vector<ScoreGroup> groups, bool token_logprobs,
                     v1::ScoreResponse* response, std::function<void(const absl::Status&)> done)
    : engine_(engine),
      token_logprobs_(token_logprobs),
      done_(std::move(done)),
      groups_(std::move(groups)),
      response_(response) {
  int64_t tokens = 0;
  for (const ScoreGroup& group : groups_) {
    for (const ScoreGroup::Pair& pair : group.pairs) {
      response_->add_scores();
      tokens += pair.end;
    }
  }
  response_->mutable_usage()->set_tokens(tokens);
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
  size_t group = 0;
  Request request;
  while (TakeNext(group, request)) {
    auto sink =
        std::make_shared<GroupSink>(shared_from_this(), group, request.continuations.size());
    OnSubmitted(group, engine_.Submit(std::move(request), std::move(sink)));
  }
  FinishIfOver();
}

bool ScoreCall::TakeNext(size_t& group, Request& request) {
  MutexLock lock(mutex_);
  if (!status_.ok() || next_ == groups_.size()) return false;
  const size_t pairs = groups_[next_].pairs.size();
  if (in_flight_ + pairs > kInFlight) return false;
  group = next_++;
  request = std::move(groups_[group].request);
  in_flight_ += pairs;
  return true;
}

void ScoreCall::OnSubmitted(size_t group, const absl::StatusOr<RequestId>& id) {
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
      in_flight_ -= groups_[group].pairs.size();
      status = absl::Status(
          id.status().code(),
          absl::StrCat("pairs[", groups_[group].pairs.front().index, "]: ", id.status().message()));
      // Of a refusal: why, and when to ask again.
      id.status().ForEachPayload([&status](absl::string_view url, const absl::Cord& payload) {
        status.SetPayload(url, payload);
      });
      ids = FailLocked(status);
    }
  }
  CancelAll(ids, status);
}

void ScoreCall::OnGroupEnd(size_t group, const std::vector<std::vector<TokenLogprob>>& heard,
                           int64_t computed, const absl::Status& status) {
  std::vector<RequestId> ids;
  {
    MutexLock lock(mutex_);
    const ScoreGroup& ended = groups_[group];
    in_flight_ -= ended.pairs.size();
    if (!status.ok()) {
      ids = FailLocked(status);
    } else {
      for (const ScoreGroup::Pair& pair : ended.pairs) {
        ScoreToProto(ended.TokensOf(pair, heard), token_logprobs_,
                     *response_->mutable_scores(pair.index));
      }
      v1::ScoreUsage& usage = *response_->mutable_usage();
      usage.set_computed_tokens(usage.computed_tokens() + computed);
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
    const bool all = next_ == groups_.size() || !status_.ok();
    if (finished_ || in_flight_ > 0 || !all) return;
    finished_ = true;
    status = status_;
  }
  done_(status);
}

}  // namespace based
