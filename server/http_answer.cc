#include "server/http_answer.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace based {

BodyLease& BodyLease::operator=(BodyLease&& other) noexcept {
  if (this == &other) return *this;
  Release();
  total_ = std::exchange(other.total_, nullptr);
  most_ = other.most_;
  bytes_ = std::exchange(other.bytes_, 0);
  return *this;
}

bool BodyLease::GrowTo(int64_t bytes) {
  if (bytes <= bytes_) return true;
  const int64_t more = bytes - bytes_;
  if (total_->fetch_add(more) + more > most_) {
    total_->fetch_sub(more);
    return false;
  }
  bytes_ = bytes;
  return true;
}

void BodyLease::Release() {
  if (total_ != nullptr) total_->fetch_sub(bytes_);
  bytes_ = 0;
}

HttpAnswer::HttpAnswer(HttpRequest request, BodyLease lease,
                       std::shared_ptr<HttpOutputListener> listener, bool keep_alive)
    : request_(std::move(request)),
      head_only_(request_.method == "HEAD"),
      listener_(std::move(listener)),
      lease_(std::move(lease)),
      keep_alive_(keep_alive) {}

std::string HttpAnswer::TakeBody() {
  MutexLock lock(mutex_);
  lease_.Release();
  return std::exchange(request_.body, std::string());
}

void HttpAnswer::Respond(HttpResponse response) {
  std::shared_ptr<HttpOutputListener> tell;
  {
    MutexLock lock(mutex_);
    if (begun_ || closed_) return;
    begun_ = ended_ = true;
    head_ = RenderHttpHead(response, HttpFraming::kContentLength, keep_alive_);
    waiting_ = head_only_ ? std::string() : std::move(response.body);
    tell = Schedule();
  }
  if (tell != nullptr) tell->OnOutput();
}

void HttpAnswer::Begin(HttpResponse head) {
  std::shared_ptr<HttpOutputListener> tell;
  {
    MutexLock lock(mutex_);
    if (begun_ || closed_) return;
    begun_ = true;
    framing_ = request_.chunked ? HttpFraming::kChunked : HttpFraming::kUntilClose;
    if (!request_.chunked) keep_alive_ = false;
    head_ = RenderHttpHead(head, framing_, keep_alive_);
    waiting_.insert(0, head.body);
    tell = Schedule();
  }
  if (tell != nullptr) tell->OnOutput();
}

size_t HttpAnswer::Write(std::string_view piece) {
  size_t size = 0;
  std::shared_ptr<HttpOutputListener> tell;
  {
    MutexLock lock(mutex_);
    if (ended_ || closed_) return 0;
    waiting_ += piece;
    size = waiting_.size() + in_flight_;
    if (begun_) tell = Schedule();
  }
  if (tell != nullptr) tell->OnOutput();
  return size;
}

void HttpAnswer::DropWaiting() {
  MutexLock lock(mutex_);
  waiting_.clear();
}

void HttpAnswer::End() {
  std::shared_ptr<HttpOutputListener> tell;
  {
    MutexLock lock(mutex_);
    if (ended_ || closed_) return;
    ended_ = true;
    tell = Schedule();
  }
  if (tell != nullptr) tell->OnOutput();
}

void HttpAnswer::OnClosed(std::function<void()> closed) {
  {
    MutexLock lock(mutex_);
    if (delivered_) return;
    if (!closed_) {
      on_closed_ = std::move(closed);
      return;
    }
  }
  closed();
}

bool HttpAnswer::TakeOutput(std::string& out) {
  MutexLock lock(mutex_);
  scheduled_ = false;
  in_flight_ = 0;
  if (!begun_) return false;
  out = std::exchange(head_, std::string());
  Frame(out);
  in_flight_ = out.size();
  return ended_;
}

void HttpAnswer::Frame(std::string& out) {
  if (framing_ != HttpFraming::kChunked) {
    out += waiting_;
  } else if (!waiting_.empty()) {
    absl::StrAppend(&out, absl::Hex(waiting_.size()), "\r\n", waiting_, "\r\n");
  }
  // A stream's next pieces are about as long: its memory is kept, a large answer's is not.
  constexpr size_t kKeptBytes = 4096;
  waiting_.clear();
  if (waiting_.capacity() > kKeptBytes) waiting_.shrink_to_fit();
  if (ended_ && framing_ == HttpFraming::kChunked) out += "0\r\n\r\n";
}

void HttpAnswer::Delivered() {
  std::function<void()> closed;
  std::shared_ptr<HttpOutputListener> listener;
  MutexLock lock(mutex_);
  delivered_ = true;
  in_flight_ = 0;
  closed.swap(on_closed_);
  listener.swap(listener_);
}

void HttpAnswer::Closed() {
  std::function<void()> closed;
  std::shared_ptr<HttpOutputListener> listener;
  {
    MutexLock lock(mutex_);
    closed_ = true;
    waiting_.clear();
    lease_.Release();
    closed.swap(on_closed_);
    listener.swap(listener_);
  }
  if (closed) closed();
}

bool HttpAnswer::keep_alive() const {
  MutexLock lock(mutex_);
  return keep_alive_;
}

std::shared_ptr<HttpOutputListener> HttpAnswer::Schedule() {
  if (scheduled_) return nullptr;
  scheduled_ = true;
  return listener_;
}

}  // namespace based
