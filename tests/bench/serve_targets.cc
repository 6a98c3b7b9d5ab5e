// The two things that a load can run on: an Engine in this process, and a daemon over gRPC.
#include <set>
#include <thread>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "based/v1/completion.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "kernels/base/check.h"
#include "tests/bench/serve_load.h"

namespace based {
namespace {

class ListenerSink final : public TokenSink {
 public:
  explicit ListenerSink(Listener& listener) : listener_(listener) {}
  void OnStarted(const Started&) override {}
  bool OnDelta(Delta delta) override {
    listener_.OnTokens(delta.tokens);
    return true;
  }
  void OnFinished(const Finished&) override { listener_.OnEnd(absl::OkStatus()); }
  void OnError(const absl::Status& status) override { listener_.OnEnd(status); }

 private:
  Listener& listener_;
};

class EngineTarget final : public Target {
 public:
  explicit EngineTarget(Engine& engine) : engine_(engine) {}

  void Start(const Ask& ask, Listener& listener) override {
    Request request;
    request.prompt_is_text = false;
    request.prompt_token_ids = ask.prompt;
    request.sampling.temperature = ask.temperature;
    request.sampling.seed = ask.seed;
    request.n = request.best_of = ask.n;
    request.stop.max_tokens = ask.max_tokens;
    request.stop.ignore_eos = true;
    request.output.text = engine_.model().tokenizer != nullptr;
    request.output.token_ids = true;
    request.constraint = ask.constraint;
    request.output.delta_interval = std::chrono::milliseconds(ask.delta_interval_ms);
    auto id = engine_.Submit(std::move(request), std::make_shared<ListenerSink>(listener));
    if (!id.ok()) return listener.OnEnd(id.status());
    MutexLock lock(mutex_);
    ids_.push_back(*id);
  }

  void CancelAll() override {
    MutexLock lock(mutex_);
    for (const RequestId id : ids_) engine_.Cancel(id, absl::CancelledError("the load ends"));
  }

 private:
  Engine& engine_;
  Mutex mutex_;
  std::vector<RequestId> ids_ ABSL_GUARDED_BY(mutex_);
};

class GrpcTarget;

// One call: a single operation of it is under way at any time. Deletes itself at its end.
class Call {
 public:
  Call(GrpcTarget& target, Listener& listener) : target_(target), listener_(listener) {}
  void Begin(v1::CompletionService::Stub& stub, const Ask& ask, grpc::CompletionQueue& queue);
  void Cancel() { context_.TryCancel(); }

  // From the queue's thread: the operation has ended.
  void OnEvent(bool ok);

 private:
  enum class Operation : uint8_t { kStart, kRead, kFinish };

  void End();

  GrpcTarget& target_;
  Listener& listener_;
  Operation operation_ = Operation::kStart;
  grpc::ClientContext context_;
  v1::GenerateRequest request_;
  v1::GenerateResponse response_;
  grpc::Status status_;
  std::unique_ptr<grpc::ClientAsyncReader<v1::GenerateResponse>> reader_;
};

// A queue of gRPC's events and the thread that takes them: whoever polls a connection also hears
// what it brings, and no other thread is woken for each message.
class EventThread {
 public:
  EventThread() : thread_([this] { Run(); }) {}
  ~EventThread() {
    queue_.Shutdown();
    thread_.join();
  }

  grpc::CompletionQueue& queue() { return queue_; }

 private:
  void Run() {
    void* call = nullptr;
    bool ok = false;
    while (queue_.Next(&call, &ok)) static_cast<Call*>(call)->OnEvent(ok);
  }

  grpc::CompletionQueue queue_;
  std::thread thread_;
};

class GrpcTarget final : public Target {
 public:
  GrpcTarget(const std::string& address, int32_t connections) {
    // Debian builds absl with its detector of lock cycles on; gRPC would pay for it at every lock.
    absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
    for (int32_t i = 0; i < connections; ++i) {
      grpc::ChannelArguments arguments;
      arguments.SetInt("grpc.channel_number", i);  // equal arguments would share a connection
      stubs_.push_back(v1::CompletionService::NewStub(
          grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments)));
      threads_.push_back(std::make_unique<EventThread>());
    }
  }

  void Start(const Ask& ask, Listener& listener) override {
    auto* call = new Call(*this, listener);
    size_t connection = 0;
    {
      MutexLock lock(mutex_);
      calls_.insert(call);
      connection = started_++ % stubs_.size();
    }
    call->Begin(*stubs_[connection], ask, threads_[connection]->queue());
  }

  void CancelAll() override {
    MutexLock lock(mutex_);
    for (Call* call : calls_) call->Cancel();
  }

  void Forget(Call* call) {
    MutexLock lock(mutex_);
    calls_.erase(call);
  }

 private:
  std::vector<std::unique_ptr<v1::CompletionService::Stub>> stubs_;
  std::vector<std::unique_ptr<EventThread>> threads_;  // of each stub
  Mutex mutex_;
  std::set<Call*> calls_ ABSL_GUARDED_BY(mutex_);
  size_t started_ ABSL_GUARDED_BY(mutex_) = 0;
};

void Call::Begin(v1::CompletionService::Stub& stub, const Ask& ask, grpc::CompletionQueue& queue) {
  request_.mutable_token_ids()->mutable_ids()->Add(ask.prompt.begin(), ask.prompt.end());
  request_.mutable_sampling()->set_temperature(ask.temperature);
  request_.mutable_sampling()->set_seed(ask.seed);
  request_.set_n(ask.n);
  request_.mutable_stop()->set_max_tokens(ask.max_tokens);
  request_.mutable_stop()->set_ignore_eos(true);
  request_.mutable_output()->set_token_ids(true);
  request_.set_tenant(ask.tenant);
  if (ask.constraint.kind == ConstraintAsk::Kind::kRegex) {
    request_.mutable_constraint()->set_regex(ask.constraint.text);
  } else if (ask.constraint.kind == ConstraintAsk::Kind::kJsonSchema) {
    request_.mutable_constraint()->set_json_schema(ask.constraint.text);
  }
  if (ask.batch) request_.set_priority(v1::PRIORITY_BATCH);
  if (ask.delta_interval_ms > 0) {
    request_.mutable_output()->set_delta_interval_ms(ask.delta_interval_ms);
  }
  reader_ = stub.PrepareAsyncGenerate(&context_, request_, &queue);
  reader_->StartCall(this);
}

void Call::OnEvent(bool ok) {
  if (operation_ == Operation::kFinish) return End();
  if (operation_ == Operation::kRead && ok && response_.has_delta()) {
    listener_.OnTokens(response_.delta().token_ids_size());
  }
  operation_ = ok ? Operation::kRead : Operation::kFinish;
  ok ? reader_->Read(&response_, this) : reader_->Finish(&status_, this);
}

void Call::End() {
  target_.Forget(this);
  Listener& listener = listener_;
  const absl::Status end(static_cast<absl::StatusCode>(status_.error_code()),
                         status_.error_message());
  delete this;
  listener.OnEnd(end);
}

}  // namespace

std::unique_ptr<Target> NewEngineTarget(Engine& engine) {
  return std::make_unique<EngineTarget>(engine);
}

std::unique_ptr<Target> NewGrpcTarget(const std::string& address, int32_t connections) {
  BASED_CHECK(connections >= 1);
  return std::make_unique<GrpcTarget>(address, connections);
}

}  // namespace based
