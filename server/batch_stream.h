// One StreamResults call: the next results are written when the last have gone, or have come.
// Deletes itself in OnDone.
#ifndef BASED_SERVER_BATCH_STREAM_H_
#define BASED_SERVER_BATCH_STREAM_H_

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "based/v1/batch.grpc.pb.h"
#include "server/batch_jobs.h"
#include "server/metrics.h"

namespace based {

class BatchStreamReactor final : public grpc::ServerWriteReactor<v1::StreamResultsResponse> {
 public:
  // `entered`: why the call is refused. `jobs` outlives the call and is null only with an error. A
  // message that its reader has not taken within `write_timeout` ends the call, within about a
  // second.
  BatchStreamReactor(BatchJobs* jobs, Metrics& metrics, std::chrono::milliseconds write_timeout,
                     const absl::Status& entered, grpc::CallbackServerContext* context,
                     std::string tenant, const v1::StreamResultsRequest& request);

 private:
  void OnWriteDone(bool ok) override;
  void OnDone() override;

  // On the jobs' thread.
  void Begin();
  absl::Status CheckGoesOn() const;
  // Writes the next results, or ends the call: true. False: nothing is there yet.
  bool Look();
  void LookOrFollow();
  // Cancels a call whose reader takes nothing.
  void WatchSilence();
  void End(const absl::Status& status);

  BatchJobs* const jobs_;
  Metrics& metrics_;
  const std::chrono::milliseconds write_timeout_;
  grpc::CallbackServerContext* const context_;
  const std::string tenant_;
  const std::string id_;
  const bool follow_;
  v1::StreamResultsResponse message_;
  // Of the jobs' thread.
  std::shared_ptr<void> place_;
  std::shared_ptr<BatchJob> job_;
  BatchCursor cursor_;
  std::optional<Clock::time_point> writing_;  // since when a message has been with gRPC
  std::chrono::nanoseconds longest_write_{0};
  const std::shared_ptr<bool> ended_ = std::make_shared<bool>(false);
};

}  // namespace based

#endif  // BASED_SERVER_BATCH_STREAM_H_
