// The HTTP server over real sockets: answers of both kinds, limits, and clients that mean harm.
#include "server/http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/mutex.h"
#include "server/log.h"

namespace based {
namespace {

using std::chrono::milliseconds;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

// A blocking client; reads give up after ten seconds.
class Client {
 public:
  explicit Client(int port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    const timeval limit{.tv_sec = 10, .tv_usec = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    EXPECT_EQ(::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }
  ~Client() { Close(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void Close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  void Send(const std::string& text) {
    ASSERT_EQ(::send(fd_, text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }
  // What comes until `end` is its end; all until the connection closes where `end` is empty.
  std::string Read(const std::string& end = "") {
    std::string text;
    char buffer[4096];
    while (end.empty() || !text.ends_with(end)) {
      const ssize_t count = ::recv(fd_, buffer, end.empty() ? sizeof(buffer) : 1, 0);
      if (count < 0) return text + "<timeout>";
      if (count == 0) return text;
      text.append(buffer, static_cast<size_t>(count));
    }
    return text;
  }

 private:
  int fd_;
};

// Answers /echo with the body, /stream in pieces, and keeps /hold for the test.
class HttpServerTest : public testing::Test {
 protected:
  void Start(HttpServerOptions options = {}) {
    SetLogOptions({.level = LogLevel::kOff});
    options.listen = "127.0.0.1:0";
    auto server = HttpServer::Start(
        options, [this](std::shared_ptr<HttpExchange> exchange) { Handle(std::move(exchange)); });
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  void Handle(std::shared_ptr<HttpExchange> exchange) {
    const std::string path = exchange->request().path;
    if (path == "/stream") {
      exchange->Write("early ");
      exchange->Begin({.content_type = "text/plain", .headers = {{"x-a", "b"}}, .body = "first "});
      exchange->Write("second ");
      exchange->Write("third");
      exchange->End();
    } else if (path == "/hold") {
      exchange->OnClosed([this] {
        MutexLock lock(mutex_);
        ++closed_;
        changed_.NotifyAll();
      });
      MutexLock lock(mutex_);
      held_.push_back(std::move(exchange));
      changed_.NotifyAll();
    } else if (path == "/throw") {
      throw std::bad_alloc();
    } else {
      exchange->Respond({.content_type = "text/plain", .body = exchange->TakeBody() + "."});
    }
  }

  std::shared_ptr<HttpExchange> WaitForHeld() {
    MutexLock lock(mutex_);
    while (held_.empty()) changed_.Wait(mutex_);
    auto exchange = held_.back();
    held_.pop_back();
    return exchange;
  }
  bool WaitForClosed() {
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    MutexLock lock(mutex_);
    while (closed_ == 0 && std::chrono::steady_clock::now() < limit) {
      changed_.WaitUntil(mutex_, limit);
    }
    return closed_ > 0;
  }

  int port() const { return server_->port(); }

  Mutex mutex_;
  CondVar changed_;
  std::vector<std::shared_ptr<HttpExchange>> held_;
  int closed_ = 0;
  std::unique_ptr<HttpServer> server_;  // last: its threads end before the rest goes
};

std::string Post(const std::string& path, const std::string& body) {
  return absl::StrCat("POST ", path, " HTTP/1.1\r\nContent-Length: ", body.size(), "\r\n\r\n",
                      body);
}

TEST_F(HttpServerTest, KeepAliveAndPipelining) {
  Start();
  Client client(port());
  for (int i = 0; i < 3; ++i) {
    client.Send(Post("/echo", "one"));
    EXPECT_THAT(client.Read("one."), StartsWith("HTTP/1.1 200 OK\r\n"));
  }
  std::string burst;
  for (int i = 0; i < 200; ++i) burst += Post("/echo", absl::StrCat("n", i, "!"));
  client.Send(burst);
  for (int i = 0; i < 200; ++i) EXPECT_THAT(client.Read("!."), HasSubstr("200 OK"));
}

TEST_F(HttpServerTest, StreamsAreChunked) {
  Start();
  Client client(port());
  client.Send("GET /stream HTTP/1.1\r\n\r\n");
  const std::string answer = client.Read("0\r\n\r\n");
  EXPECT_THAT(answer, HasSubstr("transfer-encoding: chunked\r\nx-a: b\r\n"));
  EXPECT_THAT(answer, HasSubstr("first early "));
  EXPECT_THAT(answer, HasSubstr("third\r\n"));
}

TEST_F(HttpServerTest, OldClientsReadUntilTheEnd) {
  Start();
  Client client(port());
  client.Send("GET /stream HTTP/1.0\r\n\r\n");
  EXPECT_THAT(client.Read(), EndsWith("connection: close\r\n\r\nfirst early second third"));
}

TEST_F(HttpServerTest, PiecesGoOutAsTheyCome) {
  Start();
  Client client(port());
  client.Send("GET /hold HTTP/1.1\r\n\r\n");
  const auto exchange = WaitForHeld();
  exchange->Begin({});
  for (int i = 0; i < 20; ++i) {
    exchange->Write(absl::StrCat("piece", i, "."));
    EXPECT_THAT(client.Read(".\r\n"), HasSubstr(absl::StrCat("piece", i)));
  }
  exchange->End();
  EXPECT_EQ(client.Read("0\r\n\r\n"), "0\r\n\r\n");
}

TEST_F(HttpServerTest, ClientThatLeavesIsHeardOf) {
  Start();
  Client client(port());
  client.Send("GET /hold HTTP/1.1\r\n\r\n");
  const auto exchange = WaitForHeld();
  exchange->Begin({});
  client.Close();
  EXPECT_TRUE(WaitForClosed());
  EXPECT_EQ(exchange->Write("nobody"), 0u);
}

TEST_F(HttpServerTest, ReaderThatTakesNothingIsCut) {
  Start({.write_timeout = milliseconds(300)});
  Client client(port());
  client.Send("GET /hold HTTP/1.1\r\n\r\n");
  const auto exchange = WaitForHeld();
  exchange->Begin({});
  const std::string piece(1 << 20, 'x');
  // More than the kernel's buffers take; what waits is counted, until the reader is cut.
  size_t waits = 0;
  for (int i = 0; i < 64; ++i) waits = std::max(waits, exchange->Write(piece));
  EXPECT_GT(waits, piece.size());
  EXPECT_TRUE(WaitForClosed());
}

TEST_F(HttpServerTest, LargeBodiesArriveWhole) {
  Start();
  Client client(port());
  const std::string body(3 << 20, 'b');
  std::thread sender([&] {
    client.Send(absl::StrCat("POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: ",
                             body.size(), "\r\n\r\n"));
    client.Send(body);
  });
  EXPECT_EQ(client.Read("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  EXPECT_THAT(client.Read("\r\n\r\n"), HasSubstr("200 OK"));
  EXPECT_EQ(client.Read("."), body + ".");
  sender.join();
}

TEST_F(HttpServerTest, OversizedBodiesAreAnsweredBeforeTheyCome) {
  Start({.limits = {.header_bytes = 1000, .body_bytes = 1000}});
  Client client(port());
  client.Send("POST /echo HTTP/1.1\r\nContent-Length: 5000\r\n\r\n");
  client.Send(std::string(5000, 'x'));
  EXPECT_THAT(client.Read(), StartsWith("HTTP/1.1 413 "));
  Client header(port());
  header.Send("GET / HTTP/1.1\r\nA: " + std::string(2000, 'a'));
  EXPECT_THAT(header.Read(), StartsWith("HTTP/1.1 431 "));
  Client nonsense(port());
  nonsense.Send("hello\r\n\r\n");
  EXPECT_THAT(nonsense.Read(), StartsWith("HTTP/1.1 400 "));
}

TEST_F(HttpServerTest, BodiesTogetherAreBounded) {
  Start({.max_body_bytes_together = 100'000});
  Client first(port());
  first.Send("POST /echo HTTP/1.1\r\nContent-Length: 90001\r\n\r\n" + std::string(90'000, 'x'));
  // Until the first body has been read: its lease leaves too little for a second.
  std::string answer;
  for (int i = 0; i < 100 && !answer.starts_with("HTTP/1.1 503"); ++i) {
    std::this_thread::sleep_for(milliseconds(20));
    Client second(port());
    second.Send(Post("/echo", std::string(50'000, 'y') + "!"));
    answer = second.Read("\r\n\r\n");
  }
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 503 "));
  first.Send("x");
  EXPECT_THAT(first.Read("\r\n\r\n"), HasSubstr("200 OK"));
  // The lease is given back.
  Client third(port());
  third.Send(Post("/echo", std::string(50'000, 'z')));
  EXPECT_THAT(third.Read("\r\n\r\n"), HasSubstr("200 OK"));
}

TEST_F(HttpServerTest, EveryPhaseHasItsTimeLimit) {
  Start({.idle_timeout = milliseconds(100),
         .header_timeout = milliseconds(200),
         .body_timeout = milliseconds(200)});
  Client idle(port());
  EXPECT_EQ(idle.Read(), "");
  Client header(port());
  header.Send("GET / HTTP/1.1\r\nA: ");
  EXPECT_THAT(header.Read(), StartsWith("HTTP/1.1 408 "));
  Client body(port());
  body.Send("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab");
  EXPECT_THAT(body.Read(), StartsWith("HTTP/1.1 408 "));
}

TEST_F(HttpServerTest, DrippingHeadersDoNotExtendTheLimit) {
  Start({.header_timeout = milliseconds(300)});
  Client client(port());
  client.Send("GET / HTTP/1.1\r\n");
  std::thread drip([&] {
    for (int i = 0; i < 30; ++i) {
      std::this_thread::sleep_for(milliseconds(20));
      client.Send("a: b\r\n");
    }
  });
  EXPECT_THAT(client.Read("\r\n"), StartsWith("HTTP/1.1 408 "));
  drip.join();
}

TEST_F(HttpServerTest, ConnectionsAboveTheLimitAreClosed) {
  Start({.max_connections = 2});
  auto first = std::make_unique<Client>(port());
  Client second(port());
  first->Send(Post("/echo", "a"));
  EXPECT_THAT(first->Read("a."), HasSubstr("200 OK"));
  second.Send(Post("/echo", "a"));
  EXPECT_THAT(second.Read("a."), HasSubstr("200 OK"));
  Client third(port());
  EXPECT_EQ(third.Read(), "");
  first->Close();
  std::string answer;
  for (int i = 0; i < 500 && answer.empty(); ++i) {
    std::this_thread::sleep_for(milliseconds(10));
    Client fourth(port());
    ::usleep(1000);
    fourth.Send(Post("/echo", "a"));
    answer = fourth.Read("a.");
    if (answer.find("200 OK") == std::string::npos) answer.clear();
  }
  EXPECT_THAT(answer, HasSubstr("200 OK"));
}

TEST_F(HttpServerTest, HandlersThatThrowAnswer500) {
  Start();
  Client client(port());
  client.Send(Post("/throw", ""));
  EXPECT_THAT(client.Read("\n"), StartsWith("HTTP/1.1 500 "));
}

TEST_F(HttpServerTest, ShutdownLetsAnswersEnd) {
  Start();
  Client idle(port());
  Client client(port());
  client.Send("GET /hold HTTP/1.1\r\n\r\n");
  const auto exchange = WaitForHeld();
  exchange->Begin({});
  server_->BeginDrain();
  std::thread stop([&] { server_->Shutdown(std::chrono::seconds(10)); });
  EXPECT_EQ(idle.Read(), "");
  exchange->Write("last");
  exchange->End();
  EXPECT_THAT(client.Read(), HasSubstr("last"));
  client.Close();
  stop.join();
  EXPECT_EQ(closed_, 0);
}

TEST_F(HttpServerTest, ShutdownCutsWhatDoesNotEnd) {
  Start();
  Client client(port());
  client.Send("GET /hold HTTP/1.1\r\n\r\n");
  const auto exchange = WaitForHeld();
  exchange->Begin({});
  server_->Shutdown(milliseconds(100));
  EXPECT_TRUE(WaitForClosed());
  EXPECT_THAT(client.Read(), HasSubstr("200 OK"));
}

TEST(HttpServer, AddressInUse) {
  SetLogOptions({.level = LogLevel::kOff});
  const auto handle = [](std::shared_ptr<HttpExchange>) {};
  const auto first = HttpServer::Start({.listen = "127.0.0.1:0"}, handle);
  ASSERT_TRUE(first.ok());
  const std::string address = absl::StrCat("127.0.0.1:", (*first)->port());
  const auto second = HttpServer::Start({.listen = address}, handle);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(address));
  EXPECT_FALSE(HttpServer::Start({.listen = "no.such.host.invalid:1"}, handle).ok());
}

}  // namespace
}  // namespace based
