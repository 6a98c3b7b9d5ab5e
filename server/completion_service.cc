#include "server/completion_service.h"

#include "server/generate_reactor.h"
#include "server/score_reactor.h"

namespace based {

grpc::ServerWriteReactor<v1::GenerateResponse>* CompletionService::Generate(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  // Deletes itself in OnDone.
  auto* reactor =
      new GenerateReactor(gate_, metrics_, watch_, connections_, context, max_queued_messages_);
  reactor->Start(*request);
  return reactor;
}

grpc::ServerUnaryReactor* CompletionService::Score(grpc::CallbackServerContext* context,
                                                   const v1::ScoreRequest* request,
                                                   v1::ScoreResponse* response) {
  auto* reactor = new ScoreReactor(gate_, metrics_, context, write_timeout_);
  reactor->Start(*request, response);
  return reactor;
}

}  // namespace based
