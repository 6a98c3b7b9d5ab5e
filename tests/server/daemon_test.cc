// A device that fails under a running request: the request ends with UNAVAILABLE and the daemon
// with the fault, for its supervisor to see.
#include "server/daemon.h"

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "based/v1/completion.grpc.pb.h"
#include "based/v1/model.grpc.pb.h"
#include "gtest/gtest.h"
#include "tests/server/free_port.h"
#include "tests/sim/sim_executable.h"

namespace based {
namespace {

constexpr int32_t kVocab = 61;  // of tests/golden/tiny-a
constexpr int64_t kFailAt = 50;

class FailingBackend final : public Backend {
 public:
  std::string name() const override { return "sim"; }
  absl::StatusOr<std::unique_ptr<Executable>> Compile(const Program&,
                                                      const CompileOptions&) override {
    auto executable = std::make_unique<SimExecutable>(SimModel{.vocab_size = kVocab});
    executable->FailAt(kFailAt);
    return executable;
  }
};

// While the model loads, calls are refused with UNAVAILABLE.
bool WaitUntilLoaded(const std::shared_ptr<grpc::Channel>& channel) {
  const auto stub = v1::ModelService::NewStub(channel);
  for (int i = 0; i < 1000; ++i) {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    v1::GetModelResponse model;
    if (stub->GetModel(&context, {}, &model).ok()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

TEST(RunDaemon, ADeviceFaultEndsRequestsAndTheDaemon) {
  DaemonOptions options;
  options.model_dir = std::string(BASED_SOURCE_DIR) + "/tests/golden/tiny-a";
  options.engine.slots = 2;
  options.server.listen = absl::StrCat("127.0.0.1:", FreePort());
  options.drain_timeout = std::chrono::seconds(10);
  FailingBackend backend;
  std::future<absl::Status> daemon =
      std::async(std::launch::async, [&] { return RunDaemon(options, backend); });

  const auto channel =
      grpc::CreateChannel(options.server.listen, grpc::InsecureChannelCredentials());
  ASSERT_TRUE(WaitUntilLoaded(channel));
  const auto stub = v1::CompletionService::NewStub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(1));
  v1::GenerateRequest request;
  request.mutable_token_ids()->add_ids(1);
  request.mutable_stop()->set_max_tokens(100'000);
  request.mutable_stop()->set_ignore_eos(true);
  const auto reader = stub->Generate(&context, request);
  int tokens = 0;
  for (v1::GenerateResponse response; reader->Read(&response);) {
    tokens += response.delta().token_ids_size();
  }
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << status.error_message();
  EXPECT_GT(tokens, 0);
  EXPECT_LE(tokens, kFailAt);

  ASSERT_EQ(daemon.wait_for(std::chrono::minutes(1)), std::future_status::ready);
  const absl::Status fault = daemon.get();
  EXPECT_EQ(fault.code(), absl::StatusCode::kUnavailable) << fault;
}

}  // namespace
}  // namespace based
