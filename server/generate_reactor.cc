#include "server/generate_reactor.h"

#include <algorithm>
#include <chrono>

#include "server/call_context.h"
#include "server/convert.h"
#include "server/log.h"
#include "server/session_service.h"
#include "server/status.h"

namespace based {
namespace {

// A client gives up at its own deadline; ours, which travels as a rounded-up duration, is a little
// later. A cancel this close to it is the deadline.
constexpr std::chrono::milliseconds kDeadlineSlack(100);

int64_t Microseconds(std::chrono::nanoseconds duration) {
  return std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
}

}  // namespace

GenerateReactor::GenerateReactor(const Gate& gate, Metrics& metrics, StreamWatch& watch,
                                 const ConnectionTable& connections,
                                 grpc::CallbackServerContext* context, size_t max_queued_messages)
    : gate_(gate),
      metrics_(metrics),
      watch_(watch),
      peer_(context->peer()),
      connection_(connections.Find(peer_)),
      context_(context),
      max_queued_messages_(max_queued_messages),
      request_id_(RequestIdOf(*context)),
      deadline_(DeadlineOf(*context)),
      trace_(ParseTraceparent(MetadataOf(*context, "traceparent"))) {
  metrics_.OnStreamOpened();
  if (connection_ != nullptr) connection_->OnStreamOpened();
}

void GenerateReactor::Start(const v1::GenerateRequest& message) {
  absl::StatusOr<Gate::Entry> entry = gate_.Enter(*context_, Permission::kGenerate, request_id_);
  if (!entry.ok()) return Reject(entry.status(), true);
  engine_ = &entry->engine;
  const Model& model = engine_->model();
  if (absl::Status named = CheckModelName(message.model(), model.name); !named.ok()) {
    return Reject(named, true);
  }
  absl::StatusOr<Request> request =
      RequestFromProto(message, model.tokenizer != nullptr, entry->chat);
  if (!request.ok()) return Reject(request.status(), true);
  if (absl::Status named = ApplyTenant(entry->caller, request->tenant); !named.ok()) {
    return Reject(named, true);
  }
  if (absl::Status permitted =
          CheckMayUseSession(request->session, entry->caller, *context_, request_id_);
      !permitted.ok()) {
    return Reject(permitted, true);
  }
  tenant_ = request->tenant;
  request->request_id = request_id_;
  request->deadline = deadline_;
  auto stream = std::make_shared<GenerateStream>(this, context_, connection_, request_id_,
                                                 request->output.token_ids, max_queued_messages_);
  // Set before Submit: the engine may start and even finish the stream before Submit returns, and
  // gRPC, which has not bound the reactor yet, calls OnWriteDone and OnDone only afterwards.
  stream_ = stream;
  absl::StatusOr<RequestId> id = engine_->Submit(*std::move(request), stream);
  if (!id.ok()) {
    stream_ = nullptr;
    return Reject(id.status(), false);
  }
  id_ = *id;
  watch_.Add(stream);
}

void GenerateReactor::Reject(const absl::Status& status, bool tell_metrics) {
  if (tell_metrics) metrics_.OnRejected(status);
  rejection_ = status;
  Finish(FailCall(context_, status, FailedAt::kAdmission));
}

void GenerateReactor::OnCancel() {
  if (stream_ == nullptr) return;
  // By the steady clock: the wall's may have been set since the call came.
  const bool late = deadline_ <= Clock::now() + kDeadlineSlack;
  engine_->Cancel(id_, late ? absl::DeadlineExceededError("the call's deadline has passed")
                            : absl::CancelledError("the client has cancelled the call"));
}

void GenerateReactor::OnDone() {
  metrics_.OnStreamClosed();
  if (connection_ != nullptr) connection_->OnStreamClosed();
  if (stream_ != nullptr) stream_->OnCallDone();
  if (stream_ != nullptr) metrics_.OnStreamStalled(stream_->summary().longest_write);
  LogAccess();
  delete this;
}

void GenerateReactor::LogAccess() const {
  const StreamSummary summary =
      stream_ != nullptr ? stream_->summary() : StreamSummary{.status = rejection_};
  const Timings& timings = summary.finished.timings;
  const std::string code = StatusCodeName(summary.status.code());
  // A call that ends well knows its exact count; one that was cut, what was handed over.
  const int64_t tokens = std::max(summary.finished.generated_tokens, summary.delivered_tokens);
  const char* reason = stream_ != nullptr && summary.status.ok()
                           ? FinishReasonName(summary.finished.reason)
                           : "none";
  std::vector<LogField> fields = {{"request_id", absl::string_view(request_id_)},
                                  {"peer", absl::string_view(peer_)},
                                  {"tenant", absl::string_view(tenant_)},
                                  {"code", absl::string_view(code)},
                                  {"message", summary.status.message()},
                                  {"finish_reason", absl::string_view(reason)},
                                  {"prompt_tokens", summary.started.prompt_tokens},
                                  {"reused_tokens", summary.started.reused_tokens},
                                  {"generated_tokens", tokens},
                                  {"queue_us", Microseconds(timings.queue)},
                                  {"prefill_us", Microseconds(timings.prefill)},
                                  {"decode_us", Microseconds(timings.decode)},
                                  {"total_us", Microseconds(Clock::now() - arrival_)}};
  AppendTrace(trace_, fields);
  LogFields(LogLevel::kInfo, "generate", fields);
}

}  // namespace based
