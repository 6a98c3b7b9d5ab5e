// based.v1.ModelService: what is served, and how much of it fits.
#ifndef BASED_SERVER_MODEL_SERVICE_H_
#define BASED_SERVER_MODEL_SERVICE_H_

#include <chrono>

#include "based/v1/model.grpc.pb.h"
#include "server/gate.h"

namespace based {

class ModelService final : public v1::ModelService::CallbackService {
 public:
  // `gate` must outlive the service. `write_timeout`: see answer_limit.h.
  ModelService(const Gate& gate, std::chrono::milliseconds write_timeout)
      : gate_(gate), write_timeout_(write_timeout) {}

  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const v1::GetModelRequest* request,
                                     v1::GetModelResponse* response) override;
  grpc::ServerUnaryReactor* GetCapacity(grpc::CallbackServerContext* context,
                                        const v1::GetCapacityRequest* request,
                                        v1::GetCapacityResponse* response) override;

 private:
  // The engine whose model `name` is.
  absl::StatusOr<const Engine*> Find(const grpc::CallbackServerContext& context,
                                     const std::string& name) const;

  const Gate& gate_;
  const std::chrono::milliseconds write_timeout_;
};

}  // namespace based

#endif  // BASED_SERVER_MODEL_SERVICE_H_
