// Finding a call's connection.
#include "server/connection_table.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
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
    ::close(listener);
  }
  ~Loopback() {
    ::close(client);
    ::close(server);
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
