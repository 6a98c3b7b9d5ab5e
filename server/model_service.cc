#include "server/model_service.h"

#include "server/convert.h"
#include "server/status.h"

namespace based {

grpc::ServerUnaryReactor* ModelService::GetModel(grpc::CallbackServerContext* context,
                                                 const v1::GetModelRequest* request,
                                                 v1::GetModelResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const Model& model = engine_.model();
  const absl::Status named = CheckModelName(request->model(), model.name);
  if (named.ok()) *response = ModelToProto(model);
  reactor->Finish(FailCall(context, named, FailedAt::kAdmission));
  return reactor;
}

grpc::ServerUnaryReactor* ModelService::GetCapacity(grpc::CallbackServerContext* context,
                                                    const v1::GetCapacityRequest* request,
                                                    v1::GetCapacityResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::Status named = CheckModelName(request->model(), engine_.model().name);
  if (named.ok()) *response = CapacityToProto(engine_.capacity());
  reactor->Finish(FailCall(context, named, FailedAt::kAdmission));
  return reactor;
}

}  // namespace based
