// The life of one HTTP connection: reads requests, one at a time, hands them to the handler and
// writes the answers, with a time limit for every phase. Knows no sockets: whoever owns one derives
// from it. All of it runs on the connection's I/O thread, but for OnOutput.
//
// It reads on while a request is answered, up to kMaxBacklog bytes: so it hears of a client that
// leaves, and pipelined requests wait for their turn. A client that shuts down its sending side
// counts as gone.
#ifndef BASED_SERVER_HTTP_CONNECTION_H_
#define BASED_SERVER_HTTP_CONNECTION_H_

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "server/http_answer.h"
#include "server/http_parser.h"
#include "server/http_server.h"

namespace based {

// What the connections of a server have in common.
struct HttpShared {
  HttpServerOptions options;
  std::function<void(std::shared_ptr<HttpExchange>)> handle;  // on whatever thread it sees fit
  // Answers for what is not even a request.
  std::function<HttpResponse(int status, std::string_view message)> refusal;
  std::atomic<int64_t> body_bytes{0};  // of bodies that are being read
  std::atomic<bool> draining{false};
};

class HttpConnection : public HttpOutputListener,
                       public std::enable_shared_from_this<HttpConnection> {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  static constexpr size_t kMaxBacklog = 64 << 10;

  // `shared` must outlive the connection.
  HttpConnection(HttpShared& shared, std::string peer);

  // Begins to read.
  void Open();
  // Ends: at once, or after the answer under way.
  void Finish(bool at_once);
  // Enforces the time limits; to be called a few times per limit.
  void Sweep(TimePoint now);
  // Writes what the answer has.
  void Pump();

 protected:
  // What the socket does; each operation calls back once, never from inside. No callbacks after
  // CloseSocket matter.
  virtual void StartRead(char* data, size_t size) = 0;         // then OnRead
  virtual void StartWrite(const char* data, size_t size) = 0;  // then OnWritten; may write less
  virtual void ShutdownSend() = 0;
  virtual void CloseSocket() = 0;

  void OnRead(bool ok, size_t bytes);
  void OnWritten(bool ok, size_t bytes);
  bool closed() const { return closed_; }

 private:
  static constexpr size_t kReadBytes = 16 << 10;

  void Read();
  void Advance();
  void UpdatePhase(HttpParser::State before);
  void Dispatch();
  void Refuse(int status, std::string_view message);
  void AnswerDone();
  void Linger();
  void Lost();
  void SetDeadline(std::chrono::milliseconds from_now);

  HttpShared& shared_;
  const std::string peer_;

  HttpParser parser_;
  BodyLease lease_;
  std::array<char, kReadBytes> read_buffer_;
  std::string input_;  // read and not parsed
  bool reading_ = false;

  std::shared_ptr<HttpAnswer> current_;
  std::string out_;
  size_t out_written_ = 0;
  bool out_ends_ = false;  // out_ is the last of current_
  bool writing_ = false;
  TimePoint write_progress_;

  bool finishing_ = false;
  bool lingering_ = false;  // reads and drops, so that the client sees the answer before a reset
  size_t lingered_ = 0;
  bool closed_ = false;
  TimePoint deadline_ = TimePoint::max();  // of the phase that reads
};

}  // namespace based

#endif  // BASED_SERVER_HTTP_CONNECTION_H_
