// An exchange without a connection: keeps what a handler answers. Thread-safe, as HttpExchange is.
#ifndef BASED_TESTS_SERVER_FAKE_EXCHANGE_H_
#define BASED_TESTS_SERVER_FAKE_EXCHANGE_H_

#include <string>
#include <vector>

#include "kernels/base/mutex.h"
#include "nlohmann/json.hpp"
#include "server/http_server.h"

namespace based {

class FakeExchange final : public HttpExchange {
 public:
  explicit FakeExchange(HttpRequest request = {}) : request_(std::move(request)) {}

  const HttpRequest& request() const override { return request_; }
  std::string TakeBody() override { return std::exchange(request_.body, std::string()); }
  void Respond(HttpResponse response) override;
  void Begin(HttpResponse head) override;
  size_t Write(std::string_view piece) override;
  void DropWaiting() override;
  void End() override;
  void OnClosed(std::function<void()> closed) override;

  // The client goes away.
  void Close();
  // Waits, ten seconds at most, for the end of the answer; false if it does not come.
  bool WaitForEnd();

  bool ended() const;
  HttpResponse response() const;  // its body: all that was not dropped
  std::string Header(const std::string& name) const;

 private:
  HttpRequest request_;
  mutable Mutex mutex_;
  mutable CondVar changed_;
  HttpResponse response_ ABSL_GUARDED_BY(mutex_);
  std::string waiting_ ABSL_GUARDED_BY(mutex_);
  bool begun_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::function<void()> on_closed_ ABSL_GUARDED_BY(mutex_);
};

// The events of a stream that ended well, less [DONE]; fails the test where it is none.
std::vector<nlohmann::json> EventsOf(const std::string& body);

}  // namespace based

#endif  // BASED_TESTS_SERVER_FAKE_EXCHANGE_H_
