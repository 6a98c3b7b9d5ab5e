// An HTTP/1.1 server of our own small interface over Boost.Asio, for handlers that answer at once,
// later, or in pieces. Handlers see neither sockets nor the library.
//
// Limits, so that no peer can hold more than its share: connections, header and body bytes, bytes
// of all bodies together, time for a header, a body and an idle connection, and time in which a
// reader must take something of its answer.
#ifndef BASED_SERVER_HTTP_SERVER_H_
#define BASED_SERVER_HTTP_SERVER_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/http_message.h"
#include "server/http_parser.h"

namespace based {

struct HttpServerOptions {
  std::string listen = "127.0.0.1:7480";  // HOST:PORT; port 0 takes a free one
  int32_t max_connections = 4096;         // more are accepted and closed at once
  HttpLimits limits;
  int64_t max_body_bytes_together = int64_t{256} << 20;  // of requests that are being read
  std::chrono::milliseconds idle_timeout{75'000};    // between requests
  std::chrono::milliseconds header_timeout{10'000};  // from a request's first byte
  std::chrono::milliseconds body_timeout{60'000};    // from the end of its header
  std::chrono::milliseconds write_timeout{30'000};   // without any progress
  // Answers for what is not even a request (400, 408, 413, 431), and 500; null: plain text.
  std::function<HttpResponse(int status, std::string_view message)> refusal;
  // Hears, while there are connections, how late a timer of an I/O thread ran; null: nobody.
  std::function<void(std::chrono::nanoseconds lag)> on_lag;
};

// One request and its answer: Respond, or Begin, Write... and End. Thread-safe; nothing blocks.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;

  virtual const HttpRequest& request() const = 0;
  // Takes the body out of the request, so that it need not live as long as the answer takes.
  virtual std::string TakeBody() = 0;

  // The whole answer. Drops what was written and not begun.
  virtual void Respond(HttpResponse response) = 0;

  // The head of an answer in pieces; `head.body` is its first piece. Pieces written before go out
  // now, so that what comes early can wait for the decision that all is well.
  virtual void Begin(HttpResponse head) = 0;
  // Appends to the answer; what waits goes out together. Returns the bytes that now wait for the
  // reader.
  virtual size_t Write(std::string_view piece) = 0;
  // Forgets pieces that wait for the reader; whole writes, so the answer goes on after them.
  virtual void DropWaiting() = 0;
  virtual void End() = 0;

  // `closed` is called, from any thread, when the client goes away (or is cut) before it has the
  // whole answer; at once if it has. Call at most once.
  virtual void OnClosed(std::function<void()> closed) = 0;
};

class HttpServer {
 public:
  // Called on an I/O thread; for large bodies on a thread of their own, so that reading them holds
  // up no stream. Must begin an answer sooner or later, and may throw only what is third-party's.
  using Handler = std::function<void(std::shared_ptr<HttpExchange>)>;

  // Starts to listen. UNAVAILABLE when the address does not resolve or cannot be bound.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const HttpServerOptions& options,
                                                           Handler handler);
  virtual ~HttpServer() = default;

  virtual int port() const = 0;

  // Answers from now on tell their clients to come back on another connection.
  virtual void BeginDrain() = 0;

  // Takes no more connections or requests; answers that have not left after `limit` are cut.
  // Returns when all connections are closed.
  virtual void Shutdown(std::chrono::milliseconds limit) = 0;
};

}  // namespace based

#endif  // BASED_SERVER_HTTP_SERVER_H_
