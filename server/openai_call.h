// One completions or chat call: its prompts are requests to the engine, and what comes of them goes
// into one reply. Thread-safe. Lives as long as the engine or the exchange knows of it.
#ifndef BASED_SERVER_OPENAI_CALL_H_
#define BASED_SERVER_OPENAI_CALL_H_

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/engine.h"
#include "engine/openai_names.h"
#include "engine/openai_request.h"
#include "kernels/base/mutex.h"
#include "server/call_timer.h"
#include "server/http_server.h"
#include "server/openai_reply.h"

namespace based {

// What is known of a call when it ends.
struct OpenAiCallSummary {
  absl::Status status;  // in OpenAI's names; CANCELLED: the client left before the end
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;
  Timings timings;
  std::chrono::nanoseconds total{0};
};

// Whoever counts and logs calls. Lives as long as the call.
class OpenAiCallObserver {
 public:
  virtual ~OpenAiCallObserver() = default;
  // Once, when the reply has been told how the call ended; must not call back.
  virtual void OnEnd(const OpenAiCallSummary& summary) = 0;
};

// What every reply to `request`, served by `model`, says; headers and bounds are the caller's.
OpenAiReplyOptions ReplyOptionsOf(const OpenAiRequest& request, const Model& model,
                                  absl::string_view request_id);

class OpenAiCall : public std::enable_shared_from_this<OpenAiCall> {
 public:
  // `engine` must outlive the call.
  OpenAiCall(Engine& engine, std::shared_ptr<HttpExchange> exchange, OpenAiNames names,
             std::unique_ptr<OpenAiReply> reply, std::unique_ptr<OpenAiCallObserver> observer);

  // Submits the requests, which have their ids, tenants and deadlines; the reply tells the rest.
  // Call once.
  void Start(std::vector<Request> requests);

 private:
  class PromptSink;

  // From the sinks.
  void OnStarted(int32_t prompt, const Started& started);
  bool OnDelta(int32_t prompt, const Delta& delta);
  void OnChoiceFinished(int32_t prompt, const Finished& finished);
  void OnFinished(int32_t prompt, const Finished& finished);

  void OnClientGone();
  // Ends the call with `status`, in OpenAI's names, the first that is not OK; the others are
  // ignored.
  void Fail(const absl::Status& status);
  void BeginIfReady() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TellObserver() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Engine& engine_;
  const std::shared_ptr<HttpExchange> exchange_;
  const OpenAiNames names_;
  const std::unique_ptr<OpenAiCallObserver> observer_;
  const Clock::time_point arrival_ = Clock::now();

  mutable Mutex mutex_;
  const std::unique_ptr<OpenAiReply> reply_ ABSL_PT_GUARDED_BY(mutex_);
  std::vector<RequestId> ids_ ABSL_GUARDED_BY(mutex_);  // submitted
  size_t open_ ABSL_GUARDED_BY(mutex_) = 0;             // prompts that have not ended
  bool submitted_ ABSL_GUARDED_BY(mutex_) = false;      // all of them
  bool started_ ABSL_GUARDED_BY(mutex_) = false;        // one of them
  bool begun_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  OpenAiUsage usage_ ABSL_GUARDED_BY(mutex_);      // of what has ended
  int64_t delivered_ ABSL_GUARDED_BY(mutex_) = 0;  // tokens of the Deltas
  CallTimer timer_ ABSL_GUARDED_BY(mutex_){arrival_};
  Timings timings_ ABSL_GUARDED_BY(mutex_);  // of the last to end, or up to the call's failure
};

}  // namespace based

#endif  // BASED_SERVER_OPENAI_CALL_H_
