#include "server/answer_limit.h"

#include "server/call_context.h"
#include "server/slow_reader.h"

namespace based {
namespace {

constexpr size_t kSmall = size_t{4} << 10;
constexpr size_t kLimitIsFor = size_t{1} << 20;

}  // namespace

std::shared_ptr<AnswerLimit> AnswerLimit::Begin(grpc::CallbackServerContext* context,
                                                const google::protobuf::Message& answer,
                                                std::chrono::milliseconds limit,
                                                absl::string_view request_id) {
  const size_t bytes = answer.ByteSizeLong();
  if (bytes <= kSmall) return nullptr;
  std::shared_ptr<AnswerLimit> begun(new AnswerLimit(context, request_id));
  const auto time = limit * static_cast<int64_t>((bytes + kLimitIsFor - 1) / kLimitIsFor);
  // The alarm holds on to its owner until it has rung or was stopped, and no longer.
  begun->alarm_.Set(std::chrono::system_clock::now() + time, [held = begun](bool rings) mutable {
    if (rings) held->Cut();
    held.reset();
  });
  return begun;
}

void AnswerLimit::OnCallDone() {
  {
    MutexLock lock(mutex_);
    context_ = nullptr;
  }
  alarm_.Cancel();
}

void AnswerLimit::Cut() {
  grpc_call* call = nullptr;
  {
    MutexLock lock(mutex_);
    if (context_ == nullptr) return;
    call = HoldCall(*context_);
  }
  CutSlowReader(call, request_id_);
}

void UnaryAnswer::End(const google::protobuf::Message& answer, const grpc::Status& status) {
  if (status.ok()) limit_ = AnswerLimit::Begin(context_, answer, time_, RequestIdOf(*context_));
  Finish(status);
}

UnaryAnswer* UnaryAnswer::Ended(grpc::CallbackServerContext* context,
                                std::chrono::milliseconds limit,
                                const google::protobuf::Message& answer,
                                const grpc::Status& status) {
  auto* reactor = new UnaryAnswer(context, limit);
  reactor->End(answer, status);
  return reactor;
}

void UnaryAnswer::OnDone() {
  if (limit_ != nullptr) limit_->OnCallDone();
  delete this;
}

}  // namespace based
