// Bytes of a connection turned into HTTP/1.x requests (Boost.Beast's parser; only this file's
// source includes Beast). Not thread-safe.
#ifndef BASED_SERVER_HTTP_PARSER_H_
#define BASED_SERVER_HTTP_PARSER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "server/http_message.h"

namespace based {

struct HttpLimits {
  uint32_t header_bytes = 16 << 10;  // request line and headers
  uint64_t body_bytes = 16 << 20;
};

class HttpParser {
 public:
  enum class State {
    kIdle,    // nothing of a request has come
    kHeader,  // part of the header
    kBody,    // the header, and part of the body
    kDone,    // a request: Take it
    kFailed,  // no request will come of this connection: answer failure() and close
  };

  struct Failure {
    int status = 400;  // 400, 413 (body) or 431 (header)
    std::string message;
  };

  explicit HttpParser(const HttpLimits& limits);
  ~HttpParser();

  // Reads on from `data` up to the end of one request at most, and returns the bytes used. The rest
  // must be given again, with what follows it.
  size_t Put(std::string_view data);

  State state() const { return state_; }
  const Failure& failure() const { return failure_; }
  // Bytes held of the body so far.
  size_t body_bytes() const;
  // True once per request: its client waits for "100 Continue" before it sends the body.
  bool TakeExpectsContinue();

  // The request, when kDone; the parser is then kIdle. `peer` stays empty.
  HttpRequest Take();

 private:
  struct Message;

  void Fail(int status, std::string message);

  const HttpLimits limits_;
  std::unique_ptr<Message> message_;
  State state_ = State::kIdle;
  Failure failure_;
  bool continue_told_ = false;
};

}  // namespace based

#endif  // BASED_SERVER_HTTP_PARSER_H_
