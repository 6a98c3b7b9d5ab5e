// One Score call on gRPC's side. Deletes itself in OnDone.
#ifndef BASED_SERVER_SCORE_REACTOR_H_
#define BASED_SERVER_SCORE_REACTOR_H_

#include <memory>

#include "based/v1/completion.grpc.pb.h"
#include "server/call_context.h"
#include "server/gate.h"
#include "server/metrics.h"
#include "server/score_call.h"

namespace based {

class ScoreReactor final : public grpc::ServerUnaryReactor {
 public:
  // All references must outlive the call.
  ScoreReactor(const Gate& gate, Metrics& metrics, grpc::CallbackServerContext* context)
      : gate_(gate), metrics_(metrics), context_(context), deadline_(DeadlineOf(*context)) {}

  // Scores the pairs, or finishes the call with what is wrong with them. Call once, before gRPC is
  // given the reactor.
  void Start(const v1::ScoreRequest& message, v1::ScoreResponse* response);

 private:
  void OnCancel() override;
  void OnDone() override { delete this; }

  const Gate& gate_;
  Metrics& metrics_;
  grpc::CallbackServerContext* const context_;
  const Clock::time_point deadline_;
  std::shared_ptr<ScoreCall> call_;  // null when the message was refused; set by Start
};

}  // namespace based

#endif  // BASED_SERVER_SCORE_REACTOR_H_
