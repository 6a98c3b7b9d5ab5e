#include "server/batch_create.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/session_store.h"
#include "kernels/base/status.h"
#include "server/request_id.h"
#include "server/status.h"

namespace based {
namespace {

constexpr size_t kMostPieceBytes = 1 << 20;
constexpr std::chrono::seconds kMostSilence{60};
constexpr size_t kRandomDigits = 8;

// Sorts by time.
std::string NewBatchId() {
  return absl::StrCat("batch-", absl::FormatTime("%Y%m%dT%H%M%S", absl::Now(), absl::UTCTimeZone()),
                      "-", RequestIdFrom("").substr(0, kRandomDigits));
}

v1::BatchState ToProto(BatchState state) {
  switch (state) {
    case BatchState::kRunning:
      return v1::BATCH_STATE_RUNNING;
    case BatchState::kCompleted:
      return v1::BATCH_STATE_COMPLETED;
    case BatchState::kCancelled:
      return v1::BATCH_STATE_CANCELLED;
    default:
      return v1::BATCH_STATE_QUEUED;
  }
}

}  // namespace

void ToProto(const BatchJobs& jobs, const BatchJob& job, v1::Batch& message) {
  const BatchRecord& record = job.record();
  message.set_id(record.id);
  message.set_state(ToProto(jobs.StateOf(job)));
  message.set_message(job.message());
  message.set_lines(record.lines);
  message.set_finished(job.finished());
  message.set_failed(job.failed());
  message.set_generated_tokens(job.generated_tokens());
  message.set_in_flight(jobs.InFlight(job));
  message.set_bytes(job.bytes());
  message.set_created_ms(record.created_ms);
  message.set_ended_ms(record.ended_ms);
  message.set_model(record.model);
  for (const std::string& name : record.ignored_fields) message.add_ignored_fields(name);
}

BatchCreateReactor::BatchCreateReactor(BatchJobs* jobs, absl::StatusOr<Caller> caller,
                                       grpc::CallbackServerContext* context, v1::Batch* response)
    : jobs_(jobs), caller_(std::move(caller)), context_(context), response_(response) {
  if (!caller_.ok()) {
    Finish(FailCall(context_, caller_.status(), FailedAt::kBatch));
  } else {
    StartRead(&message_);
  }
}

void BatchCreateReactor::OnReadDone(bool ok) {
  if (!jobs_->Post([this, ok] { OnPiece(ok); })) {
    Finish(FailCall(context_, absl::UnavailableError("the daemon is draining"), FailedAt::kBatch));
  }
}

void BatchCreateReactor::OnPiece(bool ok) {
  if (!ok) {
    return End(absl::InvalidArgumentError(
        "the call ended without a message that sets last; expected it in the last message"));
  }
  bool created = false;
  const absl::Status status = Take(created);
  if (!status.ok() || created) return End(status);
  heard_ = Clock::now();
  StartRead(&message_);
}

absl::Status BatchCreateReactor::Begin() {
  tenant_ = message_.tenant();
  BASED_RETURN_IF_ERROR(ApplyTenant(*caller_, tenant_));
  id_ = message_.id().empty() ? NewBatchId() : message_.id();
  BASED_RETURN_IF_ERROR(CheckSessionId("id", id_));
  BASED_ASSIGN_OR_RETURN(place_, jobs_->senders().Take(tenant_));
  BASED_ASSIGN_OR_RETURN(upload_, jobs_->Begin(tenant_, id_));
  WatchSilence();
  return absl::OkStatus();
}

absl::Status BatchCreateReactor::Take(bool& created) {
  BASED_RETURN_IF_ERROR(jobs_->CheckServing());
  if (message_.lines().size() > kMostPieceBytes) {
    return absl::InvalidArgumentError(absl::StrCat("lines is ", message_.lines().size(),
                                                   " bytes long; expected at most ",
                                                   kMostPieceBytes, " in a message"));
  }
  if (upload_ == nullptr) BASED_RETURN_IF_ERROR(Begin());
  BASED_RETURN_IF_ERROR(upload_->Add(message_.lines()));
  if (!message_.last()) return absl::OkStatus();
  BASED_ASSIGN_OR_RETURN(const std::shared_ptr<BatchJob> job,
                         jobs_->Finish(tenant_, id_, std::move(upload_)));
  ToProto(*jobs_, *job, *response_);
  created = true;
  return absl::OkStatus();
}

void BatchCreateReactor::End(const absl::Status& status) {
  *ended_ = true;
  upload_.reset();
  place_.reset();
  Finish(FailCall(context_, status, FailedAt::kBatch));
}

void BatchCreateReactor::WatchSilence() {
  heard_ = Clock::now();
  const auto look = [this, ended = ended_] {
    if (*ended) return true;
    if (Clock::now() - heard_ < kMostSilence) return false;
    context_->TryCancel();
    return true;
  };
  jobs_->Follow(look);
}

}  // namespace based
