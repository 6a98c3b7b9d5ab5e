// The HTTP listener over real sockets.
#include "server/metrics_listener.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

// As much as some libraries have, CUDA's for one: threads with small stacks cannot be made then.
thread_local char thread_data[256 * 1024];

std::string Exchange(int port, const std::string& request) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string reply;
  if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0 &&
      ::send(fd, request.data(), request.size(), 0) == static_cast<ssize_t>(request.size())) {
    char buffer[4096];
    for (ssize_t got = 0; (got = ::recv(fd, buffer, sizeof(buffer), 0)) > 0;) {
      reply.append(buffer, static_cast<size_t>(got));
    }
  }
  ::close(fd);
  return reply;
}

std::string Get(int port, const std::string& path, const std::string& host = "localhost") {
  return Exchange(port,
                  "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n");
}

class MetricsListenerTest : public testing::Test {
 protected:
  MetricsListenerTest() {
    thread_data[0] = 1;  // or else the linker drops it
    auto listener = MetricsListener::Start("127.0.0.1:0",
                                           {.metrics =
                                                [](const std::set<std::string>& names) {
                                                  return absl::StrJoin(names, ",") + "series 1\n";
                                                },
                                            .health = [this] { return health_; }});
    EXPECT_TRUE(listener.ok()) << listener.status();
    if (listener.ok()) listener_ = *std::move(listener);
  }

  absl::Status health_;
  std::unique_ptr<MetricsListener> listener_;
};

TEST_F(MetricsListenerTest, NamesOfSeriesAreTakenFromTheQuery) {
  const auto asked = [&](const std::string& query) {
    const std::string reply = Get(listener_->port(), "/metrics?" + query);
    return reply.substr(reply.find("\r\n\r\n") + 4);
  };
  EXPECT_EQ(asked("name[]=a&name[]=b_c"), "a,b_cseries 1\n");
  EXPECT_EQ(asked("name%5B%5D=a%5fb&other=1&name%5B%5D=a_b"), "a_bseries 1\n");
  EXPECT_EQ(asked("name=a&&x[]=b"), "series 1\n");
  EXPECT_EQ(asked("name[]=%"), "%series 1\n") << "no escape, and no series";
}

TEST_F(MetricsListenerTest, ServesMetricsHealthAndIndexAndNothingElse) {
  const int port = listener_->port();
  ASSERT_GT(port, 0);
  const std::string metrics = Get(port, "/metrics");
  EXPECT_THAT(metrics, testing::StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(metrics, testing::HasSubstr("version=0.0.4"));
  EXPECT_THAT(metrics, testing::EndsWith("\r\n\r\nseries 1\n"));
  EXPECT_THAT(Get(port, "/healthz"), testing::EndsWith("\r\n\r\nok\n"));
  EXPECT_THAT(Get(port, "/"), testing::HasSubstr("/metrics"));
  EXPECT_THAT(Get(port, "/other"), testing::StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(Get(port, "/../../etc/passwd"), testing::Not(testing::StartsWith("HTTP/1.1 200")));
  EXPECT_THAT(
      Exchange(port, "POST /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n"),
      testing::StartsWith("HTTP/1.1 405"));
}

TEST_F(MetricsListenerTest, ProbeFailsWithTheReason) {
  health_ = absl::InternalError("device lost");
  const std::string reply = Get(listener_->port(), "/healthz");
  EXPECT_THAT(reply, testing::StartsWith("HTTP/1.1 503"));
  EXPECT_THAT(reply, testing::HasSubstr("device lost"));
}

TEST_F(MetricsListenerTest, OnLoopbackOnlyNamesOfLoopbackAreAnswered) {
  const int port = listener_->port();
  for (const char* host : {"localhost", "LocalHost:7490", "127.0.0.1", "127.1.2.3:80", "[::1]:9"}) {
    EXPECT_THAT(Get(port, "/metrics", host), testing::StartsWith("HTTP/1.1 200")) << host;
  }
  EXPECT_THAT(Exchange(port, "GET /metrics HTTP/1.0\r\n\r\n"), testing::HasSubstr("series 1"));
  for (const char* host : {"rebound.example", "rebound.example:7490", "127.0.0.1.example",
                           "10.0.0.1", "[::2]", "localhost.example", "0x7f.1"}) {
    for (const char* path : {"/metrics", "/debug.json", "/"}) {
      const std::string reply = Get(port, path, host);
      EXPECT_THAT(reply, testing::StartsWith("HTTP/1.1 403")) << host;
      EXPECT_THAT(reply, testing::HasSubstr(std::string("Host is '") + host + "'; expected"));
      EXPECT_THAT(reply, testing::Not(testing::HasSubstr("series")));
    }
  }
}

TEST(MetricsListener, BeyondLoopbackAnyNameIsAnswered) {
  auto listener = MetricsListener::Start(
      "0.0.0.0:0", {.metrics = [](const auto&) { return std::string("series 1\n"); }});
  ASSERT_TRUE(listener.ok()) << listener.status();
  EXPECT_THAT(Get((*listener)->port(), "/metrics", "pod.example:7490"),
              testing::HasSubstr("series 1"));
}

TEST_F(MetricsListenerTest, TakenPortIsAnErrorThatNamesIt) {
  const std::string address = "127.0.0.1:" + std::to_string(listener_->port());
  const auto second = MetricsListener::Start(address, {});
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), testing::HasSubstr(address));
}

}  // namespace
}  // namespace based
