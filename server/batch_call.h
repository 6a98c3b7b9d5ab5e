// One line of a batch job in the engine: an OpenAI call without a connection.
#ifndef BASED_SERVER_BATCH_CALL_H_
#define BASED_SERVER_BATCH_CALL_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "engine/engine.h"
#include "kernels/base/mutex.h"
#include "server/batch_line.h"
#include "server/http_server.h"

namespace based {

// How it ended.
struct BatchCallEnd {
  absl::Status status;     // RefusalOf knows of it where the engine refused the line
  std::string completion;  // OpenAI's object as JSON; only where status is OK
  int64_t generated_tokens = 0;
};

// Thread-safe. Lives as long as the engine or its maker knows of it.
class BatchCall final : public HttpExchange, public std::enable_shared_from_this<BatchCall> {
 public:
  using Ended = std::function<void(BatchCallEnd)>;

  // `ended` is called once, from any thread and maybe before Start returns; it must not block.
  // `engine` must outlive the call.
  static std::shared_ptr<BatchCall> Start(Engine& engine, BatchAsk line, const std::string& tenant,
                                          const std::string& request_id, Ended ended);

  // It ends with CANCELLED, unless it has ended.
  void Cancel();

  // HttpExchange: an answer comes whole.
  const HttpRequest& request() const override { return request_; }
  std::string TakeBody() override { return ""; }
  void Respond(HttpResponse response) override;
  void Begin(HttpResponse head) override;
  size_t Write(std::string_view piece) override;
  void DropWaiting() override {}
  void End() override;
  void OnClosed(std::function<void()> closed) override;

 private:
  class Observer;

  explicit BatchCall(Ended ended) : ended_(std::move(ended)) {}
  void Finish(BatchCallEnd end);

  const HttpRequest request_;
  const Ended ended_;
  Mutex mutex_;
  std::function<void()> closed_ ABSL_GUARDED_BY(mutex_);
  std::string body_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace based

#endif  // BASED_SERVER_BATCH_CALL_H_
