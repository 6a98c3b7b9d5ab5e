// One Generate call on gRPC's side. Submits the request, passes cancellation on, and writes the
// access log when the call is over. Deletes itself in OnDone.
#ifndef BASED_SERVER_GENERATE_REACTOR_H_
#define BASED_SERVER_GENERATE_REACTOR_H_

#include <atomic>
#include <memory>
#include <string>

#include "based/v1/completion.grpc.pb.h"
#include "engine/engine.h"
#include "server/connection_table.h"
#include "server/gate.h"
#include "server/generate_stream.h"
#include "server/metrics.h"
#include "server/stream_watch.h"
#include "server/trace_context.h"

namespace based {

class GenerateReactor final : public grpc::ServerWriteReactor<v1::GenerateResponse> {
 public:
  // All references must outlive the call.
  GenerateReactor(const Gate& gate, Metrics& metrics, StreamWatch& watch,
                  const ConnectionTable& connections, grpc::CallbackServerContext* context,
                  size_t max_queued_messages);

  // Submits the request, or finishes the call with what is wrong with it. Call once, before gRPC is
  // given the reactor: until then nothing calls back into it.
  void Start(const v1::GenerateRequest& message);

 private:
  void OnWriteDone(bool ok) override { stream_->OnWriteDone(ok); }
  void OnCancel() override;
  void OnDone() override;

  void Reject(const absl::Status& status, bool tell_metrics);
  void LogAccess() const;

  const Gate& gate_;
  Metrics& metrics_;
  StreamWatch& watch_;
  const std::string peer_;  // gRPC does not know it any more when a call has been cut
  const std::shared_ptr<Connection> connection_;  // null: not one that was accepted
  grpc::CallbackServerContext* const context_;
  const size_t max_queued_messages_;
  const std::string request_id_;
  const Clock::time_point arrival_ = Clock::now();
  const Clock::time_point deadline_;
  const TraceContext trace_;
  // Set by Start, before gRPC can call OnCancel or OnDone.
  Engine* engine_ = nullptr;  // null when the call did not pass the gate
  std::string tenant_;
  std::shared_ptr<GenerateStream> stream_;  // null when the request was refused
  RequestId id_ = 0;
  absl::Status rejection_;
};

}  // namespace based

#endif  // BASED_SERVER_GENERATE_REACTOR_H_
