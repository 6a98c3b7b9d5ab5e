// grpc.health.v1 and reflection, spoken as raw bytes: the tests need no stubs of theirs.
#include <thread>

#include "absl/strings/string_view.h"
#include "based/v1/model.grpc.pb.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "server/log.h"
#include "server/server.h"
#include "tests/server/fake_engine.h"

namespace based {
namespace {

constexpr char kService[] = "based.v1.CompletionService";

grpc::ByteBuffer Bytes(const std::string& text) {
  const grpc::Slice slice(text);
  return grpc::ByteBuffer(&slice, 1);
}

std::string Text(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  EXPECT_TRUE(buffer.Dump(&slices).ok());
  std::string text;
  for (const grpc::Slice& slice : slices) text.append(slice.begin(), slice.end());
  return text;
}

// One call of a method, driven by hand.
class RawCall {
 public:
  RawCall(const std::shared_ptr<grpc::Channel>& channel, const std::string& method)
      : stub_(channel), call_(stub_.PrepareCall(&context_, method, &queue_)) {
    context_.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    call_->StartCall(nullptr);
    Next();
  }
  ~RawCall() {
    context_.TryCancel();
    queue_.Shutdown();
    void* tag;
    bool ok;
    while (queue_.Next(&tag, &ok)) {
    }
  }
  void Send(const std::string& message) {
    call_->Write(Bytes(message), nullptr);
    Next();
  }
  std::string Receive() {
    grpc::ByteBuffer buffer;
    call_->Read(&buffer, nullptr);
    return Next() ? Text(buffer) : "(end)";
  }

 private:
  bool Next() {
    void* tag;
    bool ok = false;
    return queue_.Next(&tag, &ok) && ok;
  }

  grpc::CompletionQueue queue_;
  grpc::ClientContext context_;
  grpc::GenericStub stub_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
};

// HealthCheckRequest{service} and HealthCheckResponse{status}: field 1 of each.
std::string RequestFor(const std::string& service) {
  return std::string("\x0A") + static_cast<char>(service.size()) + service;
}
const std::string kServing("\x08\x01", 2);
const std::string kNotServing("\x08\x02", 2);
const std::string kServiceUnknown("\x08\x03", 2);

class HealthTest : public testing::Test {
 protected:
  HealthTest() {
    SetLogOptions({.level = LogLevel::kOff});
    ServerOptions options;
    options.listen = "127.0.0.1:0";
    server_ = *Server::Start(options, engine_, metrics_);
    channel_ = grpc::CreateChannel("127.0.0.1:" + std::to_string(server_->port()),
                                   grpc::InsecureChannelCredentials());
  }

  Metrics metrics_;
  FakeEngine engine_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(HealthTest, WatchHearsOfEveryChange) {
  RawCall watch(channel_, "/grpc.health.v1.Health/Watch");
  watch.Send(RequestFor(kService));
  EXPECT_EQ(watch.Receive(), kServing);
  server_->SetServing(false);
  EXPECT_EQ(watch.Receive(), kNotServing);
  server_->SetServing(true);
  EXPECT_EQ(watch.Receive(), kServing);
}

TEST(LoadingServer, RefusesCallsUntilItServes) {
  SetLogOptions({.level = LogLevel::kOff});
  Metrics metrics;
  FakeEngine engine;
  const AccessControl open;
  const auto server = *Server::Start({.listen = "127.0.0.1:0"}, open, metrics);
  const auto channel = grpc::CreateChannel("127.0.0.1:" + std::to_string(server->port()),
                                           grpc::InsecureChannelCredentials());
  RawCall watch(channel, "/grpc.health.v1.Health/Watch");
  watch.Send(RequestFor(""));
  EXPECT_EQ(watch.Receive(), kNotServing);
  const auto stub = v1::ModelService::NewStub(channel);
  v1::GetModelResponse model;
  {
    grpc::ClientContext context;
    const grpc::Status status = stub->GetModel(&context, {}, &model);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_EQ(status.error_message(), "the model is loading");
  }
  server->Serve(engine, {}, nullptr);
  EXPECT_EQ(watch.Receive(), kServing);
  grpc::ClientContext context;
  EXPECT_TRUE(stub->GetModel(&context, {}, &model).ok());
}

TEST_F(HealthTest, WatchOfAnUnknownServiceSaysSo) {
  RawCall watch(channel_, "/grpc.health.v1.Health/Watch");
  watch.Send(RequestFor("no.such.Service"));
  EXPECT_EQ(watch.Receive(), kServiceUnknown);
}

TEST_F(HealthTest, CheckKnowsTheProcessAndTheService) {
  for (const char* service : {"", kService}) {
    RawCall check(channel_, "/grpc.health.v1.Health/Check");
    check.Send(RequestFor(service));
    EXPECT_EQ(check.Receive(), kServing) << service;
  }
}

TEST_F(HealthTest, OpenWatchesDoNotHoldUpShutdown) {
  RawCall watch(channel_, "/grpc.health.v1.Health/Watch");
  watch.Send(RequestFor(""));
  EXPECT_EQ(watch.Receive(), kServing);
  server_->Shutdown(std::chrono::milliseconds(100));
  EXPECT_EQ(watch.Receive(), "(end)");
}

TEST_F(HealthTest, ReflectionListsTheServices) {
  RawCall call(channel_, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo");
  call.Send(std::string("\x3A\x01*", 3));  // list_services: "*"
  const std::string reply = call.Receive();
  for (const char* service : {kService, "based.v1.ModelService", "based.v1.TokenizerService"}) {
    EXPECT_NE(reply.find(service), std::string::npos) << service;
  }
}

}  // namespace
}  // namespace based
