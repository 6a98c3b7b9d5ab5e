#include "server/http_server.h"

#include <algorithm>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <exception>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/mutex.h"
#include "server/http_connection.h"
#include "server/log.h"

namespace based {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using std::chrono::milliseconds;

// Bodies above this are read on a thread of their own.
constexpr size_t kLargeBody = 16 << 10;
constexpr milliseconds kMostSweepInterval{500};
constexpr milliseconds kRetryAccept{50};

// Counts connections that are open; wakes whoever waits for the last.
class ConnectionCount {
 public:
  using Clock = std::chrono::steady_clock;

  // False, and nothing changes, when `most` are open.
  bool Enter(int32_t most) {
    MutexLock lock(mutex_);
    if (open_ >= most) return false;
    ++open_;
    return true;
  }
  void Leave() {
    MutexLock lock(mutex_);
    --open_;
    changed_.NotifyAll();
  }
  bool WaitForNone(Clock::time_point until) {
    MutexLock lock(mutex_);
    while (open_ > 0 && Clock::now() < until) changed_.WaitUntil(mutex_, until);
    return open_ == 0;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  int32_t open_ ABSL_GUARDED_BY(mutex_) = 0;
};

struct Listener {
  explicit Listener(asio::io_context& io) : acceptor(io), retry(io) {}

  tcp::acceptor acceptor;
  asio::steady_timer retry;
};

// One I/O thread and its connections. All of it runs on the thread but for Ready and what posts.
class Worker {
 public:
  Worker(milliseconds sweep_interval, std::function<void(std::chrono::nanoseconds)> on_lag)
      : io(1),
        guard_(asio::make_work_guard(io)),
        sweep_(io),
        sweep_interval_(sweep_interval),
        on_lag_(std::move(on_lag)) {}

  void Start() {
    thread_ = std::thread([this] { io.run(); });
  }
  void Stop() {
    io.stop();
    if (thread_.joinable()) thread_.join();
  }

  // From any thread: `connection` has something to write. Connections that get ready while the
  // thread is busy are written in one turn, for one wake-up.
  void Ready(std::shared_ptr<HttpConnection> connection) {
    MutexLock lock(mutex_);
    ready_.push_back(std::move(connection));
    if (ready_.size() == 1) asio::post(io, [this] { PumpReady(); });
  }

  void Add(const std::shared_ptr<HttpConnection>& connection) {
    connections_.insert(connection);
    if (connections_.size() == 1) SweepLater();
    connection->Open();
  }
  void Remove(const std::shared_ptr<HttpConnection>& connection) { connections_.erase(connection); }

  void FinishAll(bool at_once) {
    const auto all = connections_;
    for (const auto& connection : all) connection->Finish(at_once);
  }

  asio::io_context io;

 private:
  void PumpReady() {
    std::vector<std::shared_ptr<HttpConnection>> ready;
    {
      MutexLock lock(mutex_);
      ready.swap(ready_);
    }
    for (const auto& connection : ready) connection->Pump();
  }

  // Without connections nothing wakes an idle daemon.
  void SweepLater() {
    sweep_.expires_after(sweep_interval_);
    sweep_.async_wait([this](const error_code& error) {
      if (error || connections_.empty()) return;
      const auto now = std::chrono::steady_clock::now();
      if (on_lag_ != nullptr) on_lag_(now - sweep_.expiry());
      const auto all = connections_;
      for (const auto& connection : all) connection->Sweep(now);
      if (!connections_.empty()) SweepLater();
    });
  }

  asio::executor_work_guard<asio::io_context::executor_type> guard_;
  asio::steady_timer sweep_;
  const milliseconds sweep_interval_;
  const std::function<void(std::chrono::nanoseconds)> on_lag_;
  absl::flat_hash_set<std::shared_ptr<HttpConnection>> connections_;
  std::thread thread_;

  Mutex mutex_;
  std::vector<std::shared_ptr<HttpConnection>> ready_ ABSL_GUARDED_BY(mutex_);
};

class SocketConnection final : public HttpConnection {
 public:
  SocketConnection(HttpShared& shared, ConnectionCount& count, Worker& worker, tcp::socket socket,
                   std::string peer)
      : HttpConnection(shared, std::move(peer)),
        count_(count),
        worker_(worker),
        socket_(std::move(socket)) {}
  ~SocketConnection() override {
    if (!closed()) count_.Leave();
  }

  void OnOutput() override { worker_.Ready(shared_from_this()); }

 private:
  void StartRead(char* data, size_t size) override {
    socket_.async_read_some(asio::buffer(data, size),
                            [this, self = shared_from_this()](const error_code& error, size_t n) {
                              OnRead(!error, n);
                            });
  }
  void StartWrite(const char* data, size_t size) override {
    socket_.async_write_some(asio::buffer(data, size),
                             [this, self = shared_from_this()](const error_code& error, size_t n) {
                               OnWritten(!error, n);
                             });
  }
  void ShutdownSend() override {
    error_code ignored;
    socket_.shutdown(tcp::socket::shutdown_send, ignored);
  }
  void CloseSocket() override {
    error_code ignored;
    socket_.close(ignored);
    worker_.Remove(shared_from_this());
    count_.Leave();
  }

  ConnectionCount& count_;
  Worker& worker_;
  tcp::socket socket_;
};

HttpResponse PlainRefusal(int status, std::string_view message) {
  return {.status = status,
          .content_type = "text/plain; charset=utf-8",
          .headers = {},
          .body = absl::StrCat(absl::string_view(message.data(), message.size()), "\n")};
}

// A sweep enforces limits within a quarter of the shortest.
milliseconds SweepInterval(const HttpServerOptions& options) {
  const milliseconds shortest = std::min({options.idle_timeout, options.header_timeout,
                                          options.body_timeout, options.write_timeout});
  return std::clamp(shortest / 4, milliseconds(1), kMostSweepInterval);
}

int IoThreads() { return std::thread::hardware_concurrency() >= 16 ? 2 : 1; }

class AsioHttpServer final : public HttpServer {
 public:
  AsioHttpServer(const HttpServerOptions& options, Handler handler) : handler_(std::move(handler)) {
    shared_.options = options;
    shared_.refusal = options.refusal != nullptr ? options.refusal : PlainRefusal;
    shared_.handle = [this](std::shared_ptr<HttpExchange> exchange) {
      if (exchange->request().body.size() <= kLargeBody) return Handle(exchange);
      asio::post(heavy_.io, [this, exchange = std::move(exchange)] { Handle(exchange); });
    };
    for (int i = 0; i < IoThreads(); ++i) {
      workers_.push_back(std::make_unique<Worker>(SweepInterval(options), options.on_lag));
    }
  }

  ~AsioHttpServer() override { Shutdown(milliseconds(0)); }

  absl::Status Listen() {
    const std::string& address = shared_.options.listen;
    const size_t colon = address.rfind(':');
    std::string host = address.substr(0, colon);
    if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
      host = host.substr(1, host.size() - 2);
    }
    error_code error;
    tcp::resolver resolver(workers_[0]->io);
    const auto found = resolver.resolve(host, address.substr(colon + 1),
                                        tcp::resolver::passive, error);
    if (error) return Unbound(error);
    error_code unusable;
    for (const auto& entry : found) {
      tcp::endpoint endpoint = entry.endpoint();
      if (endpoint.port() == 0) endpoint.port(static_cast<uint16_t>(port_));
      if (error = Bind(endpoint); !error) continue;
      // A family that this machine does not have.
      if (error != asio::error::address_family_not_supported &&
          error != error_code(EADDRNOTAVAIL, boost::system::system_category())) {
        return Unbound(error);
      }
      unusable = error;
    }
    if (listeners_.empty()) return Unbound(unusable);
    return absl::OkStatus();
  }

  void Run() {
    for (auto& listener : listeners_) Accept(*listener);
    for (auto& worker : workers_) worker->Start();
    heavy_.Start();
  }

  int port() const override { return port_; }
  void BeginDrain() override { shared_.draining = true; }

  void Shutdown(milliseconds limit) override {
    if (stopped_) return;
    stopped_ = true;
    shared_.draining = true;
    asio::post(workers_[0]->io, [this] {
      error_code ignored;
      for (auto& listener : listeners_) {
        listener->acceptor.close(ignored);
        listener->retry.cancel();
      }
    });
    FinishAll(false);
    if (!count_.WaitForNone(ConnectionCount::Clock::now() + limit)) {
      FinishAll(true);
      count_.WaitForNone(ConnectionCount::Clock::now() + kMostSweepInterval);
    }
    heavy_.Stop();
    for (auto& worker : workers_) worker->Stop();
  }

 private:
  absl::Status Unbound(const error_code& error) const {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", shared_.options.listen,
                                               " (--http_listen): ", error.message()));
  }

  error_code Bind(const tcp::endpoint& endpoint) {
    error_code error;
    auto listener = std::make_unique<Listener>(workers_[0]->io);
    tcp::acceptor& acceptor = listener->acceptor;
    acceptor.open(endpoint.protocol(), error);
    if (error) return error;
    acceptor.set_option(tcp::acceptor::reuse_address(true), error);
    if (endpoint.protocol() == tcp::v6()) {
      // "[::]" takes IPv4 too; a pair such as localhost's has one address of each family.
      acceptor.set_option(asio::ip::v6_only(!endpoint.address().is_unspecified()), error);
    }
    acceptor.bind(endpoint, error);
    if (error) return error;
    acceptor.listen(tcp::acceptor::max_listen_connections, error);
    if (error) return error;
    port_ = acceptor.local_endpoint(error).port();
    listeners_.push_back(std::move(listener));
    return error;
  }

  void Accept(Listener& listener) {
    Worker& worker = *workers_[next_worker_++ % workers_.size()];
    listener.acceptor.async_accept(
        worker.io, [this, &listener, &worker](const error_code& error, tcp::socket socket) {
          if (!listener.acceptor.is_open()) return;
          if (error) return AcceptLater(listener);
          Welcome(worker, std::move(socket));
          Accept(listener);
        });
  }

  // Out of descriptors or memory: the connection stays in the backlog until others close.
  void AcceptLater(Listener& listener) {
    listener.retry.expires_after(kRetryAccept);
    listener.retry.async_wait([this, &listener](const error_code& error) {
      if (!error && listener.acceptor.is_open()) Accept(listener);
    });
  }

  void Welcome(Worker& worker, tcp::socket socket) {
    error_code error;
    const tcp::endpoint peer = socket.remote_endpoint(error);
    if (error) return;
    const bool enters = count_.Enter(shared_.options.max_connections);
    if (!enters && !std::exchange(full_, true)) {
      Log(LogLevel::kWarning, "http_connections_full",
          {{"max_connections", int64_t{shared_.options.max_connections}}});
    }
    if (!enters) return;  // closes it, so that its client hears of it
    full_ = false;
    socket.set_option(tcp::no_delay(true), error);
    auto connection = std::make_shared<SocketConnection>(
        shared_, count_, worker, std::move(socket),
        absl::StrCat(peer.address().to_string(error), ":", peer.port()));
    asio::post(worker.io, [&worker, connection] { worker.Add(connection); });
  }

  void FinishAll(bool at_once) {
    for (auto& worker : workers_) {
      asio::post(worker->io, [&worker = *worker, at_once] { worker.FinishAll(at_once); });
    }
  }

  // Third-party code may throw, mostly for want of memory; nothing of ours does.
  void Handle(const std::shared_ptr<HttpExchange>& exchange) {
    try {
      handler_(exchange);
    } catch (const std::exception& error) {
      Log(LogLevel::kError, "http_handler", {{"message", absl::string_view(error.what())}});
      exchange->Respond(shared_.refusal(500, "the daemon failed to handle the request"));
    }
  }

  const Handler handler_;
  HttpShared shared_;
  ConnectionCount count_;
  std::vector<std::unique_ptr<Worker>> workers_;
  Worker heavy_{kMostSweepInterval, nullptr};  // no connections: handles large bodies
  std::vector<std::unique_ptr<Listener>> listeners_;  // on the first worker
  size_t next_worker_ = 0;  // the accepting thread's, as full_ is
  bool full_ = false;
  int port_ = 0;
  bool stopped_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const HttpServerOptions& options,
                                                              Handler handler) {
  auto server = std::make_unique<AsioHttpServer>(options, std::move(handler));
  if (absl::Status status = server->Listen(); !status.ok()) return status;
  server->Run();
  return server;
}

}  // namespace based
