// The batch jobs of a daemon on disk, and the limits of what it keeps. Not thread-safe: belongs to
// the thread of BatchJobs.
//
//   DIR/lock             held by the daemon whose DIR it is
//   DIR/jobs/<name>/     a folder for each job; see batch_record.h
//   DIR/moving/<number>  what is being made or removed; emptied at the start
#ifndef BASED_SERVER_BATCH_STORE_H_
#define BASED_SERVER_BATCH_STORE_H_

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/base/file.h"
#include "server/batch_job.h"
#include "server/batch_upload.h"

namespace based {

struct BatchOptions {
  std::string dir;  // empty: no batch jobs
  int32_t jobs_per_tenant = 1000;
  int64_t lines = 1'000'000;                 // of a job
  int64_t input_bytes = int64_t{1} << 30;    // of a job
  int64_t tenant_disk = 0;                   // for a tenant's jobs; 0: as `disk`
  int64_t disk = int64_t{16} << 30;          // for all jobs
  std::chrono::seconds keep{7 * 24 * 3600};  // after a job's end; 0: until it is deleted
};

class BatchStore {
 public:
  // Makes the folder if need be, and reads the jobs in it. FAILED_PRECONDITION when another process
  // has it. A job whose record cannot be read is left alone and logged.
  static absl::StatusOr<std::unique_ptr<BatchStore>> Open(const BatchOptions& options);

  // NOT_FOUND: the tenant has no such job.
  absl::StatusOr<std::shared_ptr<BatchJob>> Find(const std::string& tenant,
                                                 const std::string& id) const;
  // The tenant's jobs by id, from the first after `after`.
  std::vector<std::shared_ptr<BatchJob>> List(const std::string& tenant, const std::string& after,
                                              size_t most) const;
  // All of them, by tenant and the time that they were made.
  std::vector<std::shared_ptr<BatchJob>> All() const;

  // ALREADY_EXISTS, or RESOURCE_EXHAUSTED at a limit.
  absl::StatusOr<std::unique_ptr<BatchUpload>> Begin(const std::string& tenant,
                                                     const std::string& id,
                                                     const BatchModel& model);
  // The job of an input that is complete; on disk when this returns OK.
  absl::StatusOr<std::shared_ptr<BatchJob>> Finish(const std::string& tenant, const std::string& id,
                                                   BatchUpload& upload, const BatchModel& model);
  // REQUIRES: none of its lines is in the engine.
  void Remove(BatchJob& job);
  // Removes the jobs that ended long ago.
  void Expire();

  int64_t bytes() const;  // of all jobs
  // RESOURCE_EXHAUSTED while the jobs of all, or of this tenant, take all that they may.
  absl::Status Room(const std::string& tenant) const;

 private:
  using Key = std::pair<std::string, std::string>;  // tenant, id

  explicit BatchStore(const BatchOptions& options) : options_(options) {}
  absl::Status ReadAll();
  absl::Status CheckMayAdd(const std::string& tenant, const std::string& id) const;
  int64_t BytesOf(const std::string& tenant) const;
  int64_t TenantLimit() const;
  // Bytes that an input of this tenant may have; at most 0 without room.
  int64_t RoomForInput(const std::string& tenant) const;
  std::string NewMovingPath();

  const BatchOptions options_;
  FileDescriptor lock_;
  std::map<Key, std::shared_ptr<BatchJob>> jobs_;
  int64_t moved_ = 0;
};

}  // namespace based

#endif  // BASED_SERVER_BATCH_STORE_H_
