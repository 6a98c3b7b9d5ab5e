// The exchange between a handler, on any thread, and the connection that writes its answer, on an
// I/O thread: bytes wait here until the connection takes them, all that wait at a time.
#ifndef BASED_SERVER_HTTP_ANSWER_H_
#define BASED_SERVER_HTTP_ANSWER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "kernels/base/mutex.h"
#include "server/http_server.h"

namespace based {

// A connection's claim on the memory for bodies that are being read; gives it back when it goes.
class BodyLease {
 public:
  BodyLease() = default;
  BodyLease(std::atomic<int64_t>* total, int64_t most) : total_(total), most_(most) {}
  BodyLease(BodyLease&& other) noexcept { *this = std::move(other); }
  BodyLease& operator=(BodyLease&& other) noexcept;
  ~BodyLease() { Release(); }

  // Claims `bytes` in all; false, and nothing changes, when all leases would hold more than `most`.
  bool GrowTo(int64_t bytes);
  void Release();

 private:
  std::atomic<int64_t>* total_ = nullptr;
  int64_t most_ = 0;
  int64_t bytes_ = 0;
};

// Told, from any thread, that an answer has bytes to take.
class HttpOutputListener {
 public:
  virtual ~HttpOutputListener() = default;
  virtual void OnOutput() = 0;
};

class HttpAnswer final : public HttpExchange {
 public:
  HttpAnswer(HttpRequest request, BodyLease lease, std::shared_ptr<HttpOutputListener> listener,
             bool keep_alive);

  // HttpExchange.
  const HttpRequest& request() const override { return request_; }
  std::string TakeBody() override;
  void Respond(HttpResponse response) override;
  void Begin(HttpResponse head) override;
  size_t Write(std::string_view piece) override;
  void DropWaiting() override;
  void End() override;
  void OnClosed(std::function<void()> closed) override;

  // For the connection, on its thread. Moves what waits into `out`, framed; true when that is the
  // end. What was taken before has been written by then.
  bool TakeOutput(std::string& out);
  // All was written; or the client is gone, and what comes is dropped. One of the two, once.
  void Delivered();
  void Closed();
  bool keep_alive() const;

 private:
  void Frame(std::string& out) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The listener, if it must be told; null if it knows already or is no more.
  std::shared_ptr<HttpOutputListener> Schedule() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Constant after construction, but for the body, which TakeBody takes.
  HttpRequest request_;
  const bool head_only_;  // HEAD: the answer without its body

  mutable Mutex mutex_;
  std::shared_ptr<HttpOutputListener> listener_ ABSL_GUARDED_BY(mutex_);  // null at the end
  BodyLease lease_ ABSL_GUARDED_BY(mutex_);
  bool keep_alive_ ABSL_GUARDED_BY(mutex_);
  HttpFraming framing_ ABSL_GUARDED_BY(mutex_) = HttpFraming::kContentLength;
  std::string head_ ABSL_GUARDED_BY(mutex_);     // begun and not taken
  std::string waiting_ ABSL_GUARDED_BY(mutex_);  // body, not taken
  size_t in_flight_ ABSL_GUARDED_BY(mutex_) = 0;
  bool begun_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool scheduled_ ABSL_GUARDED_BY(mutex_) = false;  // the listener knows that something waits
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool delivered_ ABSL_GUARDED_BY(mutex_) = false;
  std::function<void()> on_closed_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace based

#endif  // BASED_SERVER_HTTP_ANSWER_H_
