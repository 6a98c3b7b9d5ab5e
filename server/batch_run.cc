#include "server/batch_run.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/batch_result.h"
#include "engine/refusal.h"
#include "nlohmann/json.hpp"
#include "server/request_id.h"

namespace based {
namespace {

constexpr int32_t kMostAttempts = 3;
constexpr std::chrono::milliseconds kPause{1000};
constexpr std::chrono::milliseconds kLongestPause{30'000};

}  // namespace

bool KnowsTenant(const Engine& engine, const std::string& tenant) {
  const std::vector<TenantUse> tenants = engine.tenants();
  const auto named = [&](const TenantUse& one) { return one.name == tenant; };
  // The default tenant alone stands for everybody.
  return tenants.size() <= 1 || std::any_of(tenants.begin(), tenants.end(), named);
}

BatchRun::BatchRun(std::shared_ptr<BatchJob> job, Host& host) : job_(std::move(job)), host_(host) {
  for (const int32_t entry : job_->plan().Order()) {
    if (!job_->Has(static_cast<size_t>(entry))) waiting_.push_back(static_cast<size_t>(entry));
  }
}

int32_t BatchRun::Next(Clock::time_point now) const {
  const bool held = stopped_ || !unwritten_.empty() || !room_.ok() || now < gate_;
  if (held || waiting_.empty()) return 0;
  return job_->plan().entries()[waiting_.front()].sequences;
}

void BatchRun::Send() {
  const size_t entry = waiting_.front();
  waiting_.pop_front();
  const BatchEntry& from = job_->plan().entries()[entry];
  absl::StatusOr<std::string> text = job_->plan().Text(entry);
  absl::StatusOr<BatchAsk> line =
      text.ok() ? ReadBatchJobLine(*text, job_->plan().Place(entry), host_.model.openai)
                : text.status();
  BatchResultHead head = {.input = job_->record().input, .line = from.line};
  if (!line.ok()) {
    // It could be read when the job was taken.
    return Keep({.entry = entry, .failed = true, .json = BatchErrorJson(head, line.status())});
  }
  head.form = line->form;
  head.custom_id = line->custom_id;
  heads_[entry] = std::move(head);
  in_flight_ += from.sequences;
  const std::string request_id = RequestIdFrom("");
  auto& call = calls_[entry];
  auto ended = [weak = weak_from_this(), post = host_.post, entry, request_id](BatchCallEnd end) {
    post([weak, entry, request_id, end = std::move(end)] {
      if (const auto run = weak.lock()) run->OnEnded(entry, request_id, end);
    });
  };
  call = BatchCall::Start(host_.engine, *std::move(line), job_->record().tenant, request_id,
                          std::move(ended));
}

void BatchRun::Stop() {
  stopped_ = true;
  for (const auto& [entry, call] : calls_) call->Cancel();
}

void BatchRun::OnEnded(size_t entry, const std::string& request_id, BatchCallEnd end) {
  calls_.erase(entry);
  in_flight_ -= job_->plan().entries()[entry].sequences;
  const BatchResultHead head = std::move(heads_.extract(entry).mapped());
  if (end.status.ok()) {
    attempts_.erase(entry);
    return Keep(
        {.entry = entry,
         .failed = false,
         .json = BatchResultJson(head, request_id, nlohmann::ordered_json::parse(end.completion)),
         .generated_tokens = end.generated_tokens});
  }
  if (TryAgain(entry, end.status)) {
    waiting_.push_front(entry);
    return;
  }
  Keep({.entry = entry, .failed = true, .json = BatchErrorJson(head, end.status)});
}

bool BatchRun::TryAgain(size_t entry, const absl::Status& status) {
  if (stopped_) return true;
  const std::optional<Refusal> refusal = RefusalOf(status);
  if (refusal && refusal->retry_after.count() > 0) {
    gate_ = Clock::now() + std::min(refusal->retry_after, kLongestPause);
    return true;
  }
  const bool gone = absl::IsUnavailable(status);
  if (gone ||
      (absl::IsInvalidArgument(status) && !KnowsTenant(host_.engine, job_->record().tenant))) {
    job_->set_message(gone ? std::string(status.message()) : "its tenant is not in --access_file");
    gate_ = Clock::now() + kPause;
    return true;
  }
  const bool may_pass = absl::IsInternal(status) || absl::IsUnknown(status) ||
                        absl::IsAborted(status) || absl::IsCancelled(status);
  return may_pass && ++attempts_[entry] < kMostAttempts;
}

void BatchRun::Keep(Result result) {
  if (!unwritten_.empty() || !Write(result)) unwritten_.push_back(std::move(result));
}

bool BatchRun::Write(const Result& result) {
  const absl::Status written =
      job_->Keep(result.entry, result.failed, result.json, result.generated_tokens);
  if (!written.ok()) {
    ++host_.counts.write_errors;
    job_->set_message(std::string(written.message()));
    return false;
  }
  ++(result.failed ? host_.counts.failed : host_.counts.succeeded);
  return true;
}

void BatchRun::Tick() {
  while (!unwritten_.empty() && Write(unwritten_.front())) unwritten_.pop_front();
  absl::Status synced = job_->Sync();
  if (!synced.ok()) {
    ++host_.counts.write_errors;
    job_->set_message(std::string(synced.message()));
    gate_ = Clock::now() + kPause;
  } else if (unwritten_.empty() && Clock::now() >= gate_) {
    job_->set_message(std::string(room_.message()));
  }
}

}  // namespace based
