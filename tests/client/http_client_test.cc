// The HTTP client against a server that says what the test tells it to.
#include "client/http_client.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/command.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/mutex.h"

namespace based {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

TEST(HttpTarget, ReadsHostAndPort) {
  const auto parsed = [](const std::string& url) {
    const auto target = HttpTarget::Parse("http", url);
    EXPECT_TRUE(target.ok()) << target.status();
    return target.ok() ? absl::StrCat(target->host, " ", target->port, " ", target->authority) : "";
  };
  EXPECT_EQ(parsed("http://127.0.0.1:7480"), "127.0.0.1 7480 127.0.0.1:7480");
  EXPECT_EQ(parsed("http://name/"), "name 80 name");
  EXPECT_EQ(parsed("http://[::1]:7480/"), "::1 7480 [::1]:7480");
  EXPECT_EQ(parsed("http://[::1]"), "::1 80 [::1]");
}

TEST(HttpTarget, RefusesOthers) {
  for (const char* bad : {"", "name:80", "ftp://name", "http://", "http://:80", "http://name:",
                          "http://name:0", "http://name:65536", "http://name:80x", "http://name/v1",
                          "http://user@name", "http://[::1", "http://a b", "http://a?b"}) {
    const absl::Status status = HttpTarget::Parse("http", bad).status();
    EXPECT_TRUE(IsUsageError(status)) << bad;
    EXPECT_THAT(status.message(), HasSubstr(absl::StrCat("--http is '", bad, "'"))) << bad;
  }
  EXPECT_THAT(HttpTarget::Parse("http", "https://name").status().message(), HasSubstr("TLS"));
}

// Serves its connections one after the other; answers[i] is the i-th answer of all. An empty one
// closes without, one that ends with kClose closes after it.
class Server {
 public:
  static constexpr char kClose = '\x01';

  explicit Server(std::vector<std::string> answers) : answers_(std::move(answers)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(listener_, 8), 0);
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { Run(); });
  }
  ~Server() {
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
  }

  std::unique_ptr<HttpClient> NewClient() const {
    auto client =
        HttpClient::Open(*HttpTarget::Parse("http", absl::StrCat("http://127.0.0.1:", port_)));
    EXPECT_TRUE(client.ok()) << client.status();
    return *std::move(client);
  }
  int connections() const { return connections_; }

 private:
  void Run() {
    size_t next = 0;
    while (true) {
      const int link = ::accept(listener_, nullptr, nullptr);
      if (link < 0) return;
      ++connections_;
      while (next < answers_.size() && ReadHead(link)) {
        std::string answer = answers_[next++];
        if (answer.empty()) break;
        const bool last = answer.back() == kClose;
        if (last) answer.pop_back();
        EXPECT_EQ(::send(link, answer.data(), answer.size(), MSG_NOSIGNAL),
                  static_cast<ssize_t>(answer.size()));
        if (last) break;
      }
      while (next == answers_.size() && ReadHead(link)) {
      }  // until the client goes
      ::close(link);
    }
  }

  static bool ReadHead(int link) {
    std::string head;
    char byte = 0;
    while (!absl::EndsWith(head, "\r\n\r\n")) {
      if (::recv(link, &byte, 1, 0) != 1) return false;
      head += byte;
    }
    return true;
  }

  const std::vector<std::string> answers_;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<int> connections_{0};
  std::thread thread_;
};

class Answer final : public HttpListener {
 public:
  void OnHead(int status) override { status_ = status; }
  void OnBody(std::string_view piece) override { body_ += piece; }
  void OnEnd(const absl::Status& status) override {
    MutexLock lock(mutex_);
    end_ = status;
    done_ = true;
    ended_.NotifyAll();
  }
  // "200 body", or the name of the error.
  std::string Wait() {
    MutexLock lock(mutex_);
    while (!done_) ended_.Wait(mutex_);
    return end_.ok() ? absl::StrCat(status_, " ", body_) : absl::StatusCodeToString(end_.code());
  }

 private:
  int status_ = 0;
  std::string body_;
  Mutex mutex_;
  CondVar ended_;
  absl::Status end_ ABSL_GUARDED_BY(mutex_);
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
};

std::string Ask(HttpClient& client, milliseconds timeout = std::chrono::seconds(30)) {
  Answer answer;
  client.Send("GET / HTTP/1.1\r\n\r\n", timeout, &answer);
  return answer.Wait();
}

constexpr char kA[] = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na";
constexpr char kChunks[] =
    "HTTP/1.1 429 Wait\r\ntransfer-encoding: chunked\r\n\r\n2\r\nbc\r\n1\r\nd\r\n0\r\n\r\n";

TEST(HttpClient, AKeptConnectionIsTakenAgain) {
  const Server server({kA, kChunks, kA});
  const auto client = server.NewClient();
  EXPECT_EQ(Ask(*client), "200 a");
  EXPECT_EQ(Ask(*client), "429 bcd");
  EXPECT_EQ(Ask(*client), "200 a");
  EXPECT_EQ(server.connections(), 1);
}

TEST(HttpClient, OneThatWasClosedMeanwhileIsReplaced) {
  const Server server({kA, "", kA});
  const auto client = server.NewClient();
  EXPECT_EQ(Ask(*client), "200 a");
  EXPECT_EQ(Ask(*client), "200 a");
  EXPECT_EQ(server.connections(), 2);
}

TEST(HttpClient, OneThatAsksToCloseIsNotKept) {
  const Server server({"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nuntil the end\x01", kA});
  const auto client = server.NewClient();
  EXPECT_EQ(Ask(*client), "200 until the end");
  EXPECT_EQ(Ask(*client), "200 a");
  EXPECT_EQ(server.connections(), 2);
}

TEST(HttpClient, WhatBreaksIsUnavailableAndNotAskedAgain) {
  const Server server({"", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf\x01",
                       "no HTTP at all\r\n\r\n\x01", kA});
  const auto client = server.NewClient();
  EXPECT_EQ(Ask(*client), "UNAVAILABLE");
  EXPECT_EQ(Ask(*client), "UNAVAILABLE");
  EXPECT_EQ(Ask(*client), "UNAVAILABLE");
  EXPECT_EQ(Ask(*client), "200 a");
}

TEST(HttpClient, SilenceEndsWithTheTimeoutOrWhenCancelled) {
  const Server server({});
  const auto client = server.NewClient();
  EXPECT_EQ(Ask(*client, milliseconds(50)), "DEADLINE_EXCEEDED");
  Answer answer;
  client->Send("GET / HTTP/1.1\r\n\r\n", std::chrono::hours(1), &answer);
  client->CancelAll();
  EXPECT_EQ(answer.Wait(), "CANCELLED");
}

}  // namespace
}  // namespace based
