#include "server/model_service.h"

#include "kernels/base/status.h"
#include "server/answer_limit.h"
#include "server/convert.h"
#include "server/status.h"

namespace based {

absl::StatusOr<const Engine*> ModelService::Find(const grpc::CallbackServerContext& context,
                                                 const std::string& name) const {
  BASED_ASSIGN_OR_RETURN(const Gate::Entry entry, gate_.Enter(context, std::nullopt));
  BASED_RETURN_IF_ERROR(CheckModelName(name, entry.engine.model().name));
  return &entry.engine;
}

grpc::ServerUnaryReactor* ModelService::GetModel(grpc::CallbackServerContext* context,
                                                 const v1::GetModelRequest* request,
                                                 v1::GetModelResponse* response) {
  const absl::StatusOr<const Engine*> engine = Find(*context, request->model());
  if (engine.ok()) *response = ModelToProto((*engine)->model());
  return UnaryAnswer::Ended(context, write_timeout_, *response,
                            FailCall(context, engine.status(), FailedAt::kAdmission));
}

grpc::ServerUnaryReactor* ModelService::GetCapacity(grpc::CallbackServerContext* context,
                                                    const v1::GetCapacityRequest* request,
                                                    v1::GetCapacityResponse* response) {
  const absl::StatusOr<const Engine*> engine = Find(*context, request->model());
  if (engine.ok()) *response = CapacityToProto((*engine)->capacity());
  return UnaryAnswer::Ended(context, write_timeout_, *response,
                            FailCall(context, engine.status(), FailedAt::kAdmission));
}

}  // namespace based
