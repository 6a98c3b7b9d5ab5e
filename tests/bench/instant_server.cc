// A server that has every completion ready: for the cost of a client. Generate answers max_tokens
// Deltas of one token each as fast as they can be written. Prints "ready HOST:PORT" and serves
// until its standard input ends.
#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "based/v1/completion.grpc.pb.h"
#include "based/v1/model.grpc.pb.h"
#include "grpcpp/grpcpp.h"

namespace based {
namespace {

class Writer final : public grpc::ServerWriteReactor<v1::GenerateResponse> {
 public:
  explicit Writer(int64_t tokens) : left_(tokens) {
    message_.mutable_started()->set_request_id("instant");
    StartWrite(&message_);
  }

 private:
  void OnWriteDone(bool ok) override {
    if (!ok || left_ < 0) return Finish(grpc::Status::OK);
    if (left_-- > 0) {
      message_.mutable_delta()->set_text(" word");
      if (message_.delta().token_ids().empty()) message_.mutable_delta()->add_token_ids(7);
    } else {
      message_.mutable_done()->set_finish_reason(v1::FINISH_REASON_MAX_TOKENS);
    }
    StartWrite(&message_);
  }
  void OnDone() override { delete this; }

  int64_t left_;
  v1::GenerateResponse message_;
};

class Completions final : public v1::CompletionService::CallbackService {
  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext*, const v1::GenerateRequest* request) override {
    return new Writer(request->stop().max_tokens());
  }
};

class Models final : public v1::ModelService::Service {
  grpc::Status GetModel(grpc::ServerContext*, const v1::GetModelRequest*,
                        v1::GetModelResponse* response) override {
    response->set_name("instant");
    response->set_digest("instant");
    response->set_vocab_size(61);
    return grpc::Status::OK;
  }
};

int Run() {
  Completions completions;
  Models models;
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&completions);
  builder.RegisterService(&models);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return 1;
  std::printf("ready 127.0.0.1:%d\n", port);
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
  server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
  return 0;
}

}  // namespace
}  // namespace based

int main() { return based::Run(); }
