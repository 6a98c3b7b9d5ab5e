#include "server/http_connection.h"

#include <utility>

#include "server/log.h"

namespace based {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::milliseconds kLingerTime{2000};
constexpr size_t kLingerBytes = 32 << 20;
constexpr char kContinue[] = "HTTP/1.1 100 Continue\r\n\r\n";

}  // namespace

HttpConnection::HttpConnection(HttpShared& shared, std::string peer)
    : shared_(shared), peer_(std::move(peer)), parser_(shared.options.limits) {}

void HttpConnection::Open() {
  SetDeadline(shared_.options.idle_timeout);
  Read();
}

void HttpConnection::Finish(bool at_once) {
  finishing_ = true;
  if (at_once || current_ == nullptr) Lost();
}

void HttpConnection::Sweep(TimePoint now) {
  if (closed_) return;
  if (writing_ && now - write_progress_ > shared_.options.write_timeout) {
    Log(LogLevel::kWarning, "write_timeout", {{"peer", absl::string_view(peer_)}});
    return Lost();
  }
  if (now < deadline_) return;
  deadline_ = TimePoint::max();
  if (lingering_ || parser_.state() == HttpParser::State::kIdle) return Lost();
  Refuse(408, "the request did not come in time");
}

void HttpConnection::Pump() {
  if (closed_ || writing_) return;
  if (out_.empty() && current_ != nullptr && !out_ends_) {
    out_ends_ = current_->TakeOutput(out_);
  }
  if (!out_.empty()) {
    writing_ = true;
    out_written_ = 0;
    write_progress_ = steady_clock::now();
    StartWrite(out_.data(), out_.size());
  } else if (out_ends_) {
    AnswerDone();
  }
}

void HttpConnection::OnRead(bool ok, size_t bytes) {
  reading_ = false;
  if (closed_) return;
  if (!ok || bytes == 0) return Lost();
  if (lingering_) {
    lingered_ += bytes;
    if (lingered_ > kLingerBytes) return Lost();
    return Read();
  }
  input_.append(read_buffer_.data(), bytes);
  Advance();
  Read();
}

void HttpConnection::OnWritten(bool ok, size_t bytes) {
  if (closed_) return;
  if (!ok) return Lost();
  out_written_ += bytes;
  write_progress_ = steady_clock::now();
  if (out_written_ < out_.size()) {
    return StartWrite(out_.data() + out_written_, out_.size() - out_written_);
  }
  writing_ = false;
  out_.clear();
  if (out_ends_) return AnswerDone();
  Pump();
}

void HttpConnection::Read() {
  if (reading_ || closed_ || (current_ != nullptr && input_.size() >= kMaxBacklog)) return;
  reading_ = true;
  StartRead(read_buffer_.data(), read_buffer_.size());
}

// Parses what was read, up to the end of one request.
void HttpConnection::Advance() {
  if (current_ != nullptr || lingering_ || input_.empty()) return;
  const HttpParser::State before = parser_.state();
  if (before == HttpParser::State::kIdle) {
    lease_ = BodyLease(&shared_.body_bytes, shared_.options.max_body_bytes_together);
  }
  input_.erase(0, parser_.Put(input_));
  if (parser_.state() == HttpParser::State::kFailed) {
    return Refuse(parser_.failure().status, parser_.failure().message);
  }
  if (!lease_.GrowTo(static_cast<int64_t>(parser_.body_bytes()))) {
    return Refuse(503, "too many large requests are being read; try again later");
  }
  if (parser_.state() == HttpParser::State::kDone) return Dispatch();
  UpdatePhase(before);
  if (parser_.TakeExpectsContinue()) {
    out_ += kContinue;
    Pump();
  }
}

void HttpConnection::UpdatePhase(HttpParser::State before) {
  const HttpParser::State after = parser_.state();
  if (after == before) return;
  SetDeadline(after == HttpParser::State::kHeader ? shared_.options.header_timeout
                                                  : shared_.options.body_timeout);
}

void HttpConnection::Dispatch() {
  deadline_ = TimePoint::max();
  HttpRequest request = parser_.Take();
  request.peer = peer_;
  const bool keep_alive = request.keep_alive && !finishing_ && !shared_.draining;
  current_ = std::make_shared<HttpAnswer>(std::move(request), std::move(lease_),
                                          shared_from_this(), keep_alive);
  shared_.handle(current_);
}

void HttpConnection::Refuse(int status, std::string_view message) {
  deadline_ = TimePoint::max();
  lease_.Release();
  const std::string code = std::to_string(status);
  Log(LogLevel::kInfo, "http_refused",
      {{"peer", absl::string_view(peer_)},
       {"status", absl::string_view(code)},
       {"message", absl::string_view(message.data(), message.size())}});
  current_ = std::make_shared<HttpAnswer>(HttpRequest(), BodyLease(), shared_from_this(), false);
  current_->Respond(shared_.refusal(status, message));
}

void HttpConnection::AnswerDone() {
  out_ends_ = false;
  const std::shared_ptr<HttpAnswer> done = std::move(current_);
  current_ = nullptr;
  done->Delivered();
  if (finishing_ || !done->keep_alive()) return Linger();
  SetDeadline(shared_.options.idle_timeout);
  Advance();
  Read();
}

void HttpConnection::Linger() {
  lingering_ = true;
  input_.clear();
  SetDeadline(kLingerTime);
  ShutdownSend();
  Read();
}

void HttpConnection::Lost() {
  if (closed_) return;
  closed_ = true;
  const std::shared_ptr<HttpAnswer> lost = std::move(current_);
  current_ = nullptr;
  CloseSocket();
  if (lost != nullptr) lost->Closed();
}

void HttpConnection::SetDeadline(std::chrono::milliseconds from_now) {
  deadline_ = steady_clock::now() + from_now;
}

}  // namespace based
