// Batch jobs at a daemon, for `based jobs`: calls that wait for a daemon that is gone for a while.
#ifndef BASED_CLIENT_JOBS_REMOTE_H_
#define BASED_CLIENT_JOBS_REMOTE_H_

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "based/v1/batch.grpc.pb.h"

namespace based {

struct JobsOptions {
  std::string tenant;
  std::chrono::seconds daemon_wait{300};  // for a daemon that is gone, or drains, or is full
};

// Errors are those of the daemon; UNAVAILABLE, and RESOURCE_EXHAUSTED where it says when to try
// again, only after options.daemon_wait.
class JobsAtDaemon {
 public:
  explicit JobsAtDaemon(JobsOptions options);

  // Sends the file `input` as the job `id`, which must be new. NOT_FOUND for a missing file.
  absl::StatusOr<v1::Batch> Submit(const std::string& input, const std::string& id);
  absl::StatusOr<v1::Batch> Get(const std::string& id);
  absl::Status List(const std::function<void(const v1::Batch&)>& show);
  absl::StatusOr<v1::Batch> Cancel(const std::string& id);
  absl::Status Delete(const std::string& id);
  // Writes the results that there are to the new file `output`, all of them or nothing. Returns
  // their number.
  absl::StatusOr<int64_t> Fetch(const std::string& id, const std::string& output);

 private:
  using Stub = v1::BatchService::Stub;

  // `ours`: why this side has given the call up.
  absl::Status Retry(const std::function<grpc::Status(grpc::ClientContext&)>& call,
                     const absl::Status& ours = absl::OkStatus());
  grpc::Status Send(grpc::ClientContext& context, int fd, const std::string& id, v1::Batch& batch,
                    absl::Status& read);

  const JobsOptions options_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<Stub> stub_;
};

}  // namespace based

#endif  // BASED_CLIENT_JOBS_REMOTE_H_
