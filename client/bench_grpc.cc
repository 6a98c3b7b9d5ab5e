// A load test's requests as Generate calls.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <unordered_set>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "based/v1/completion.grpc.pb.h"
#include "based/v1/model.grpc.pb.h"
#include "client/bench_transport.h"
#include "client/common_flags.h"
#include "client/remote.h"
#include "kernels/base/mutex.h"
#include "kernels/base/status.h"

namespace based {
namespace {

class GrpcTransport;

std::chrono::system_clock::time_point DeadlineOf(const RequestOptions& options) {
  return std::chrono::system_clock::now() +
         std::chrono::duration_cast<std::chrono::system_clock::duration>(
             std::chrono::duration<double>(options.timeout_s));
}

// One call; deletes itself at its end.
class Call final : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  Call(GrpcTransport& transport, const RequestOptions& options, const BenchRequest& request,
       LoadListener* listener)
      : transport_(transport), listener_(listener) {
    request_.set_model(options.model);
    request_.mutable_token_ids()->mutable_ids()->Add(request.prompt.begin(), request.prompt.end());
    request_.mutable_sampling()->set_temperature(options.temperature);
    request_.mutable_stop()->set_max_tokens(request.output_tokens);
    request_.mutable_stop()->set_ignore_eos(true);
    request_.mutable_output()->set_token_ids(true);  // they are counted
    context_.set_deadline(DeadlineOf(options));
  }

  void Start(v1::CompletionService::Stub& stub) {
    listener_->OnSent();
    stub.async()->Generate(&context_, &request_, this);
    StartRead(&response_);
    StartCall();
  }

  void Cancel() { context_.TryCancel(); }

 private:
  void OnReadDone(bool ok) override {
    if (!ok) return;
    if (response_.has_delta() && response_.delta().token_ids_size() > 0) {
      listener_->OnTokens(response_.delta().token_ids_size());
    }
    StartRead(&response_);
  }
  void OnDone(const grpc::Status& status) override;

  GrpcTransport& transport_;
  LoadListener* const listener_;
  grpc::ClientContext context_;
  v1::GenerateRequest request_;
  v1::GenerateResponse response_;
};

class GrpcTransport final : public LoadTransport {
 public:
  GrpcTransport(std::vector<std::shared_ptr<grpc::Channel>> channels, const RequestOptions& options)
      : options_(options), channels_(std::move(channels)) {
    for (const auto& channel : channels_) stubs_.push_back(v1::CompletionService::NewStub(channel));
  }

  absl::StatusOr<ServedModel> FindModel() override {
    grpc::ClientContext context;
    context.set_deadline(DeadlineOf(options_));
    v1::GetModelRequest request;
    request.set_model(options_.model);
    v1::GetModelResponse model;
    BASED_RETURN_IF_ERROR(
        FromGrpc(v1::ModelService::NewStub(channels_[0])->GetModel(&context, request, &model)));
    return ServedModel{
        .server = absl::StrCat(absl::GetFlag(FLAGS_address), ", ", model.server_version()),
        .name = absl::StrCat(model.name(), " on ", model.backend(), ", ", model.device()),
        .vocab_size = model.vocab_size()};
  }

  void Send(const BenchRequest& request, LoadListener* listener) override {
    auto* call = new Call(*this, options_, request, listener);
    {
      MutexLock lock(mutex_);
      calls_.insert(call);
    }
    call->Start(*stubs_[sent_++ % stubs_.size()]);
  }

  void CancelAll() override {
    MutexLock lock(mutex_);
    for (Call* call : calls_) call->Cancel();
  }

  // By a call that is about to go.
  void Forget(Call* call) {
    MutexLock lock(mutex_);
    calls_.erase(call);
  }

 private:
  const RequestOptions options_;
  const std::vector<std::shared_ptr<grpc::Channel>> channels_;
  std::vector<std::unique_ptr<v1::CompletionService::Stub>> stubs_;
  std::atomic<size_t> sent_{0};
  Mutex mutex_;
  std::unordered_set<Call*> calls_ ABSL_GUARDED_BY(mutex_);
};

void Call::OnDone(const grpc::Status& status) {
  LoadListener* listener = listener_;
  transport_.Forget(this);
  delete this;
  if (status.ok()) return listener->OnEnd("", "");
  const auto code = static_cast<absl::StatusCode>(status.error_code());
  listener->OnEnd(absl::StatusCodeToString(code), status.error_message());
}

}  // namespace

std::unique_ptr<LoadTransport> NewGrpcTransport(
    std::vector<std::shared_ptr<grpc::Channel>> channels, const RequestOptions& options) {
  return std::make_unique<GrpcTransport>(std::move(channels), options);
}

}  // namespace based
