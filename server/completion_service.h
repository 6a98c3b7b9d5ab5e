// based.v1.CompletionService over the engine.
#ifndef BASED_SERVER_COMPLETION_SERVICE_H_
#define BASED_SERVER_COMPLETION_SERVICE_H_

#include <chrono>

#include "based/v1/completion.grpc.pb.h"
#include "server/connection_table.h"
#include "server/gate.h"
#include "server/metrics.h"
#include "server/stream_watch.h"

namespace based {

class CompletionService final : public v1::CompletionService::CallbackService {
 public:
  // All references must outlive the service.
  CompletionService(const Gate& gate, Metrics& metrics, StreamWatch& watch,
                    const ConnectionTable& connections, size_t max_queued_messages,
                    std::chrono::milliseconds write_timeout)
      : gate_(gate),
        metrics_(metrics),
        watch_(watch),
        connections_(connections),
        max_queued_messages_(max_queued_messages),
        write_timeout_(write_timeout) {}

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* Score(grpc::CallbackServerContext* context,
                                  const v1::ScoreRequest* request,
                                  v1::ScoreResponse* response) override;

 private:
  const Gate& gate_;
  Metrics& metrics_;
  StreamWatch& watch_;
  const ConnectionTable& connections_;
  const size_t max_queued_messages_;
  const std::chrono::milliseconds write_timeout_;
};

}  // namespace based

#endif  // BASED_SERVER_COMPLETION_SERVICE_H_
