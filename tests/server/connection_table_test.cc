// Finding a call's socket, and holding back what is written to it, over loopback connections.
#include "server/connection_table.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "based/v1/model.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "server/grpc_endpoint.h"

namespace based {
namespace {

// The two ends of a connection over 127.0.0.1.
struct Loopback {
  Loopback() {
    const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const raw = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(::bind(listener, raw, size), 0);
    EXPECT_EQ(::listen(listener, 1), 0);
    EXPECT_EQ(::getsockname(listener, raw, &size), 0);
    client = ::socket(AF_INET, SOCK_STREAM, 0);
    EXPECT_EQ(::connect(client, raw, size), 0);
    server = ::accept(listener, nullptr, nullptr);
    EXPECT_EQ(::getsockname(client, raw, &size), 0);
    peer = absl::StrCat("ipv4:127.0.0.1:", ntohs(address.sin_port));
    const int on = 1;
    ::setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    ::close(listener);
  }
  ~Loopback() {
    ::close(client);
    ::close(server);
  }

  void Write() const { EXPECT_EQ(::send(server, "x", 1, MSG_NOSIGNAL), 1); }
  bool Arrived() const {
    pollfd wait{.fd = client, .events = POLLIN, .revents = 0};
    return ::poll(&wait, 1, 0) == 1;
  }

  int client = -1;
  int server = -1;
  std::string peer;
};

TEST(ConnectionTable, FindsConnectionsByTheirPeer) {
  const Loopback one;
  const Loopback two;
  ConnectionTable table;
  table.Add(one.server);
  table.Add(two.server);
  ASSERT_NE(table.Find(one.peer), nullptr);
  ASSERT_NE(table.Find(two.peer), nullptr);
  EXPECT_NE(table.Find(one.peer), table.Find(two.peer));
  EXPECT_EQ(table.Find(one.peer), table.Find(one.peer));
}

TEST(ConnectionTable, KnowsNoOtherNames) {
  const Loopback pair;
  ConnectionTable table;
  table.Add(pair.server);
  for (const char* name : {"", "ipv4:", "ipv4:127.0.0.1", "ipv4:127.0.0.1:", "ipv4:127.0.0.1:99999",
                           "ipv4:127.0.0.1:-1", "ipv4:nonsense:80", "ipv6:%5B::1%5D:1", "unix:/x:1",
                           "unknown", "ipv4:127.0.0.1:1"}) {
    EXPECT_EQ(table.Find(name), nullptr) << name;
  }
}

TEST(ConnectionTable, ADescriptorThatIsAnotherConnectionNowHasTheNewPeerAlone) {
  auto first = std::make_unique<Loopback>();
  ConnectionTable table;
  table.Add(first->server);
  const Loopback second;
  ASSERT_GE(::dup2(second.server, first->server), 0);
  table.Add(first->server);
  EXPECT_EQ(table.Find(first->peer), nullptr);
  EXPECT_NE(table.Find(second.peer), nullptr);
}

TEST(Connection, WritesOfABatchLeaveAtItsEnd) {
  const Loopback pair;
  const auto connection = std::make_shared<Connection>(pair.server);
  connection->OnStreamOpened();
  connection->OnStreamOpened();
  {
    const DeliveryBatch batch(2);
    for (int i = 0; i < 3; ++i) {
      connection->HoldWrites();
      pair.Write();
    }
    EXPECT_FALSE(pair.Arrived());
  }
  EXPECT_TRUE(pair.Arrived());
  char all[8];
  EXPECT_EQ(::recv(pair.client, all, sizeof(all), MSG_DONTWAIT), 3);
  pair.Write();  // after the batch nothing waits
  EXPECT_TRUE(pair.Arrived());
}

TEST(Connection, NothingIsHeldOutsideOfABatchOrForOneStream) {
  const Loopback outside;
  const auto two = std::make_shared<Connection>(outside.server);
  two->OnStreamOpened();
  two->OnStreamOpened();
  two->HoldWrites();
  outside.Write();
  EXPECT_TRUE(outside.Arrived());

  const Loopback alone;
  const auto one = std::make_shared<Connection>(alone.server);
  one->OnStreamOpened();
  one->OnStreamOpened();
  one->OnStreamClosed();
  const DeliveryBatch batch(2);
  one->HoldWrites();
  alone.Write();
  EXPECT_TRUE(alone.Arrived());
}

TEST(Connection, WhoAwaitsReleaseWaitsForAShortBatchAlone) {
  const Loopback pair;
  const auto connection = std::make_shared<Connection>(pair.server);
  connection->OnStreamOpened();
  connection->OnStreamOpened();
  connection->AwaitRelease();  // nothing is held
  {
    const DeliveryBatch batch(DeliveryBatch::kTogether + 1);
    connection->HoldWrites();
    std::thread([&] { connection->AwaitRelease(); }).join();
  }
  std::atomic<bool> over{false};
  std::thread waits;
  {
    const DeliveryBatch batch(2);
    connection->HoldWrites();
    connection->AwaitRelease();  // of the batch itself
    waits = std::thread([&] {
      connection->AwaitRelease();
      EXPECT_TRUE(over);
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    over = true;
  }
  waits.join();
}

TEST(Connection, ADescriptorThatIsNoSocketAnyMoreDoesNoHarm) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe(pipe.data()), 0);
  const auto connection = std::make_shared<Connection>(pipe[1]);
  connection->OnStreamOpened();
  connection->OnStreamOpened();
  {
    const DeliveryBatch batch(2);
    connection->HoldWrites();
  }
  EXPECT_EQ(::write(pipe[1], "x", 1), 1);
  for (const int fd : pipe) ::close(fd);
}

// Answers when gRPC's name for the caller is one that the table knows.
class FindingService final : public v1::ModelService::CallbackService {
 public:
  explicit FindingService(const ConnectionTable& table) : table_(table) {}
  grpc::ServerUnaryReactor* GetCapacity(grpc::CallbackServerContext* context,
                                        const v1::GetCapacityRequest*,
                                        v1::GetCapacityResponse*) override {
    auto* reactor = context->DefaultReactor();
    reactor->Finish(table_.Find(context->peer()) != nullptr
                        ? grpc::Status::OK
                        : grpc::Status(grpc::NOT_FOUND, context->peer()));
    return reactor;
  }

 private:
  const ConnectionTable& table_;
};

TEST(ConnectionTable, KnowsEveryNameThatGrpcGives) {
  for (const std::string listen : {"127.0.0.1", "[::1]", "[::]"}) {
    ConnectionTable table;
    FindingService service(table);
    auto endpoint =
        GrpcEndpoint::Start("listen", absl::StrCat(listen, ":0"), {}, {&service}, &table);
    if (!endpoint.ok()) {
      ASSERT_NE(listen, "127.0.0.1") << endpoint.status();
      continue;  // a machine without IPv6
    }
    std::vector<std::string> hosts = {listen};
    if (listen == "[::]") hosts = {"127.0.0.1", "[::1]"};
    for (const std::string& host : hosts) {
      const auto stub = v1::ModelService::NewStub(grpc::CreateChannel(
          absl::StrCat(host, ":", (*endpoint)->port()), grpc::InsecureChannelCredentials()));
      grpc::ClientContext context;
      v1::GetCapacityResponse response;
      const grpc::Status status = stub->GetCapacity(&context, {}, &response);
      EXPECT_TRUE(status.ok()) << listen << " " << host << " " << status.error_message();
    }
  }
}

}  // namespace
}  // namespace based
