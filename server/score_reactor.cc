#include "server/score_reactor.h"

#include <utility>

#include "server/call_context.h"
#include "server/convert.h"
#include "server/log.h"
#include "server/status.h"
#include "server/trace_context.h"

namespace based {

void ScoreReactor::Start(const v1::ScoreRequest& message, v1::ScoreResponse* response) {
  const std::string request_id = RequestIdOf(*context_);
  absl::StatusOr<Gate::Entry> entry = gate_.Enter(*context_, Permission::kGenerate, request_id);
  if (!entry.ok()) {
    metrics_.OnRejected(entry.status());
    return Finish(FailCall(context_, entry.status(), FailedAt::kAdmission));
  }
  const Model& model = entry->engine.model();
  const absl::Status named = CheckModelName(message.model(), model.name);
  absl::StatusOr<std::vector<ScoreGroup>> groups =
      named.ok() ? ScoresFromProto(message, model, entry->engine.capacity()) : named;
  if (!groups.ok()) {
    metrics_.OnRejected(groups.status());
    return Finish(FailCall(context_, groups.status(), FailedAt::kAdmission));
  }
  for (ScoreGroup& group : *groups) {
    group.request.request_id = request_id;
    group.request.tenant = entry->caller.tenant;
    group.request.deadline = deadline_;
  }
  const int64_t pairs = message.pairs_size();
  const Clock::time_point arrival = Clock::now();
  call_ = std::make_shared<ScoreCall>(
      entry->engine, *std::move(groups), message.token_logprobs(), response,
      [this, request_id, pairs, arrival, tenant = entry->caller.tenant,
       trace = ParseTraceparent(MetadataOf(*context_, "traceparent"))](const absl::Status& status) {
        const std::string code = StatusCodeName(status.code());
        const auto total =
            std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - arrival);
        const std::string peer = context_->peer();
        std::vector<LogField> fields = {{"request_id", absl::string_view(request_id)},
                                        {"peer", absl::string_view(peer)},
                                        {"tenant", absl::string_view(tenant)},
                                        {"code", absl::string_view(code)},
                                        {"message", status.message()},
                                        {"pairs", pairs},
                                        {"total_us", static_cast<int64_t>(total.count())}};
        AppendTrace(trace, fields);
        LogFields(LogLevel::kInfo, "score", fields);
        Finish(status.ok() ? grpc::Status::OK : FailCall(context_, status, FailedAt::kStream));
      });
  call_->Start();
}

void ScoreReactor::OnCancel() {
  if (call_ == nullptr) return;
  const bool late = deadline_ <= Clock::now();  // by the steady clock, whatever the wall's says
  call_->Cancel(late ? absl::DeadlineExceededError("the call's deadline has passed")
                     : absl::CancelledError("the client has cancelled the call"));
}

}  // namespace based
