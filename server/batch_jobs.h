// The batch jobs of a daemon at work: one thread owns them all, takes what callers ask as tasks,
// and keeps the engine's slots filled with lines at batch priority.
//
// Of every tenant one job runs at a time, in the order of their making; tenants share what is in
// the engine equally, and the engine's fair queue weighs them. Lines in the engine are at most its
// slots and an eighth more, so that batch work fills no queue.
#ifndef BASED_SERVER_BATCH_JOBS_H_
#define BASED_SERVER_BATCH_JOBS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "kernels/base/mutex.h"
#include "server/batch_run.h"
#include "server/batch_store.h"
#include "server/call_places.h"

namespace based {

// For metrics.
struct BatchUse {
  int64_t queued = 0, running = 0, completed = 0, cancelled = 0;  // jobs
  int64_t waiting_lines = 0;                                      // of the jobs that run
  int64_t in_flight = 0;                                          // lines
  BatchCounts counts;
  int64_t bytes = 0, limit_bytes = 0;
};

class BatchJobs {
 public:
  // Reads the jobs of options.dir. The errors of BatchStore::Open.
  static absl::StatusOr<std::unique_ptr<BatchJobs>> Open(const BatchOptions& options);
  ~BatchJobs() { Shutdown(); }

  // Lines run from now on, on `engine`, which outlives this. Call once.
  void Start(Engine& engine, BatchModel model);
  // Nothing more is sent; lines in the engine are cancelled, and run again after the next start.
  void Stop();
  // After Stop, once the engine has ended its requests: what is known is on the disk.
  void Shutdown();

  BatchUse use() const;  // not older than about a second

  // Runs `task` on the owning thread; false, and never, outside of Start and Shutdown.
  bool Post(std::function<void()> task);

  // The rest is for tasks alone.

  // UNAVAILABLE: the daemon drains.
  absl::Status CheckServing() const;
  // Places for calls that send an input, and for those that read results.
  CallPlaces& senders() { return senders_; }
  CallPlaces& readers() { return readers_; }
  // The errors of BatchStore; INVALID_ARGUMENT for an unknown tenant.
  absl::StatusOr<std::unique_ptr<BatchUpload>> Begin(const std::string& tenant,
                                                     const std::string& id);
  absl::StatusOr<std::shared_ptr<BatchJob>> Finish(const std::string& tenant, const std::string& id,
                                                   std::unique_ptr<BatchUpload> upload);
  const BatchStore& store() const { return *store_; }
  // NOT_FOUND: the tenant has no such job.
  absl::StatusOr<std::shared_ptr<BatchJob>> Find(const std::string& tenant,
                                                 const std::string& id) const;
  absl::Status Cancel(BatchJob& job);
  // `done` is called once nothing of the job is left.
  void Delete(std::shared_ptr<BatchJob> job, std::function<void()> done);
  bool IsDeleted(const BatchJob& job) const;
  BatchState StateOf(const BatchJob& job) const;
  int64_t InFlight(const BatchJob& job) const;  // lines
  // `look` is called whenever results may have come, at least once a second, until it returns true.
  // Whoever looks has a place.
  void Follow(std::function<bool()> look);

 private:
  BatchJobs(std::unique_ptr<BatchStore> store, const BatchOptions& options);

  void Loop();
  std::vector<std::function<void()>> Take(Clock::time_point deadline);
  void Pump(Clock::time_point now);
  void Tick();
  void EndRuns();
  void Settle();
  void StartRuns();
  void LoadSome();
  void Block(BatchJob& job, const absl::Status& why);
  void Send(Clock::time_point now);
  void TellFollowers();
  BatchRun* RunOf(const BatchJob& job) const;
  // Forgets what hinders the job, or has begun with it.
  void Unblock(const BatchJob& job);
  void PublishUse();

  const BatchOptions options_;
  std::optional<BatchModel> model_;
  std::thread thread_;

  // Owned by the thread.
  std::unique_ptr<BatchStore> store_;
  std::unique_ptr<BatchRun::Host> host_;
  int32_t most_in_flight_ = 1;                      // sequences
  std::vector<std::shared_ptr<BatchJob>> loading_;  // the next to run, one per tenant at most
  std::vector<std::shared_ptr<BatchRun>> runs_;     // likewise
  std::vector<const BatchJob*> blocked_;            // cannot be loaded as things are
  std::vector<std::shared_ptr<BatchJob>> unsettled_;
  std::vector<std::pair<std::shared_ptr<BatchJob>, std::function<void()>>> deleting_;
  std::vector<std::function<bool()>> followers_;
  CallPlaces senders_;
  CallPlaces readers_;
  bool look_for_work_ = true;
  bool stopping_ = false;

  mutable Mutex mutex_;
  CondVar changed_;
  std::vector<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  BatchUse use_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace based

#endif  // BASED_SERVER_BATCH_JOBS_H_
