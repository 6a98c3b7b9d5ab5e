// Datagrams to a service manager's socket, as sd_notify(3) documents them.
#include "server/service_notify.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

using testing::ElementsAre;
using testing::MatchesRegex;

// A manager's socket: a path, or with @ a name in the abstract namespace.
class Manager {
 public:
  explicit Manager(const std::string& name) : fd_(::socket(AF_UNIX, SOCK_DGRAM, 0)) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, name.data(), name.size());
    if (name[0] == '@') address.sun_path[0] = '\0';
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    EXPECT_EQ(::bind(fd_, reinterpret_cast<const sockaddr*>(&address), length), 0);
  }
  ~Manager() { ::close(fd_); }

  // What has come; sends to a socket of this machine are there when they return.
  std::vector<std::string> Take() const {
    std::vector<std::string> messages;
    char buffer[4096];
    for (ssize_t got = 0; (got = ::recv(fd_, buffer, sizeof(buffer), MSG_DONTWAIT)) >= 0;) {
      messages.emplace_back(buffer, static_cast<size_t>(got));
    }
    return messages;
  }

 private:
  const int fd_;
};

class ServiceNotifyTest : public testing::Test {
 protected:
  void TearDown() override {
    for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}) ::unsetenv(name);
  }
};

TEST_F(ServiceNotifyTest, TellsTheStagesOfALife) {
  const std::string path = testing::TempDir() + "notify" + std::to_string(::getpid());
  std::filesystem::remove(path);
  const Manager manager(path);
  ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
  const ServiceNotifier notifier;
  EXPECT_EQ(notifier.watchdog(), std::nullopt);
  notifier.Loading("");
  notifier.Ready("serving demo:\nWATCHDOG=1");
  notifier.Reloading();
  notifier.Watchdog();
  notifier.Stopping("draining");
  EXPECT_THAT(manager.Take(),
              ElementsAre("STATUS=loading the demo model",
                          "READY=1\nSTATUS=serving demo: WATCHDOG=1",  // a name stays a value
                          MatchesRegex("RELOADING=1\nMONOTONIC_USEC=[0-9]+"), "WATCHDOG=1",
                          "STOPPING=1\nSTATUS=draining"));
  std::filesystem::remove(path);
}

TEST_F(ServiceNotifyTest, KnowsTheAbstractNamespace) {
  const std::string name = "@based-notify-test-" + std::to_string(::getpid());
  const Manager manager(name);
  ServiceNotifier(name, std::nullopt).Status("x");
  EXPECT_THAT(manager.Take(), ElementsAre("STATUS=x"));
}

TEST_F(ServiceNotifyTest, TheWatchdogIsForTheProcessThatItNames) {
  ::setenv("WATCHDOG_USEC", "30000000", 1);
  EXPECT_EQ(ServiceNotifier().watchdog(), std::chrono::seconds(30));
  ::setenv("WATCHDOG_PID", std::to_string(::getpid()).c_str(), 1);
  EXPECT_EQ(ServiceNotifier().watchdog(), std::chrono::seconds(30));
  ::setenv("WATCHDOG_PID", std::to_string(::getpid() + 1).c_str(), 1);
  EXPECT_EQ(ServiceNotifier().watchdog(), std::nullopt);
  ::unsetenv("WATCHDOG_PID");
  for (const char* wrong : {"0", "-5", "soon", ""}) {
    ::setenv("WATCHDOG_USEC", wrong, 1);
    EXPECT_EQ(ServiceNotifier().watchdog(), std::nullopt) << wrong;
  }
}

TEST_F(ServiceNotifyTest, NobodyThereIsNoError) {
  ServiceNotifier("", std::nullopt).Ready("x");
  ServiceNotifier("/nonexistent/notify", std::nullopt).Ready("x");
  ServiceNotifier("/" + std::string(500, 'x'), std::nullopt).Ready("x");
}

}  // namespace
}  // namespace based
