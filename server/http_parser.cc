#include "server/http_parser.h"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace based {
namespace {

namespace http = boost::beast::http;

std::string ToString(boost::beast::string_view text) { return {text.data(), text.size()}; }

}  // namespace

struct HttpParser::Message {
  http::request_parser<http::string_body> parser;
};

HttpParser::HttpParser(const HttpLimits& limits) : limits_(limits) {}
HttpParser::~HttpParser() = default;

size_t HttpParser::Put(std::string_view data) {
  size_t used = 0;
  // Empty lines before a request line are allowed (RFC 9112, 2.2).
  while (state_ == State::kIdle && used < data.size() &&
         (data[used] == '\r' || data[used] == '\n')) {
    ++used;
  }
  if (used == data.size() || state_ == State::kDone || state_ == State::kFailed) return used;
  if (message_ == nullptr) {
    message_ = std::make_unique<Message>();
    message_->parser.header_limit(limits_.header_bytes);
    message_->parser.body_limit(limits_.body_bytes);
    message_->parser.eager(true);
    continue_told_ = false;
  }
  auto& parser = message_->parser;
  while (used < data.size() && !parser.is_done()) {
    boost::system::error_code error;
    const size_t taken =
        parser.put(boost::asio::buffer(data.data() + used, data.size() - used), error);
    used += taken;
    if (error == http::error::need_more) break;
    if (error == http::error::header_limit) {
      Fail(431, absl::StrCat("the header is longer than ", limits_.header_bytes, " bytes"));
      return used;
    }
    if (error == http::error::body_limit) {
      Fail(413, absl::StrCat("the body is longer than ", limits_.body_bytes, " bytes"));
      return used;
    }
    if (error) {
      Fail(400, absl::StrCat("not an HTTP request: ", error.message()));
      return used;
    }
    if (taken == 0) break;
  }
  state_ = parser.is_done()          ? State::kDone
           : parser.is_header_done() ? State::kBody
                                     : State::kHeader;
  return used;
}

size_t HttpParser::body_bytes() const {
  return message_ == nullptr ? 0 : message_->parser.get().body().size();
}

bool HttpParser::TakeExpectsContinue() {
  if (state_ != State::kBody || continue_told_) return false;
  continue_told_ = true;
  return boost::beast::iequals(message_->parser.get()[http::field::expect], "100-continue");
}

HttpRequest HttpParser::Take() {
  auto& message = message_->parser.get();
  HttpRequest request;
  request.method = ToString(message.method_string());
  const std::string target = ToString(message.target());
  request.path = target.substr(0, target.find('?'));
  for (const auto& field : message) {
    request.headers.push_back(
        {absl::AsciiStrToLower(ToString(field.name_string())), ToString(field.value())});
  }
  request.keep_alive = message.keep_alive();
  request.chunked = message.version() >= 11;
  request.body = std::move(message.body());
  message_ = nullptr;
  state_ = State::kIdle;
  return request;
}

void HttpParser::Fail(int status, std::string message) {
  message_ = nullptr;
  state_ = State::kFailed;
  failure_ = {.status = status, .message = std::move(message)};
}

}  // namespace based
