// The writes of a batch to one connection: when they are begun, in which order, and that gRPC's
// messages all arrive.
#include "server/connection.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "based/v1/completion.grpc.pb.h"
#include "engine/delivery_batch.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "kernels/base/mutex.h"
#include "server/grpc_endpoint.h"

namespace based {
namespace {

class FunctionWriter final : public Connection::Writer {
 public:
  explicit FunctionWriter(std::function<void()> write) : write_(std::move(write)) {}
  void Write() override { write_(); }

 private:
  const std::function<void()> write_;
};

std::shared_ptr<Connection::Writer> Writer(std::function<void()> write) {
  return std::make_shared<FunctionWriter>(std::move(write));
}

// A connection with so many streams.
Connection& WithStreams(int streams, Connection& connection) {
  for (int i = 0; i < streams; ++i) connection.OnStreamOpened();
  return connection;
}

// A write that enters the kernel as gRPC's do.
struct Socket {
  Socket() { EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()), 0); }
  ~Socket() {
    for (const int end : ends) ::close(end);
  }
  void Send(char byte) const {
    iovec part{.iov_base = &byte, .iov_len = 1};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    EXPECT_EQ(::sendmsg(ends[0], &message, 0), 1);
  }
  std::string Received() const {
    std::array<char, 64> bytes{};
    const ssize_t size = ::recv(ends[1], bytes.data(), bytes.size(), MSG_DONTWAIT);
    return {bytes.data(), static_cast<size_t>(std::max<ssize_t>(0, size))};
  }

  std::array<int, 2> ends{};
};

TEST(Connection, WritesOfABatchBeginInOrderAtItsEnd) {
  Connection connection;
  WithStreams(2, connection);
  std::string written;
  {
    const DeliveryBatch batch(2);
    for (const char name : {'a', 'b', 'c'}) {
      connection.WriteAtBatchEnd(Writer([&written, name] { written += name; }));
    }
    EXPECT_EQ(written, "");
  }
  EXPECT_EQ(written, "abc");
}

TEST(Connection, ALongBatchWritesEveryFewEvents) {
  Connection connection;
  WithStreams(2, connection);
  size_t written = 0;
  DeliveryBatch batch(DeliveryBatch::kTogether + 1);
  for (size_t i = 1; i < DeliveryBatch::kTogether; ++i) {
    connection.WriteAtBatchEnd(Writer([&written] { ++written; }));
    batch.Next();
  }
  EXPECT_EQ(written, 0u);
  batch.Next();
  EXPECT_EQ(written, DeliveryBatch::kTogether - 1);
}

TEST(Connection, NothingWaitsOutsideOfABatchOrForOneStream) {
  Connection two;
  WithStreams(2, two);
  bool written = false;
  two.WriteAtBatchEnd(Writer([&written] { written = true; }));
  EXPECT_TRUE(written);

  Connection one;
  WithStreams(2, one).OnStreamClosed();
  written = false;
  const DeliveryBatch batch(2);
  one.WriteAtBatchEnd(Writer([&written] { written = true; }));
  EXPECT_TRUE(written);
}

TEST(Connection, OthersBeginBeforeTheFirstEntersTheKernel) {
  const Socket socket;
  Connection connection;
  WithStreams(3, connection);
  std::string begun;
  {
    const DeliveryBatch batch(2);
    connection.WriteAtBatchEnd(Writer([&] {
      begun += 'a';
      socket.Send('a');
      EXPECT_EQ(begun, "abc");
      EXPECT_FALSE(Connection::BeginOthers());
    }));
    for (const char name : {'b', 'c'}) {
      connection.WriteAtBatchEnd(Writer([&, name] {
        begun += name;
        EXPECT_EQ(socket.Received(), "");
        EXPECT_FALSE(Connection::BeginOthers());
      }));
    }
  }
  EXPECT_EQ(begun, "abc");
  EXPECT_EQ(socket.Received(), "a");
  EXPECT_FALSE(Connection::BeginOthers());
}

TEST(Connection, InALongBatchOthersBeginAfterTheFirstHasEnteredTheKernel) {
  const Socket socket;
  Connection connection;
  WithStreams(2, connection);
  std::string begun;
  {
    const DeliveryBatch batch(DeliveryBatch::kTogether + 1);
    connection.WriteAtBatchEnd(Writer([&] {
      begun += 'a';
      EXPECT_TRUE(Connection::BeginOthers());  // they follow
      socket.Send('a');
      EXPECT_EQ(begun, "a");
    }));
    connection.WriteAtBatchEnd(Writer([&] {
      begun += 'b';
      EXPECT_EQ(socket.Received(), "a");
      EXPECT_FALSE(Connection::BeginOthers());
    }));
  }
  EXPECT_EQ(begun, "ab");
}

TEST(Connection, AWriteBeginsOthersOfItsOwnConnectionAlone) {
  const Socket socket;
  Connection one;
  Connection two;
  WithStreams(2, one);
  WithStreams(2, two);
  std::string begun;
  {
    const DeliveryBatch batch(2);
    for (const char name : {'a', 'b'}) {
      one.WriteAtBatchEnd(Writer([&, name] {
        begun += name;
        if (name == 'a') socket.Send(name);
      }));
      two.WriteAtBatchEnd(Writer([&, name] { begun += static_cast<char>(name - 'a' + 'A'); }));
    }
  }
  EXPECT_EQ(begun, "abAB");
}

// One stream of the service below.
class Stream final : public grpc::ServerWriteReactor<v1::GenerateResponse> {
 public:
  Stream(std::string name, std::function<void()> on_event)
      : name_(std::move(name)), on_event_(std::move(on_event)) {}
  void Send() {
    message_.mutable_delta()->set_text(absl::StrCat(name_, ++messages_, " "));
    StartWrite(&message_);
  }
  void OnWriteDone(bool ok) override {
    EXPECT_TRUE(ok);
    on_event_();
  }
  void OnDone() override { on_event_(); }

 private:
  const std::string name_;
  const std::function<void()> on_event_;
  int messages_ = 0;
  v1::GenerateResponse message_;
};

// Opens streams that the test writes to, and counts what became of them: opened, written, done.
class StreamService final : public v1::CompletionService::CallbackService {
 public:
  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext*, const v1::GenerateRequest* request) override {
    auto stream = std::make_unique<Stream>(request->text(), [this] { Count(); });
    Stream* const raw = stream.get();
    {
      MutexLock lock(mutex_);
      streams_.push_back(std::move(stream));
    }
    Count();
    return raw;
  }

  // Returns when so many events have come since the last call.
  std::vector<Stream*> Await(int events) {
    MutexLock lock(mutex_);
    while (events_ < events) changed_.Wait(mutex_);
    events_ -= events;
    std::vector<Stream*> streams;
    for (const auto& stream : streams_) streams.push_back(stream.get());
    return streams;
  }

 private:
  void Count() {
    MutexLock lock(mutex_);
    ++events_;
    changed_.NotifyAll();
  }

  Mutex mutex_;
  CondVar changed_;
  std::vector<std::unique_ptr<Stream>> streams_ ABSL_GUARDED_BY(mutex_);
  int events_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Reads a stream to its end.
std::string ReadAll(v1::CompletionService::Stub& stub, const std::string& name) {
  grpc::ClientContext context;
  v1::GenerateRequest request;
  request.set_text(name);
  const auto reader = stub.Generate(&context, request);
  std::string text;
  for (v1::GenerateResponse message; reader->Read(&message);) text += message.delta().text();
  EXPECT_TRUE(reader->Finish().ok());
  return text;
}

TEST(Connection, MessagesOfGrpcAreBegunWithinTheFirstAndAllArriveInOrder) {
  constexpr int kStreams = 8, kBatches = 50;
  StreamService service;
  auto endpoint = GrpcEndpoint::Start("listen", "127.0.0.1:0", {}, {&service});
  ASSERT_TRUE(endpoint.ok()) << endpoint.status();
  const auto stub = v1::CompletionService::NewStub(grpc::CreateChannel(
      absl::StrCat("127.0.0.1:", (*endpoint)->port()), grpc::InsecureChannelCredentials()));
  std::vector<std::thread> clients;
  for (int i = 0; i < kStreams; ++i) {
    clients.emplace_back([&stub, i] {
      const std::string name(1, static_cast<char>('a' + i));
      std::string expected;
      for (int batch = 1; batch <= kBatches; ++batch) absl::StrAppend(&expected, name, batch, " ");
      EXPECT_EQ(ReadAll(*stub, name), expected);
    });
  }
  const std::vector<Stream*> streams = service.Await(kStreams);
  Connection connection;
  WithStreams(kStreams, connection);
  int depth = 0, nested = 0;
  for (int i = 0; i < kBatches; ++i) {
    {
      const DeliveryBatch batch(2);
      for (Stream* stream : streams) {
        connection.WriteAtBatchEnd(Writer([&depth, &nested, stream] {
          nested += depth++ > 0 ? 1 : 0;
          stream->Send();
          --depth;
        }));
      }
    }
    service.Await(kStreams);
  }
  // All but the first of each batch, except where another thread of gRPC's was writing.
  EXPECT_GE(nested, kBatches);
  for (Stream* stream : streams) stream->Finish(grpc::Status::OK);
  for (std::thread& client : clients) client.join();
  service.Await(kStreams);
}

}  // namespace
}  // namespace based
