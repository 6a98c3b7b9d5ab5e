#include "client/http_client.h"

#include <boost/asio/connect.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/optional/optional.hpp>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

namespace based {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;

constexpr size_t kReadBytes = 8 << 10;

class Link;

// What all connections share. Of the client's thread, but for the context.
struct Pool {
  asio::io_context context{1};
  std::string place;  // for messages
  std::vector<tcp::endpoint> endpoints;
  std::vector<std::shared_ptr<Link>> idle;  // the last used last
  absl::flat_hash_set<std::shared_ptr<Link>> busy;
};

// One connection, and the request that has it.
class Link final : public std::enable_shared_from_this<Link> {
 public:
  explicit Link(Pool& pool) : pool_(pool), socket_(pool.context), timer_(pool.context) {}

  // REQUIRES: it has no request.
  void Start(std::string request, std::chrono::nanoseconds timeout, HttpListener* listener) {
    request_ = std::move(request);
    listener_ = listener;
    ++number_;
    listener_->OnSent();
    timer_.expires_after(timeout);
    timer_.async_wait([self = shared_from_this(), number = number_](const error_code& error) {
      if (error || number != self->number_) return;
      self->Finish(absl::DeadlineExceededError("no end of the answer within the timeout"));
    });
    socket_.is_open() ? Ask() : Connect();
  }

  void Cancel() { Finish(absl::CancelledError("the load was ended")); }

 private:
  void Connect() {
    fresh_ = true;
    const uint64_t step = ++step_;
    asio::async_connect(
        socket_, pool_.endpoints,
        [self = shared_from_this(), step](const error_code& error, const tcp::endpoint&) {
          if (step != self->step_) return;
          if (error) return self->Break(error);
          error_code ignored;
          self->socket_.set_option(tcp::no_delay(true), ignored);
          self->Ask();
        });
  }

  // An answer may come before the whole request has gone, so both run at once. What breaks the
  // writing ends the reading too.
  void Ask() {
    parser_.emplace();
    parser_->eager(true);
    parser_->body_limit(boost::none);
    buffer_.clear();
    written_ = told_head_ = heard_ = false;
    const uint64_t step = ++step_;
    asio::async_write(socket_, asio::buffer(request_),
                      [self = shared_from_this(), step](const error_code& error, size_t) {
                        if (step == self->step_) self->written_ = !error;
                      });
    Read();
  }

  void Read() {
    socket_.async_read_some(
        buffer_.prepare(kReadBytes),
        [self = shared_from_this(), step = step_](const error_code& error, size_t bytes) {
          if (step == self->step_) self->OnRead(error, bytes);
        });
  }

  void OnRead(const error_code& error, size_t bytes) {
    if (error == asio::error::eof && heard_) {
      error_code unfinished;
      parser_->put_eof(unfinished);
      return unfinished ? Break(error) : Finish(absl::OkStatus());
    }
    if (error) return Break(error);
    heard_ = true;
    buffer_.commit(bytes);
    while (buffer_.size() > 0 && !parser_->is_done()) {
      error_code wrong;
      const size_t used = parser_->put(buffer_.data(), wrong);
      buffer_.consume(used);
      if (wrong && wrong != http::error::need_more) return Break(wrong);
      Tell();
      if (used == 0 || wrong) break;
    }
    parser_->is_done() ? Finish(absl::OkStatus()) : Read();
  }

  void Tell() {
    if (!told_head_ && parser_->is_header_done()) {
      told_head_ = true;
      listener_->OnHead(static_cast<int>(parser_->get().result_int()));
    }
    std::string& body = parser_->get().body();
    if (body.empty()) return;
    listener_->OnBody(body);
    body.clear();
  }

  // The server may have closed a kept connection just as it was taken.
  void Break(const error_code& error) {
    if (!fresh_ && !heard_) {
      Close();
      return Connect();
    }
    Finish(absl::UnavailableError(absl::StrCat(heard_ ? "the answer of " : "no answer of ",
                                               pool_.place, heard_ ? " broke off: " : ": ",
                                               error.message())));
  }

  void Close() {
    error_code ignored;
    socket_.close(ignored);
  }

  void Finish(const absl::Status& status) {
    const std::shared_ptr<Link> self = shared_from_this();
    ++number_;
    ++step_;
    timer_.cancel();
    pool_.busy.erase(self);
    if (status.ok() && written_ && parser_->keep_alive() && buffer_.size() == 0) {
      fresh_ = false;
      pool_.idle.push_back(self);
    } else {
      Close();
    }
    std::exchange(listener_, nullptr)->OnEnd(status);
  }

  Pool& pool_;
  tcp::socket socket_;
  asio::steady_timer timer_;
  boost::beast::flat_buffer buffer_;
  std::optional<http::response_parser<http::string_body>> parser_;
  std::string request_;
  HttpListener* listener_ = nullptr;  // of the request; null: none
  // What was begun for an earlier request, or connection, must not act on a later one.
  uint64_t number_ = 0, step_ = 0;
  bool fresh_ = true;       // the connection was made for this request
  bool written_ = false;    // all of the request
  bool heard_ = false;      // any of the answer
  bool told_head_ = false;  // to the listener
};

class Client final : public HttpClient {
 public:
  absl::Status Resolve(const HttpTarget& target) {
    pool_.place = target.authority;
    error_code error;
    tcp::resolver resolver(pool_.context);
    for (const auto& found : resolver.resolve(target.host, target.port, error)) {
      pool_.endpoints.push_back(found.endpoint());
    }
    if (!error && !pool_.endpoints.empty()) return absl::OkStatus();
    return absl::UnavailableError(
        absl::StrCat("no address of '", target.host, "': ", error.message()));
  }

  void Run() {
    thread_ = std::thread([this] { pool_.context.run(); });
  }

  ~Client() override {
    pool_.context.stop();
    if (thread_.joinable()) thread_.join();
  }

  void Send(std::string request, std::chrono::nanoseconds timeout,
            HttpListener* listener) override {
    asio::post(pool_.context, [this, request = std::move(request), timeout, listener]() mutable {
      std::shared_ptr<Link> link;
      if (pool_.idle.empty()) {
        link = std::make_shared<Link>(pool_);
      } else {
        link = std::move(pool_.idle.back());
        pool_.idle.pop_back();
      }
      pool_.busy.insert(link);
      link->Start(std::move(request), timeout, listener);
    });
  }

  void CancelAll() override {
    asio::post(pool_.context, [this] {
      const auto busy = pool_.busy;
      for (const auto& link : busy) link->Cancel();
    });
  }

 private:
  Pool pool_;
  asio::executor_work_guard<asio::io_context::executor_type> work_{pool_.context.get_executor()};
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpClient>> HttpClient::Open(const HttpTarget& target) {
  auto client = std::make_unique<Client>();
  if (absl::Status status = client->Resolve(target); !status.ok()) return status;
  client->Run();
  return client;
}

}  // namespace based
