// The lines of one job on their way through the engine. Not thread-safe: belongs to the thread of
// BatchJobs.
#ifndef BASED_SERVER_BATCH_RUN_H_
#define BASED_SERVER_BATCH_RUN_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "engine/batch_result.h"
#include "engine/engine.h"
#include "server/batch_call.h"
#include "server/batch_job.h"

namespace based {

// What has come of all runs.
struct BatchCounts {
  int64_t succeeded = 0;
  int64_t failed = 0;
  int64_t write_errors = 0;
};

// Whether `engine` takes requests of this tenant.
bool KnowsTenant(const Engine& engine, const std::string& tenant);

class BatchRun : public std::enable_shared_from_this<BatchRun> {
 public:
  // What all runs share; outlives them.
  struct Host {
    Engine& engine;
    const BatchModel& model;
    std::function<void(std::function<void()>)> post;  // to the owning thread, from any
    BatchCounts counts;
  };

  // REQUIRES: job->loaded().
  BatchRun(std::shared_ptr<BatchJob> job, Host& host);

  BatchJob& job() { return *job_; }
  int32_t in_flight() const { return in_flight_; }  // sequences
  int64_t calls() const { return static_cast<int64_t>(calls_.size()); }
  int64_t waiting() const { return static_cast<int64_t>(waiting_.size()); }

  // Sequences of the line that Send would send; 0: none for now.
  int32_t Next(Clock::time_point now) const;
  void Send();

  // Nothing is sent while this is an error, which the job's message tells.
  void set_room(absl::Status room) { room_ = std::move(room); }

  // Nothing more is sent; what is in the engine is cancelled. Once calls() is 0 the run is over.
  void Stop();
  bool stopped() const { return stopped_; }
  // Every line has its result on disk.
  bool complete() const { return calls_.empty() && unwritten_.empty() && job_->complete(); }

  // Now and then: writes what could not be written, and what is written to the disk itself.
  void Tick();

 private:
  struct Result {
    size_t entry;
    bool failed;
    std::string json;
    int64_t generated_tokens;
  };

  void OnEnded(size_t entry, const std::string& request_id, BatchCallEnd end);
  // True when the line is to be tried again, and not before gate_.
  bool TryAgain(size_t entry, const absl::Status& status);
  void Keep(Result result);
  bool Write(const Result& result);

  const std::shared_ptr<BatchJob> job_;
  Host& host_;
  std::deque<size_t> waiting_;  // entries in the order to send them
  std::unordered_map<size_t, std::shared_ptr<BatchCall>> calls_;
  std::unordered_map<size_t, BatchResultHead> heads_;  // of calls_
  std::unordered_map<size_t, int32_t> attempts_;       // of entries that have failed
  std::deque<Result> unwritten_;                       // while the disk is full
  int32_t in_flight_ = 0;
  Clock::time_point gate_;  // nothing is sent before
  absl::Status room_;
  bool stopped_ = false;
};

}  // namespace based

#endif  // BASED_SERVER_BATCH_RUN_H_
