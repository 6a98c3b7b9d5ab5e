// Silent clients, over pairs of sockets.
#include "server/silent_connections.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>

#include "gtest/gtest.h"

namespace based {
namespace {

using std::chrono::seconds;

constexpr int kListener = 77;  // only a number here

class SilentConnectionsTest : public testing::Test {
 protected:
  ~SilentConnectionsTest() override {
    for (const int fd : clients_) ::close(fd);
    ::close(epoll_);
  }

  // A connection that comes at `now`: the server's end; its client's end is `clients_[index]`.
  int Connect(size_t index, SilentConnections& silent, SilentConnections::TimePoint now) {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends.data()), 0);
    clients_[index] = ends[1];
    silent.Add(kListener, ends[0], now);
    return ends[0];
  }
  void Speak(size_t index) { EXPECT_EQ(::send(clients_[index], "P", 1, MSG_NOSIGNAL), 1); }

  // The descriptor that epoll reports; -1: none.
  int Reported() const {
    epoll_event event{};
    return ::epoll_wait(epoll_, &event, 1, 0) == 1 ? event.data.fd : -1;
  }
  // Whether the server has closed its end.
  bool Ended(size_t index) const {
    char byte = 0;
    return ::recv(clients_[index], &byte, 1, 0) == 0;
  }

  const SilentConnections::TimePoint start_ = std::chrono::steady_clock::now();
  const int epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
  std::array<int, 3> clients_ = {-1, -1, -1};
};

TEST_F(SilentConnectionsTest, WhoSpeaksIsHandedOverWithWhatWasSaid) {
  SilentConnections silent(epoll_);
  Connect(0, silent, start_);
  const int spoken = Connect(1, silent, start_);
  EXPECT_EQ(Reported(), -1);
  Speak(1);
  ASSERT_EQ(Reported(), spoken);
  EXPECT_EQ(silent.Take(spoken), kListener);
  EXPECT_EQ(Reported(), -1) << "it is watched by its owner from now on";
  char byte = 0;
  EXPECT_EQ(::recv(spoken, &byte, 1, 0), 1);
  silent.CloseOlderThan(start_ + seconds(1));
  EXPECT_NE(::fcntl(spoken, F_GETFD), -1) << "an owner's connection was closed";
  ::close(spoken);
  EXPECT_TRUE(Ended(0));
  EXPECT_TRUE(silent.empty());
}

TEST_F(SilentConnectionsTest, WhoGoesIsClosed) {
  SilentConnections silent(epoll_);
  const int connection = Connect(0, silent, start_);
  ::close(clients_[0]);
  clients_[0] = -1;
  ASSERT_EQ(Reported(), connection);
  EXPECT_EQ(silent.Take(connection), -1);
  EXPECT_EQ(::fcntl(connection, F_GETFD), -1);
  EXPECT_TRUE(silent.empty());
  EXPECT_EQ(silent.Take(connection), -1) << "reported twice";
}

TEST_F(SilentConnectionsTest, TheOldestAreClosedFirst) {
  SilentConnections silent(epoll_);
  Connect(0, silent, start_);
  Connect(1, silent, start_ + seconds(1));
  Connect(2, silent, start_ + seconds(2));
  silent.CloseOlderThan(start_ - seconds(1));
  EXPECT_FALSE(Ended(0));
  silent.CloseOlderThan(start_);
  EXPECT_TRUE(Ended(0));
  EXPECT_FALSE(Ended(1));
  silent.CloseOlderThan(start_ + seconds(2));
  EXPECT_TRUE(Ended(1));
  EXPECT_TRUE(Ended(2));
  EXPECT_TRUE(silent.empty());
}

TEST_F(SilentConnectionsTest, ADescriptorThatComesAgainIsAsOldAsItsConnection) {
  SilentConnections silent(epoll_);
  const int spoken = Connect(0, silent, start_);
  Speak(0);
  EXPECT_EQ(silent.Take(spoken), kListener);
  ::close(spoken);
  ::close(clients_[0]);
  ASSERT_EQ(Connect(0, silent, start_ + seconds(3)), spoken);  // the lowest number that is free
  silent.CloseOlderThan(start_ + seconds(2));
  EXPECT_FALSE(Ended(0));
  silent.CloseOlderThan(start_ + seconds(3));
  EXPECT_TRUE(Ended(0));
}

TEST_F(SilentConnectionsTest, NoneOutlivesIt) {
  {
    SilentConnections silent(epoll_);
    Connect(0, silent, start_);
  }
  EXPECT_TRUE(Ended(0));
}

}  // namespace
}  // namespace based
