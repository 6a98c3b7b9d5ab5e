#include "server/batch_call.h"

#include <utility>

#include "kernels/base/check.h"
#include "server/openai_call.h"
#include "server/openai_reply.h"

namespace based {
namespace {

// As the proto's limit: nobody watches the text come.
constexpr int32_t kTokensPerMessage = 65'536;

}  // namespace

class BatchCall::Observer final : public OpenAiCallObserver {
 public:
  explicit Observer(std::shared_ptr<BatchCall> call) : call_(std::move(call)) {}

  void OnEnd(const OpenAiCallSummary& summary) override {
    call_->Finish({.status = summary.status, .generated_tokens = summary.generated_tokens});
  }

 private:
  const std::shared_ptr<BatchCall> call_;
};

std::shared_ptr<BatchCall> BatchCall::Start(Engine& engine, BatchAsk line,
                                            const std::string& tenant,
                                            const std::string& request_id, Ended ended) {
  std::shared_ptr<BatchCall> call(new BatchCall(std::move(ended)));
  for (Request& one : line.request.requests) {
    one.request_id = request_id;
    one.tenant = tenant;
    one.output.tokens_per_message = kTokensPerMessage;
  }
  auto reply = NewWholeReply(ReplyOptionsOf(line.request, engine.model(), request_id), call);
  std::make_shared<OpenAiCall>(engine, call, line.request.names, std::move(reply),
                               std::make_unique<Observer>(call))
      ->Start(std::move(line.request.requests));
  return call;
}

void BatchCall::Cancel() {
  std::function<void()> closed;
  {
    MutexLock lock(mutex_);
    closed = std::exchange(closed_, nullptr);
  }
  if (closed) closed();
}

void BatchCall::Respond(HttpResponse response) {
  MutexLock lock(mutex_);
  body_ = std::move(response.body);
}

void BatchCall::Begin(HttpResponse) { BASED_CHECK(false); }
size_t BatchCall::Write(std::string_view) { BASED_CHECK(false); }
void BatchCall::End() { BASED_CHECK(false); }

void BatchCall::OnClosed(std::function<void()> closed) {
  MutexLock lock(mutex_);
  closed_ = std::move(closed);
}

void BatchCall::Finish(BatchCallEnd end) {
  {
    MutexLock lock(mutex_);
    closed_ = nullptr;
    if (end.status.ok()) end.completion = std::move(body_);
  }
  ended_(std::move(end));
}

}  // namespace based
