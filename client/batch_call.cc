#include "client/batch_call.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"

namespace based {

BatchEvents::~BatchEvents() {
  queue_.Shutdown();
  void* call = nullptr;
  bool ok = false;
  while (queue_.Next(&call, &ok)) {
  }
}

bool BatchEvents::Hear(std::chrono::steady_clock::time_point deadline) {
  // gRPC counts on the wall clock.
  const auto wait = deadline - std::chrono::steady_clock::now();
  const auto until = std::chrono::system_clock::now() +
                     std::chrono::duration_cast<std::chrono::system_clock::duration>(wait);
  void* call = nullptr;
  bool ok = false;
  if (queue_.AsyncNext(&call, &ok, until) != grpc::CompletionQueue::GOT_EVENT) return false;
  static_cast<BatchCall*>(call)->OnEvent(ok);
  return true;
}

std::vector<BatchEvents::Event> BatchEvents::Take(std::chrono::steady_clock::time_point deadline) {
  while (events_.empty() && Hear(deadline)) {
  }
  constexpr size_t kMost = 256;  // then there is something to do
  const auto now = std::chrono::steady_clock::now();
  while (events_.size() < kMost && Hear(now)) {
  }
  return std::exchange(events_, {});
}

void BatchCall::Start(v1::CompletionService::Stub& stub, std::chrono::milliseconds timeout) {
  sent_ = std::chrono::steady_clock::now();
  if (timeout.count() > 0) context_.set_deadline(std::chrono::system_clock::now() + timeout);
  reader_ = stub.PrepareAsyncGenerate(&context_, line_.request, &events_.queue());
  reader_->StartCall(this);
}

BatchOutcome::Choice& BatchCall::ChoiceAt(int32_t index) {
  const auto at = static_cast<size_t>(index);
  if (outcome_.choices.size() <= at) outcome_.choices.resize(at + 1);
  return outcome_.choices[at];
}

void BatchCall::OnEvent(bool ok) {
  if (operation_ == Operation::kFinish) return End();
  if (operation_ == Operation::kRead && ok) Gather();
  const bool more = ok && finished_ < std::max(1, line_.request.n());
  operation_ = more ? Operation::kRead : Operation::kFinish;
  more ? reader_->Read(&response_, this) : reader_->Finish(&status_, this);
}

void BatchCall::Gather() {
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
    ++finished_;
    BatchOutcome::Choice& choice = ChoiceAt(done.index());
    choice.finish_reason = done.finish_reason();
    choice.stop_string = done.stop_string();
    choice.stop_token_id = done.stop_token_id();
    outcome_.prompt_tokens = done.usage().prompt_tokens();
    outcome_.generated_tokens += done.usage().generated_tokens();
  }
}

void BatchCall::End() {
  outcome_.status =
      absl::Status(static_cast<absl::StatusCode>(status_.error_code()), status_.error_message());
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
