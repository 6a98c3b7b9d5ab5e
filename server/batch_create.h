// One CreateBatch call: takes the pieces of an input on the jobs' thread, one at a time, so that a
// sender is never ahead of the disk. Deletes itself in OnDone.
#ifndef BASED_SERVER_BATCH_CREATE_H_
#define BASED_SERVER_BATCH_CREATE_H_

#include <memory>
#include <string>

#include "based/v1/batch.grpc.pb.h"
#include "server/access.h"
#include "server/batch_jobs.h"

namespace based {

// The job as the wire has it; on the jobs' thread.
void ToProto(const BatchJobs& jobs, const BatchJob& job, v1::Batch& message);

class BatchCreateReactor final : public grpc::ServerReadReactor<v1::CreateBatchRequest> {
 public:
  // `caller` or why the call is refused; `jobs` outlives the call and is null only with an error.
  BatchCreateReactor(BatchJobs* jobs, absl::StatusOr<Caller> caller,
                     grpc::CallbackServerContext* context, v1::Batch* response);

 private:
  void OnReadDone(bool ok) override;
  void OnDone() override { delete this; }

  // On the jobs' thread.
  void OnPiece(bool ok);
  absl::Status Begin();
  absl::Status Take(bool& created);
  void End(const absl::Status& status);
  // Cancels a call whose sender has fallen silent.
  void WatchSilence();

  BatchJobs* const jobs_;
  const absl::StatusOr<Caller> caller_;
  grpc::CallbackServerContext* const context_;
  v1::Batch* const response_;
  v1::CreateBatchRequest message_;
  // Of the jobs' thread.
  std::string tenant_, id_;
  std::shared_ptr<void> place_;
  std::unique_ptr<BatchUpload> upload_;
  Clock::time_point heard_;
  const std::shared_ptr<bool> ended_ = std::make_shared<bool>(false);
};

}  // namespace based

#endif  // BASED_SERVER_BATCH_CREATE_H_
