// The listener over real sockets.
#include "server/connection_listener.h"

#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <thread>

#include "gtest/gtest.h"
#include "server/log.h"

namespace based {
namespace {

// A client's socket.
class Client {
 public:
  Client() : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    // A test that waits for an end of file waits at most so long.
    const timeval limit = {.tv_sec = 10, .tv_usec = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  }
  ~Client() { ::close(fd_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  bool Connect(int port) const {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    return ::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  void Speak() const { EXPECT_EQ(::send(fd_, "P", 1, MSG_NOSIGNAL), 1); }
  // Waits until the server has closed the connection.
  bool Ended() const {
    char byte = 0;
    const ssize_t got = ::recv(fd_, &byte, 1, 0);
    return got == 0 || (got < 0 && errno == ECONNRESET);
  }
  int fd() const { return fd_; }

 private:
  int fd_;
};

// Keeps the connections that a listener hands over.
class Connections {
 public:
  ~Connections() {
    for (int i = 0; i < count_; ++i) ::close(fds_[static_cast<size_t>(i)]);
  }
  void Take(int fd) {
    fds_[static_cast<size_t>(count_.load())] = fd;
    ++count_;
  }
  // Waits, at most ten seconds, for `count` of them.
  bool Wait(int count) const {
    for (int i = 0; i < 1000 && count_ < count; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return count_ == count;
  }

 private:
  std::array<int, 64> fds_{};
  std::atomic<int> count_{0};
};

class ConnectionListenerTest : public testing::Test {
 protected:
  void Start(const ConnectionLimits& limits) {
    Start(limits, [this](int, int connection) { connections_.Take(connection); });
  }
  void Start(const ConnectionLimits& limits, ConnectionListener::Handler handler) {
    SetLogOptions({.level = LogLevel::kOff});
    auto listener = ConnectionListener::Bind("127.0.0.1:0", limits);
    ASSERT_TRUE(listener.ok()) << listener.status();
    listener_ = *std::move(listener);
    listener_->Start(std::move(handler));
  }

  Connections connections_;
  std::unique_ptr<ConnectionListener> listener_;
};

TEST_F(ConnectionListenerTest, HandsConnectionsOver) {
  Start({.connections = 1000});
  Client first, second;
  EXPECT_TRUE(first.Connect(listener_->port()));
  EXPECT_TRUE(second.Connect(listener_->port()));
  first.Speak();
  second.Speak();
  EXPECT_TRUE(connections_.Wait(2));
  const int port = listener_->port();
  listener_->Stop();
  EXPECT_FALSE(Client().Connect(port));
}

TEST_F(ConnectionListenerTest, ClosesThoseAboveTheLimit) {
  Start({.connections = 1});
  Client first, second;
  ASSERT_TRUE(first.Connect(listener_->port()));
  first.Speak();
  ASSERT_TRUE(connections_.Wait(1));
  ASSERT_TRUE(second.Connect(listener_->port()));
  EXPECT_TRUE(second.Ended());
}

TEST_F(ConnectionListenerTest, ClosesThemWhileTheProcessHasNoDescriptorsToSpare) {
  Start({.connections = 1000, .descriptors = 1});
  Client client;
  ASSERT_TRUE(client.Connect(listener_->port()));
  EXPECT_TRUE(client.Ended());
}

TEST_F(ConnectionListenerTest, OnlyItsOwnOpenConnectionsCountAgainstItsLimit) {
  std::array<Client, 64> others;  // descriptors that are none of its connections
  std::atomic<int> heard{0};
  Start({.connections = 2}, [&](int, int connection) {
    ::close(connection);
    ++heard;
  });
  // Far more than the limit, one after another. One that comes too soon after the limit was
  // reached, and before the next count, is closed unheard.
  for (int tries = 0; heard < 8 && tries < 1000; ++tries) {
    Client client;
    ASSERT_TRUE(client.Connect(listener_->port()));
    client.Speak();
    EXPECT_TRUE(client.Ended());
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(heard, 8);
  listener_->Stop();  // its thread uses `heard`
}

TEST_F(ConnectionListenerTest, OutlivesTheWantOfDescriptors) {
  Start({.connections = 1000});
  std::array<Client, 4> clients;
  Client probe;
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit none = {.rlim_cur = static_cast<rlim_t>(probe.fd()), .rlim_max = limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  for (const Client& client : clients) EXPECT_TRUE(client.Connect(listener_->port()));
  // The listener has tried, and failed, by then or later: either way none may be lost.
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  for (const Client& client : clients) client.Speak();
  EXPECT_TRUE(connections_.Wait(4));
}

TEST_F(ConnectionListenerTest, KeepsTheSilentAndDropsThoseThatGo) {
  Start({.connections = 1000});
  Client silent, speaks;
  {
    Client goes;
    ASSERT_TRUE(goes.Connect(listener_->port()));
  }
  ASSERT_TRUE(silent.Connect(listener_->port()));
  ASSERT_TRUE(speaks.Connect(listener_->port()));
  speaks.Speak();
  EXPECT_TRUE(connections_.Wait(1));
  silent.Speak();
  EXPECT_TRUE(connections_.Wait(2));
}

TEST_F(ConnectionListenerTest, StopEndsTheSilent) {
  Start({.connections = 1000});
  Client silent, speaks;
  ASSERT_TRUE(silent.Connect(listener_->port()));
  ASSERT_TRUE(speaks.Connect(listener_->port()));
  speaks.Speak();
  ASSERT_TRUE(connections_.Wait(1));  // so the other was accepted before
  listener_->Stop();
  EXPECT_TRUE(silent.Ended());
}

TEST(ConnectionListenerBind, SaysWhatIsWrong) {
  auto first = ConnectionListener::Bind("127.0.0.1:0", {.connections = 10});
  ASSERT_TRUE(first.ok());
  const std::string taken = "127.0.0.1:" + std::to_string((*first)->port());
  for (const std::string& address : {taken, std::string("no.such.host.invalid:0")}) {
    const auto second = ConnectionListener::Bind(address, {.connections = 10});
    EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
    EXPECT_NE(second.status().message().find(address), std::string::npos) << second.status();
  }
}

TEST(ConnectionListenerBind, TakesNamesAndBothFamilies) {
  for (const char* address : {"localhost:0", "0.0.0.0:0"}) {
    const auto listener = ConnectionListener::Bind(address, {.connections = 10});
    ASSERT_TRUE(listener.ok()) << listener.status();
    EXPECT_GT((*listener)->port(), 0);
  }
}

}  // namespace
}  // namespace based
