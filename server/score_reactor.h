// One Score call on gRPC's side. Deletes itself in OnDone.
#ifndef BASED_SERVER_SCORE_REACTOR_H_
#define BASED_SERVER_SCORE_REACTOR_H_

#include <chrono>
#include <memory>
#include <string>

#include "based/v1/completion.grpc.pb.h"
#include "server/answer_limit.h"
#include "server/call_context.h"
#include "server/gate.h"
#include "server/metrics.h"
#include "server/score_call.h"
#include "server/status.h"
#include "server/trace_context.h"

namespace based {

class ScoreReactor final : public grpc::ServerUnaryReactor {
 public:
  // All references must outlive the call.
  ScoreReactor(const Gate& gate, Metrics& metrics, grpc::CallbackServerContext* context,
               std::chrono::milliseconds write_timeout)
      : gate_(gate),
        metrics_(metrics),
        context_(context),
        request_id_(RequestIdOf(*context)),
        deadline_(DeadlineOf(*context)),
        trace_(ParseTraceparent(MetadataOf(*context, "traceparent"))),
        write_timeout_(write_timeout) {}

  // Scores the pairs, or finishes the call with what is wrong with them. Call once, before gRPC is
  // given the reactor.
  void Start(const v1::ScoreRequest& message, v1::ScoreResponse* response);

 private:
  void OnCancel() override;
  void OnDone() override;
  void Reject(const absl::Status& status);
  // Logs the call and finishes it.
  void End(const absl::Status& status, FailedAt failed_at);

  const Gate& gate_;
  Metrics& metrics_;
  grpc::CallbackServerContext* const context_;
  const std::string request_id_;
  const Clock::time_point arrival_ = Clock::now();
  const Clock::time_point deadline_;
  const TraceContext trace_;
  const std::chrono::milliseconds write_timeout_;
  const v1::ScoreResponse* response_ = nullptr;  // set by Start
  std::shared_ptr<AnswerLimit> limit_;           // null until the answer, or if that is small
  std::string tenant_;
  int64_t pairs_ = 0;
  std::shared_ptr<ScoreCall> call_;  // null when the message was refused; set by Start
};

}  // namespace based

#endif  // BASED_SERVER_SCORE_REACTOR_H_
