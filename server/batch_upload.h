// The input of a job on its way to the disk, checked line by line as it comes. What is not finished
// leaves nothing behind. Not thread-safe: belongs to the thread of BatchJobs.
#ifndef BASED_SERVER_BATCH_UPLOAD_H_
#define BASED_SERVER_BATCH_UPLOAD_H_

#include <cstdint>
#include <memory>
#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/batch_plan.h"
#include "kernels/base/file.h"
#include "server/batch_job.h"

namespace based {

struct BatchInputLimits {
  int64_t lines = 0;
  int64_t bytes = 0;
};

class BatchUpload {
 public:
  // Into the new folder `folder`; `model` outlives the upload.
  static absl::StatusOr<std::unique_ptr<BatchUpload>> Begin(const std::string& folder,
                                                            const BatchModel& model,
                                                            BatchInputLimits limits);
  ~BatchUpload();

  // RESOURCE_EXHAUSTED above a limit or when the disk is full, INVALID_ARGUMENT for a line that is
  // too long.
  absl::Status Add(absl::string_view piece);

  // The plan of all that came, which is on the disk. The errors of BatchPlanBuilder, and
  // INVALID_ARGUMENT when there is no line.
  absl::StatusOr<BatchPlan> Finish();

  // RESOURCE_EXHAUSTED when the input is longer than `limit`.
  absl::Status CheckBytes(int64_t limit) const { return CheckBytes(bytes_, limit); }
  const std::string& folder() const { return folder_; }
  const std::set<std::string>& ignored() const { return ignored_; }
  // The folder is somebody else's now.
  void Release() { folder_.clear(); }

 private:
  BatchUpload(std::string folder, const BatchModel& model, BatchInputLimits limits);
  static absl::Status CheckBytes(int64_t bytes, int64_t limit);
  absl::Status CheckLine(absl::string_view line) const;
  absl::Status AddLine(absl::string_view line);

  std::string folder_;
  std::string path_;
  const BatchInputLimits limits_;
  FileDescriptor file_;
  std::set<std::string> ignored_;
  BatchPlanBuilder builder_;
  std::string rest_;    // the beginning of a line
  int64_t bytes_ = 0;   // written
  int64_t offset_ = 0;  // of the next line
};

}  // namespace based

#endif  // BASED_SERVER_BATCH_UPLOAD_H_
