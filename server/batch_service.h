// based.v1.BatchService over the daemon's batch jobs.
#ifndef BASED_SERVER_BATCH_SERVICE_H_
#define BASED_SERVER_BATCH_SERVICE_H_

#include <atomic>
#include <chrono>
#include <functional>
#include <string>

#include "based/v1/batch.grpc.pb.h"
#include "server/batch_jobs.h"
#include "server/gate.h"
#include "server/metrics.h"

namespace based {

class BatchService final : public v1::BatchService::CallbackService {
 public:
  // `gate` and `metrics` must outlive the service. A reader of results that takes nothing for
  // `write_timeout` is cut, and others as answer_limit.h has it.
  BatchService(const Gate& gate, Metrics& metrics, std::chrono::milliseconds write_timeout)
      : gate_(gate), metrics_(metrics), write_timeout_(write_timeout) {}

  // The jobs, which outlive the calls. Before the gate is opened, or not at all: none are kept.
  void Serve(BatchJobs& jobs) { jobs_.store(&jobs, std::memory_order_release); }

  grpc::ServerReadReactor<v1::CreateBatchRequest>* CreateBatch(grpc::CallbackServerContext* context,
                                                               v1::Batch* response) override;
  grpc::ServerUnaryReactor* GetBatch(grpc::CallbackServerContext* context,
                                     const v1::GetBatchRequest* request,
                                     v1::Batch* response) override;
  grpc::ServerUnaryReactor* ListBatches(grpc::CallbackServerContext* context,
                                        const v1::ListBatchesRequest* request,
                                        v1::ListBatchesResponse* response) override;
  grpc::ServerUnaryReactor* CancelBatch(grpc::CallbackServerContext* context,
                                        const v1::CancelBatchRequest* request,
                                        v1::Batch* response) override;
  grpc::ServerUnaryReactor* DeleteBatch(grpc::CallbackServerContext* context,
                                        const v1::DeleteBatchRequest* request,
                                        v1::DeleteBatchResponse* response) override;
  grpc::ServerWriteReactor<v1::StreamResultsResponse>* StreamResults(
      grpc::CallbackServerContext* context, const v1::StreamResultsRequest* request) override;

 private:
  // Who calls; errors of the gate, FAILED_PRECONDITION without jobs.
  absl::StatusOr<Caller> Enter(const grpc::CallbackServerContext& context) const;
  // The same, with the caller's tenant in `tenant`.
  absl::Status Enter(const grpc::CallbackServerContext& context, std::string& tenant) const;
  // Lets `call` fill in `response` on the jobs' thread, unless `entered` is an error.
  grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context,
                                   const google::protobuf::Message& response,
                                   const absl::Status& entered,
                                   std::function<absl::Status(BatchJobs&)> call);

  const Gate& gate_;
  Metrics& metrics_;
  const std::chrono::milliseconds write_timeout_;
  std::atomic<BatchJobs*> jobs_{nullptr};
};

}  // namespace based

#endif  // BASED_SERVER_BATCH_SERVICE_H_
