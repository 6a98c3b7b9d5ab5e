// The gRPC side of the daemon over a scripted engine.
#include "server/server.h"

#include <thread>

#include "based/v1/completion.grpc.pb.h"
#include "based/v1/model.grpc.pb.h"
#include "based/v1/tokenizer.grpc.pb.h"
#include "engine/refusal.h"
#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "server/generate_stream.h"
#include "server/log.h"
#include "tests/server/fake_engine.h"

namespace based {
namespace {

class ServerTest : public testing::Test {
 protected:
  void Start(FakeEngineOptions engine_options = {}, int32_t stream_queue = 256,
             std::chrono::milliseconds write_timeout = std::chrono::seconds(30)) {
    SetLogOptions({.level = LogLevel::kOff});
    engine_ = std::make_unique<FakeEngine>(std::move(engine_options), &metrics_);
    ServerOptions options;
    options.listen = "127.0.0.1:0";
    options.stream_queue = stream_queue;
    options.write_timeout = write_timeout;
    absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options, *engine_, metrics_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel("127.0.0.1:" + std::to_string(server_->port()),
                                   grpc::InsecureChannelCredentials());
    stub_ = v1::CompletionService::NewStub(channel_);
  }

  static v1::GenerateRequest RequestOf(int64_t max_tokens) {
    v1::GenerateRequest request;
    request.set_text("hello");
    request.mutable_stop()->set_max_tokens(max_tokens);
    return request;
  }

  grpc::Status Generate(const v1::GenerateRequest& request,
                        std::vector<v1::GenerateResponse>* messages = nullptr,
                        grpc::ClientContext* context = nullptr) {
    grpc::ClientContext own;
    const auto reader = stub_->Generate(context != nullptr ? context : &own, request);
    v1::GenerateResponse message;
    while (reader->Read(&message)) {
      if (messages != nullptr) messages->push_back(message);
    }
    return reader->Finish();
  }

  bool HasLine(const std::string& line) {
    return metrics_.Render().find("\n" + line + "\n") != std::string::npos;
  }

  // Counters move after the client has its status: waits for one, ten seconds at most.
  bool WaitForLine(const std::string& line) {
    for (int i = 0; i < 1000; ++i) {
      if (HasLine(line)) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

  Metrics metrics_;
  std::unique_ptr<FakeEngine> engine_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::CompletionService::Stub> stub_;
};

template <typename Detail>
bool FindDetail(const grpc::Status& status, Detail& detail) {
  google::rpc::Status wire;
  if (!wire.ParseFromString(status.error_details())) return false;
  for (const auto& any : wire.details()) {
    if (any.UnpackTo(&detail)) return true;
  }
  return false;
}

TEST_F(ServerTest, StreamsStartedDeltasDoneAndLosesNothing) {
  Start();
  v1::GenerateRequest request = RequestOf(3000);
  request.mutable_output()->set_token_ids(true);
  grpc::ClientContext context;
  context.AddMetadata("x-request-id", "mine");
  std::vector<v1::GenerateResponse> messages;
  ASSERT_TRUE(Generate(request, &messages, &context).ok());
  EXPECT_EQ(messages.front().started().request_id(), "mine");
  EXPECT_EQ(messages.front().started().seed(), 7u);
  std::string text;
  int ids = 0;
  for (size_t i = 1; i + 1 < messages.size(); ++i) {
    ASSERT_TRUE(messages[i].has_delta());
    text += messages[i].delta().text();
    for (int32_t id : messages[i].delta().token_ids()) ASSERT_EQ(id, ids++ % 100);
  }
  EXPECT_EQ(text.size(), 3 * 3000u);
  EXPECT_EQ(ids, 3000);
  EXPECT_EQ(messages.back().done().finish_reason(), v1::FINISH_REASON_MAX_TOKENS);
  EXPECT_EQ(messages.back().done().timings().prefill_us(), 2000);
  EXPECT_TRUE(WaitForLine("based_requests_total{code=\"OK\",finish_reason=\"max_tokens\"} 1"));
  EXPECT_TRUE(WaitForLine("based_streams_open 0"));
}

TEST_F(ServerTest, UnfitRequestIdsAreReplaced) {
  Start();
  grpc::ClientContext context;
  context.AddMetadata("x-request-id", std::string(129, 'x'));
  std::vector<v1::GenerateResponse> messages;
  ASSERT_TRUE(Generate(RequestOf(1), &messages, &context).ok());
  EXPECT_EQ(messages.front().started().request_id().size(), 32u);
}

TEST_F(ServerTest, CancelReachesTheEngine) {
  Start({.hold = true});
  grpc::ClientContext context;
  const auto reader = stub_->Generate(&context, RequestOf(10));
  v1::GenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  ASSERT_TRUE(engine_->WaitForCancels(1));
  EXPECT_EQ(engine_->cancels()[0].code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(WaitForLine("based_streams_open 0"));
  EXPECT_TRUE(HasLine("based_cancellations_total{cause=\"client\"} 1"));
}

TEST_F(ServerTest, DeadlineIsHandedToTheEngineAndEndsTheCall) {
  Start({.hold = true});
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(300));
  const Clock::time_point before = Clock::now();
  EXPECT_EQ(Generate(RequestOf(10), nullptr, &context).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  ASSERT_TRUE(engine_->WaitForCancels(1));
  EXPECT_EQ(engine_->cancels()[0].code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_LE(engine_->requests()[0].deadline, before + std::chrono::milliseconds(400));
  EXPECT_TRUE(WaitForLine("based_streams_open 0"));
}

TEST_F(ServerTest, WithoutADeadlineTheEngineHasNone) {
  Start();
  ASSERT_TRUE(Generate(RequestOf(1)).ok());
  EXPECT_EQ(engine_->requests()[0].deadline, Clock::time_point::max());
}

TEST_F(ServerTest, SlowReaderIsEndedWithoutARetryHint) {
  Start({.token_text = std::string(2000, 'x')}, 2);
  grpc::ClientContext context;
  const auto reader = stub_->Generate(&context, RequestOf(1'000'000));
  // Reads nothing until the engine has ended the sequence.
  ASSERT_TRUE(engine_->WaitForEnds(1));
  ASSERT_EQ(engine_->ends().size(), 1u);
  v1::GenerateResponse message;
  while (reader->Read(&message)) {
  }
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  google::rpc::RetryInfo retry;
  EXPECT_FALSE(FindDetail(status, retry));
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(FindDetail(status, info));
  EXPECT_EQ(info.reason(), "SLOW_READER");
  EXPECT_TRUE(HasLine("based_cancellations_total{cause=\"slow_reader\"} 1"));
}

TEST_F(ServerTest, ReaderThatNeverReadsAgainIsCutAndLeavesNothing) {
  Start({.token_text = std::string(2000, 'x')}, 2, std::chrono::milliseconds(200));
  grpc::ClientContext context;
  const auto reader = stub_->Generate(&context, RequestOf(1'000'000));
  // The queue fills, the sequence ends, and its last message waits for a window that never opens.
  EXPECT_TRUE(WaitForLine("based_cancellations_total{cause=\"slow_reader\"} 1"));
  EXPECT_TRUE(WaitForLine("based_streams_open 0"));
  EXPECT_TRUE(engine_->WaitForEnds(1));
  EXPECT_EQ(engine_->ends().size(), 1u);
  context.TryCancel();
}

TEST_F(ServerTest, ReaderThatLeavesTheEndOfAFinishedStreamIsCut) {
  // More than a stream's window holds, in few messages.
  Start({.token_text = std::string(300'000, 'x')}, 8, std::chrono::milliseconds(200));
  grpc::ClientContext context;
  const auto reader = stub_->Generate(&context, RequestOf(6));
  EXPECT_TRUE(WaitForLine("based_requests_total{code=\"OK\",finish_reason=\"max_tokens\"} 1"));
  EXPECT_TRUE(WaitForLine("based_streams_open 0"));
  context.TryCancel();
}

TEST_F(ServerTest, ReaderSlowerThanTheWatchButStillReadingGetsEverything) {
  Start({.token_text = std::string(30'000, 'x')}, 64, std::chrono::milliseconds(1000));
  grpc::ClientContext context;
  const auto reader = stub_->Generate(&context, RequestOf(50));
  v1::GenerateResponse message;
  size_t bytes = 0;
  while (reader->Read(&message)) {
    bytes += message.delta().text().size();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(bytes, 50u * 30'000);
}

TEST_F(ServerTest, FullQueueSaysWhenToRetry) {
  Start({.reject = absl::ResourceExhaustedError("4096 requests wait; expected fewer")});
  grpc::ClientContext context;
  const grpc::Status status = Generate(RequestOf(1), nullptr, &context);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  google::rpc::RetryInfo retry;
  ASSERT_TRUE(FindDetail(status, retry));
  EXPECT_EQ(retry.retry_delay().seconds(), 1);
  const auto& trailers = context.GetServerTrailingMetadata();
  const auto pushback = trailers.find("grpc-retry-pushback-ms");
  ASSERT_NE(pushback, trailers.end());
  EXPECT_EQ(pushback->second, "1000");
  EXPECT_TRUE(
      HasLine("based_rejections_total{code=\"RESOURCE_EXHAUSTED\",reason=\"queue_full\"} 1"));
}

TEST_F(ServerTest, ARefusalSaysWhyAndWhenToRetry) {
  Start({.reject = Refuse(absl::StatusCode::kResourceExhausted, "tenant 'acme' is at its limit",
                          {RefusalReason::kTokenRate, std::chrono::milliseconds(2345)})});
  grpc::ClientContext context;
  const grpc::Status status = Generate(RequestOf(1), nullptr, &context);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  google::rpc::RetryInfo retry;
  ASSERT_TRUE(FindDetail(status, retry));
  EXPECT_EQ(retry.retry_delay().seconds(), 2);
  EXPECT_EQ(retry.retry_delay().nanos(), 345'000'000);
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(FindDetail(status, info));
  EXPECT_EQ(info.reason(), "TENANT_TOKEN_RATE");
  EXPECT_EQ(context.GetServerTrailingMetadata().find("grpc-retry-pushback-ms")->second, "2345");
  EXPECT_TRUE(
      HasLine("based_rejections_total{code=\"RESOURCE_EXHAUSTED\",reason=\"tenant_tokens\"} 1"));
}

TEST_F(ServerTest, ADeadlineThatCannotBeMetIsNotRetried) {
  Start({.reject = Refuse(absl::StatusCode::kDeadlineExceeded, "the deadline cannot be met",
                          {RefusalReason::kDeadline, std::chrono::milliseconds(0)})});
  grpc::ClientContext context;
  const grpc::Status status = Generate(RequestOf(1), nullptr, &context);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  google::rpc::RetryInfo retry;
  EXPECT_FALSE(FindDetail(status, retry));
  EXPECT_EQ(context.GetServerTrailingMetadata().count("grpc-retry-pushback-ms"), 0u);
  EXPECT_TRUE(HasLine("based_rejections_total{code=\"DEADLINE_EXCEEDED\",reason=\"deadline\"} 1"));
}

TEST_F(ServerTest, InvalidArgumentCarriesTheField) {
  Start({.reject = absl::InvalidArgumentError("sampling.top_p is 2; expected (0, 1]")});
  const grpc::Status status = Generate(RequestOf(1));
  google::rpc::BadRequest bad_request;
  ASSERT_TRUE(FindDetail(status, bad_request));
  EXPECT_EQ(bad_request.field_violations(0).field(), "sampling.top_p");
}

TEST_F(ServerTest, UnknownModelAndUnservedFieldAreRefusedAndCounted) {
  Start();
  v1::GenerateRequest request = RequestOf(1);
  request.set_model("other");
  EXPECT_EQ(Generate(request).error_code(), grpc::StatusCode::NOT_FOUND);
  request.set_model("fake");
  request.mutable_state()->set_snapshot("s");
  const grpc::Status status = Generate(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_THAT(status.error_message(), testing::StartsWith("state.snapshot "));
  EXPECT_TRUE(HasLine("based_rejections_total{code=\"NOT_FOUND\",reason=\"request\"} 1"));
  EXPECT_TRUE(HasLine("based_rejections_total{code=\"UNIMPLEMENTED\",reason=\"request\"} 1"));
  EXPECT_TRUE(engine_->requests().empty());
}

TEST_F(ServerTest, DrainFlushesWhatWasMadeThenSaysUnavailable) {
  Start({.hold = true});
  grpc::ClientContext context;
  const auto reader = stub_->Generate(&context, RequestOf(10));
  v1::GenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  EXPECT_FALSE(engine_->Drain(std::chrono::milliseconds(10)));
  EXPECT_FALSE(reader->Read(&message));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Generate(RequestOf(1)).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(ServerTest, ModelServiceTellsModelAndCapacity) {
  Start();
  const auto stub = v1::ModelService::NewStub(channel_);
  grpc::ClientContext model_context, capacity_context, other_context;
  v1::GetModelResponse model;
  ASSERT_TRUE(stub->GetModel(&model_context, {}, &model).ok());
  EXPECT_EQ(model.name(), "fake");
  EXPECT_THAT(model.layers(), testing::ElementsAre(v1::MIXER_CONV, v1::MIXER_LINEAR_ATTENTION,
                                                   v1::MIXER_SLIDING_WINDOW));
  EXPECT_FALSE(model.has_bos_token_id());
  EXPECT_EQ(model.eos_token_id(), 0);
  v1::GetCapacityResponse capacity;
  ASSERT_TRUE(stub->GetCapacity(&capacity_context, {}, &capacity).ok());
  EXPECT_EQ(capacity.slots_free(), 8);
  v1::GetModelRequest other;
  other.set_model("other");
  EXPECT_EQ(stub->GetModel(&other_context, other, &model).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(ServerTest, TokenizerServiceChecksItsInput) {
  Start();
  const auto stub = v1::TokenizerService::NewStub(channel_);
  v1::TokenizeRequest text;
  text.set_text("ab\xFF");
  v1::TokenizeResponse ids;
  grpc::ClientContext first, second, third;
  const grpc::Status status = stub->Tokenize(&first, text, &ids);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), testing::StartsWith("text is not UTF-8 at byte 2"));
  v1::DetokenizeRequest request;
  request.add_ids(0);
  request.add_ids(1);
  v1::DetokenizeResponse back;
  ASSERT_TRUE(stub->Detokenize(&second, request, &back).ok());
  EXPECT_EQ(back.text(), "a\uFFFD");
  request.add_ids(100);
  EXPECT_THAT(stub->Detokenize(&third, request, &back).error_message(),
              testing::StartsWith("ids[2] is 100"));
}

TEST_F(ServerTest, TokenizerServiceWithoutATokenizer) {
  Start({.tokenizer = false});
  const auto stub = v1::TokenizerService::NewStub(channel_);
  grpc::ClientContext context;
  v1::TokenizeResponse ids;
  EXPECT_EQ(stub->Tokenize(&context, {}, &ids).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
}

TEST_F(ServerTest, TakenPortIsOneClearError) {
  Start();
  ServerOptions options;
  options.listen = "127.0.0.1:" + std::to_string(server_->port());
  const auto second = Server::Start(options, *engine_, metrics_);
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), testing::HasSubstr(options.listen));
}

}  // namespace
}  // namespace based
