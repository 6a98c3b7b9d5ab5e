#include "server/score_reactor.h"

#include <chrono>
#include <utility>
#include <vector>

#include "server/convert.h"
#include "server/log.h"

namespace based {

void ScoreReactor::Start(const v1::ScoreRequest& message, v1::ScoreResponse* response) {
  pairs_ = message.pairs_size();
  response_ = response;
  absl::StatusOr<Gate::Entry> entry = gate_.Enter(*context_, Permission::kGenerate, request_id_);
  if (!entry.ok()) return Reject(entry.status());
  tenant_ = entry->caller.tenant;
  const Model& model = entry->engine.model();
  const absl::Status named = CheckModelName(message.model(), model.name);
  absl::StatusOr<std::vector<ScoreGroup>> groups =
      named.ok() ? ScoresFromProto(message, model, entry->engine.capacity()) : named;
  if (!groups.ok()) return Reject(groups.status());
  for (ScoreGroup& group : *groups) {
    group.request.request_id = request_id_;
    group.request.tenant = tenant_;
    group.request.deadline = deadline_;
  }
  call_ = std::make_shared<ScoreCall>(
      entry->engine, *std::move(groups), message.token_logprobs(), response,
      [this](const absl::Status& status) { End(status, FailedAt::kStream); });
  call_->Start();
}

void ScoreReactor::Reject(const absl::Status& status) {
  metrics_.OnRejected(status);
  End(status, FailedAt::kAdmission);
}

// The reactor may be gone afterwards.
void ScoreReactor::End(const absl::Status& status, FailedAt failed_at) {
  const std::string code = StatusCodeName(status.code());
  const auto total = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - arrival_);
  const std::string peer = context_->peer();
  std::vector<LogField> fields = {{"request_id", absl::string_view(request_id_)},
                                  {"peer", absl::string_view(peer)},
                                  {"tenant", absl::string_view(tenant_)},
                                  {"code", absl::string_view(code)},
                                  {"message", status.message()},
                                  {"pairs", pairs_},
                                  {"total_us", static_cast<int64_t>(total.count())}};
  AppendTrace(trace_, fields);
  LogFields(LogLevel::kInfo, "score", fields);
  if (status.ok()) limit_ = AnswerLimit::Begin(context_, *response_, write_timeout_, request_id_);
  Finish(status.ok() ? grpc::Status::OK : FailCall(context_, status, failed_at));
}

void ScoreReactor::OnDone() {
  if (limit_ != nullptr) limit_->OnCallDone();
  delete this;
}

void ScoreReactor::OnCancel() {
  if (call_ == nullptr) return;
  const bool late = deadline_ <= Clock::now();  // by the steady clock, whatever the wall's says
  call_->Cancel(late ? absl::DeadlineExceededError("the call's deadline has passed")
                     : absl::CancelledError("the client has cancelled the call"));
}

}  // namespace based
