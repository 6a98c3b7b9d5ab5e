#include "client/batch_call.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"

namespace based {

void BatchEvents::Add(Event event) {
  MutexLock lock(mutex_);
  events_.push_back(event);
  changed_.NotifyOne();
}

std::vector<BatchEvents::Event> BatchEvents::Take(std::chrono::steady_clock::time_point deadline) {
  MutexLock lock(mutex_);
  while (events_.empty() && std::chrono::steady_clock::now() < deadline) {
    changed_.WaitUntil(mutex_, deadline);
  }
  return std::exchange(events_, {});
}

void BatchCall::Start(v1::CompletionService::Stub& stub, std::chrono::milliseconds timeout) {
  sent_ = std::chrono::steady_clock::now();
  if (timeout.count() > 0) context_.set_deadline(std::chrono::system_clock::now() + timeout);
  stub.async()->Generate(&context_, &line_.request, this);
  StartRead(&response_);
  StartCall();
}

BatchOutcome::Choice& BatchCall::ChoiceAt(int32_t index) {
  const auto at = static_cast<size_t>(index);
  if (outcome_.choices.size() <= at) outcome_.choices.resize(at + 1);
  return outcome_.choices[at];
}

void BatchCall::OnReadDone(bool ok) {
  if (!ok) return;
  if (!heard_) {
    heard_ = true;
    events_.Add({.call = this});
  }
  if (response_.has_started()) {
    outcome_.request_id = response_.started().request_id();
  } else if (response_.has_delta()) {
    BatchOutcome::Choice& choice = ChoiceAt(response_.delta().index());
    const auto& ids = response_.delta().token_ids();
    choice.text += response_.delta().text();
    choice.token_ids.insert(choice.token_ids.end(), ids.begin(), ids.end());
  } else if (response_.has_done()) {
    const v1::Done& done = response_.done();
    ChoiceAt(done.index()).finish_reason = done.finish_reason();
    outcome_.prompt_tokens = done.usage().prompt_tokens();
    outcome_.generated_tokens += done.usage().generated_tokens();
  }
  StartRead(&response_);
}

void BatchCall::OnDone(const grpc::Status& status) {
  outcome_.status =
      absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  // Last: the running thread may delete this at once.
  events_.Add({.call = this, .ended = true});
}

std::optional<std::chrono::milliseconds> BatchCall::pushback() const {
  const auto& metadata = context_.GetServerTrailingMetadata();
  const auto found = metadata.find("grpc-retry-pushback-ms");
  int64_t wait = 0;
  if (found == metadata.end() ||
      !absl::SimpleAtoi(absl::string_view(found->second.data(), found->second.size()), &wait) ||
      wait < 0) {
    return std::nullopt;
  }
  return std::chrono::milliseconds(wait);
}

}  // namespace based
