#include "server/generate_stream.h"

#include <algorithm>

#include "kernels/base/check.h"
#include "server/convert.h"
#include "server/slow_reader.h"
#include "server/status.h"

namespace based {

void GenerateStream::OnStarted(const Started& started) {
  Action action;
  {
    MutexLock lock(mutex_);
    timer_.OnStarted(Clock::now());
    summary_.started = started;
    if (!broken_) queue_.push_back(StartedToProto(started, request_id_));
    action = NextAction();
  }
  Do(action);
}

bool GenerateStream::OnDelta(Delta delta) {
  Action action;
  {
    MutexLock lock(mutex_);
    BASED_CHECK(!ended_);
    timer_.OnDelta(delta);
    summary_.delivered_tokens += delta.tokens;
    const bool carries = !delta.text.empty() || (token_ids_ && !delta.token_ids.empty()) ||
                         !delta.logprobs.empty() || !delta.prompt_logprobs.empty();
    if (broken_ || !carries) return true;
    const bool merge = queue_.size() >= separate_ && queue_.back().has_delta() &&
                       queue_.back().delta().index() == delta.index &&
                       last_tokens_ < kMergeTokens &&
                       queue_.back().delta().text().size() < kMergeBytes;
    if (!merge) {
      if (queue_.size() >= max_queued_messages_) return false;
      queue_.emplace_back();
      last_tokens_ = 0;
    }
    AppendDelta(delta, token_ids_, queue_.back());
    ends_ = delta.ends;
    // An echoed or scored prompt fills messages too.
    last_tokens_ += std::max({delta.tokens, static_cast<int32_t>(delta.token_ids.size()),
                              static_cast<int32_t>(delta.prompt_logprobs.size())});
    action = NextAction();
  }
  Do(action);
  return true;
}

void GenerateStream::OnChoiceFinished(const Finished& finished) {
  Action action;
  {
    MutexLock lock(mutex_);
    if (!broken_) queue_.push_back(FinishedToProto(finished));
    action = NextAction();
  }
  Do(action);
}

void GenerateStream::OnFinished(const Finished& finished) {
  Action action;
  {
    MutexLock lock(mutex_);
    summary_.finished = finished;
    if (!broken_) queue_.push_back(FinishedToProto(finished));
    End(absl::OkStatus());
    action = NextAction();
  }
  Do(action);
}

void GenerateStream::OnError(const absl::Status& status) {
  Action action;
  {
    MutexLock lock(mutex_);
    // A reader that fell behind, or is gone, gets the status without what it has not read.
    if (status.code() != absl::StatusCode::kUnavailable &&
        status.code() != absl::StatusCode::kInternal) {
      queue_.clear();
    }
    summary_.finished.timings = timer_.CutAt(Clock::now());
    End(status);
    action = NextAction();
  }
  Do(action);
}

void GenerateStream::OnWriteDone(bool ok) {
  Action action;
  {
    MutexLock lock(mutex_);
    busy_ = false;
    WriteIsOver();
    if (!ok) {
      broken_ = true;
      queue_.clear();
    }
    action = NextAction();
  }
  Do(action);
}

void GenerateStream::OnCallDone() {
  MutexLock lock(mutex_);
  if (in_flight_) WriteIsOver();
}

void GenerateStream::CutIfStalled(Clock::time_point since) {
  grpc_call* call = nullptr;
  {
    MutexLock lock(mutex_);
    if (!in_flight_ || cut_ || write_began_ > since) return;
    cut_ = true;
    // What is in flight may be the last thing that the call waits for: it must not go under us.
    call = HoldCall(*context_);
  }
  // The access log will say CANCELLED, as if the client had gone.
  CutSlowReader(call, request_id_);
}

StreamSummary GenerateStream::summary() const {
  MutexLock lock(mutex_);
  return summary_;
}

void GenerateStream::WriteIsOver() {
  in_flight_ = false;
  summary_.longest_write =
      std::max<std::chrono::nanoseconds>(summary_.longest_write, Clock::now() - write_began_);
}

void GenerateStream::End(absl::Status status) {
  BASED_CHECK(!ended_);
  ended_ = true;
  summary_.status = std::move(status);
}

GenerateStream::Action GenerateStream::NextAction() {
  if (busy_ || (queue_.empty() && !ended_)) return Action::kWait;
  busy_ = true;
  if (queue_.empty()) return Action::kFinish;
  writing_ = std::move(queue_.front());
  queue_.pop_front();
  in_flight_ = true;
  write_began_ = Clock::now();
  hold_ = !queue_.empty() || (ends_ && !ended_);
  return queue_.empty() && ended_ ? Action::kWriteLast : Action::kWrite;
}

// busy_ is true, so no other thread acts on the reactor. After Finish the reactor may be gone.
void GenerateStream::Do(Action action) {
  if (action == Action::kWait) return;
  chosen_ = action;
  if (connection_ == nullptr) return Write();
  connection_->WriteAtBatchEnd(shared_from_this());
}

void GenerateStream::Write() {
  switch (chosen_) {
    case Action::kWait:
      return;
    case Action::kWriteLast:
      return reactor_->StartWriteAndFinish(&writing_, {},
                                           FailCall(context_, summary().status, FailedAt::kStream));
    case Action::kWrite:
      return reactor_->StartWrite(
          &writing_, hold_ ? grpc::WriteOptions().set_buffer_hint() : grpc::WriteOptions());
    case Action::kFinish:
      return reactor_->Finish(FailCall(context_, summary().status, FailedAt::kStream));
  }
}

}  // namespace based
