// based.v1.ModelService: what is served, and how much of it fits.
#ifndef BASED_SERVER_MODEL_SERVICE_H_
#define BASED_SERVER_MODEL_SERVICE_H_

#include "based/v1/model.grpc.pb.h"
#include "server/gate.h"

namespace based {

class ModelService final : public v1::ModelService::CallbackService {
 public:
  // `gate` must outlive the service.
  explicit ModelService(const Gate& gate) : gate_(gate) {}

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
};

}  // namespace based

#endif  // BASED_SERVER_MODEL_SERVICE_H_
