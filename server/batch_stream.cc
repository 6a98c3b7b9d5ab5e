#include "server/batch_stream.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/session_store.h"
#include "kernels/base/status.h"
#include "server/log.h"
#include "server/status.h"

namespace based {
namespace {

constexpr int64_t kMessageBytes = 256 << 10;

}  // namespace

BatchStreamReactor::BatchStreamReactor(BatchJobs* jobs, Metrics& metrics,
                                       std::chrono::milliseconds write_timeout,
                                       const absl::Status& entered,
                                       grpc::CallbackServerContext* context, std::string tenant,
                                       const v1::StreamResultsRequest& request)
    : jobs_(jobs),
      metrics_(metrics),
      write_timeout_(write_timeout),
      context_(context),
      tenant_(std::move(tenant)),
      id_(request.id()),
      follow_(request.follow()),
      cursor_{.next = request.first()} {
  absl::Status status = entered;
  if (status.ok()) status = CheckSessionId("id", id_);
  if (!status.ok()) {
    End(status);
  } else if (!jobs_->Post([this] { Begin(); })) {
    End(absl::UnavailableError("the daemon is draining"));
  }
}

void BatchStreamReactor::Begin() {
  auto job = jobs_->Find(tenant_, id_);
  if (!job.ok()) return End(job.status());
  job_ = *std::move(job);
  auto place = jobs_->readers().Take(tenant_);
  if (!place.ok()) return End(place.status());
  place_ = *std::move(place);
  const int64_t lines = job_->record().lines;
  if (cursor_.next < 0 || cursor_.next > lines) {
    return End(absl::OutOfRangeError(
        absl::StrCat("first is ", cursor_.next, "; expected 0 to ", lines, ", the job's lines")));
  }
  WatchSilence();
  LookOrFollow();
}

void BatchStreamReactor::WatchSilence() {
  jobs_->Follow([this, ended = ended_] {
    if (*ended) return true;
    if (!writing_ || Clock::now() - *writing_ < write_timeout_) return false;
    Log(LogLevel::kWarning, "write_timeout",
        {{"tenant", absl::string_view(tenant_)}, {"id", absl::string_view(id_)}});
    context_->TryCancel();
    return true;
  });
}

void BatchStreamReactor::LookOrFollow() {
  if (!Look()) jobs_->Follow([this] { return Look(); });
}

absl::Status BatchStreamReactor::CheckGoesOn() const {
  BASED_RETURN_IF_ERROR(jobs_->CheckServing());
  if (context_->IsCancelled()) return absl::CancelledError("the client has gone");
  const auto job = jobs_->Find(tenant_, id_);
  if (!job.ok() || *job != job_) return absl::NotFoundError("the job was deleted");
  return absl::OkStatus();
}

bool BatchStreamReactor::Look() {
  bool skipping = false;
  absl::StatusOr<std::string> lines = std::string();
  absl::Status status = CheckGoesOn();
  if (status.ok()) {
    lines = job_->Results(cursor_, kMessageBytes, skipping);
    status = lines.status();
  }
  if (!status.ok()) {
    End(status);
    return true;
  }
  if (!lines->empty()) {
    message_.set_lines(*std::move(lines));
    message_.set_next(cursor_.next);
    writing_ = Clock::now();
    StartWrite(&message_);
    return true;
  }
  if (skipping) {
    // Others may do something in between.
    if (!jobs_->Post([this] { LookOrFollow(); })) {
      End(absl::UnavailableError("the daemon is draining"));
    }
    return true;
  }
  // Of a job that was cancelled results lie behind gaps until they are merged.
  const bool comes = cursor_.next < job_->record().lines && !job_->settled();
  if (comes && (follow_ || job_->record().ended())) return false;
  End(absl::OkStatus());
  return true;
}

void BatchStreamReactor::OnWriteDone(bool ok) {
  const bool posted = jobs_->Post([this, ok] {
    longest_write_ = std::max<std::chrono::nanoseconds>(longest_write_, Clock::now() - *writing_);
    writing_.reset();
    if (ok) return LookOrFollow();
    End(absl::CancelledError("the client has gone"));
  });
  if (!posted) End(absl::UnavailableError("the daemon is draining"));
}

void BatchStreamReactor::OnDone() {
  if (job_ != nullptr) metrics_.OnStreamStalled(longest_write_);
  delete this;
}

void BatchStreamReactor::End(const absl::Status& status) {
  *ended_ = true;
  place_.reset();
  Finish(FailCall(context_, status, FailedAt::kBatch));
}

}  // namespace based
