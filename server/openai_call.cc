#include "server/openai_call.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/version.h"

namespace based {

class OpenAiCall::PromptSink final : public TokenSink {
 public:
  PromptSink(std::shared_ptr<OpenAiCall> call, int32_t prompt)
      : call_(std::move(call)), prompt_(prompt) {}

  void OnStarted(const Started& started) override { call_->OnStarted(prompt_, started); }
  bool OnDelta(Delta delta) override { return call_->OnDelta(prompt_, delta); }
  void OnChoiceFinished(const Finished& finished) override {
    call_->OnChoiceFinished(prompt_, finished);
  }
  void OnFinished(const Finished& finished) override { call_->OnFinished(prompt_, finished); }
  void OnError(const absl::Status& status) override {
    call_->Fail(InOpenAiNames(status, call_->names_, prompt_));
  }

 private:
  const std::shared_ptr<OpenAiCall> call_;
  const int32_t prompt_;
};

OpenAiReplyOptions ReplyOptionsOf(const OpenAiRequest& request, const Model& model,
                                  absl::string_view request_id) {
  return {
      .chat = request.chat,
      .id = absl::StrCat(request.chat ? "chatcmpl-" : "cmpl-", request_id),
      .created = std::chrono::duration_cast<std::chrono::seconds>(
                     std::chrono::system_clock::now().time_since_epoch())
                     .count(),
      .model = model.name,
      .fingerprint = absl::StrCat("based-", kVersion, "-", model.checkpoint.digest.substr(0, 12)),
      .include_usage = request.include_usage,
      .logprobs = request.logprobs,
      .top_logprobs = request.requests[0].output.top_logprobs > 0,
      .token_ids = request.token_ids,
      .prompts = static_cast<int32_t>(request.requests.size()),
      .n = request.requests[0].n,
      .tokenizer = model.tokenizer.get()};
}

OpenAiCall::OpenAiCall(Engine& engine, std::shared_ptr<HttpExchange> exchange, OpenAiNames names,
                       std::unique_ptr<OpenAiReply> reply,
                       std::unique_ptr<OpenAiCallObserver> observer)
    : engine_(engine),
      exchange_(std::move(exchange)),
      names_(std::move(names)),
      observer_(std::move(observer)),
      reply_(std::move(reply)) {}

void OpenAiCall::Start(std::vector<Request> requests) {
  exchange_->OnClosed([weak = weak_from_this()] {
    if (const auto call = weak.lock()) call->OnClientGone();
  });
  {
    MutexLock lock(mutex_);
    open_ = requests.size();
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    absl::StatusOr<RequestId> id =
        engine_.Submit(std::move(requests[i]),
                       std::make_shared<PromptSink>(shared_from_this(), static_cast<int32_t>(i)));
    if (!id.ok()) {
      return Fail(InOpenAiNames(id.status(), names_, static_cast<int32_t>(i)));
    }
    absl::Status gone;
    {
      MutexLock lock(mutex_);
      ids_.push_back(*id);
      if (ended_) gone = status_;
    }
    // It ended meanwhile, and did not know of this one.
    if (!gone.ok()) return engine_.Cancel(*id, gone);
  }
  MutexLock lock(mutex_);
  submitted_ = true;
  BeginIfReady();
}

void OpenAiCall::BeginIfReady() {
  if (!submitted_ || !started_ || begun_ || ended_) return;
  begun_ = true;
  reply_->Begin();
}

void OpenAiCall::OnStarted(int32_t, const Started& started) {
  MutexLock lock(mutex_);
  usage_.prompt_tokens += started.prompt_tokens;
  started_ = true;
  timer_.OnStarted(Clock::now());
  BeginIfReady();
}

bool OpenAiCall::OnDelta(int32_t prompt, const Delta& delta) {
  MutexLock lock(mutex_);
  if (ended_) return true;
  timer_.OnDelta(delta);
  delivered_ += delta.tokens;
  return reply_->OnDelta(prompt, delta);
}

void OpenAiCall::OnChoiceFinished(int32_t prompt, const Finished& finished) {
  MutexLock lock(mutex_);
  if (ended_) return;
  usage_.completion_tokens += finished.generated_tokens;
  timings_ = finished.timings;
  reply_->OnChoiceFinished(prompt, finished);
}

void OpenAiCall::OnFinished(int32_t prompt, const Finished& finished) {
  OnChoiceFinished(prompt, finished);
  MutexLock lock(mutex_);
  if (ended_ || --open_ > 0) return;
  submitted_ = true;  // all have ended: Start is about to say so
  BeginIfReady();
  ended_ = true;
  reply_->Finish(usage_);
  TellObserver();
}

void OpenAiCall::OnClientGone() { Fail(absl::CancelledError("the client has closed the call")); }

void OpenAiCall::Fail(const absl::Status& status) {
  std::vector<RequestId> ids;
  {
    MutexLock lock(mutex_);
    if (ended_) return;
    ended_ = true;
    status_ = status;
    ids = ids_;
    if (!ids.empty()) timings_ = timer_.CutAt(Clock::now());
    reply_->Fail(ErrorOfStatus(status, names_.endpoint));
    TellObserver();
  }
  // Ids that have ended are ignored.
  for (const RequestId id : ids) engine_.Cancel(id, status);
}

void OpenAiCall::TellObserver() const {
  observer_->OnEnd({.status = status_,
                    .prompt_tokens = usage_.prompt_tokens,
                    .generated_tokens = std::max(usage_.completion_tokens, delivered_),
                    .timings = timings_,
                    .total = Clock::now() - arrival_});
}

}  // namespace based
