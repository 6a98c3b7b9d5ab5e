// One batch job: its folder on disk, and the plan and checkpoint while it has lines to run. Not
// thread-safe: jobs belong to the thread of BatchJobs.
#ifndef BASED_SERVER_BATCH_JOB_H_
#define BASED_SERVER_BATCH_JOB_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/batch_journal.h"
#include "engine/batch_plan.h"
#include "server/batch_line.h"
#include "server/batch_record.h"

namespace based {

// The served model, as jobs must know it.
struct BatchModel {
  OpenAiModel openai;
  std::string digest;
};

// How far a reader of a job's results is.
struct BatchCursor {
  int64_t next = 0;    // results before it are left out
  int64_t passed = 0;  // results before `offset` in the merged file
  int64_t offset = 0;
};

class BatchJob {
 public:
  // Of a folder that holds the record.
  BatchJob(std::string folder, BatchRecord record);

  const BatchRecord& record() const { return record_; }
  const std::string& folder() const { return folder_; }
  int64_t bytes() const;  // on disk
  int64_t finished() const;
  int64_t failed() const;
  int64_t generated_tokens() const { return record_.generated_tokens; }

  // Why it does not get on; empty: it does.
  const std::string& message() const { return message_; }
  void set_message(std::string message) { message_ = std::move(message); }

  // Reads a piece of the input, at the end the checkpoint: true once lines can run. `model` lives
  // as long as the job. After an error it begins anew.
  //   FAILED_PRECONDITION  it was begun with another model
  //   RESOURCE_EXHAUSTED   the disk is full
  //   others               its files are damaged
  absl::StatusOr<bool> Load(const BatchModel& model);
  bool loaded() const { return journal_ != nullptr; }

  // REQUIRES, for these: loaded().
  const BatchPlan& plan() const { return *plan_; }
  bool Has(size_t entry) const { return journal_->Has(entry); }
  bool complete() const { return journal_->finished() == record_.lines; }
  // Keeps a result; the errors of BatchJournal::Append.
  absl::Status Keep(size_t entry, bool failed, const std::string& json, int64_t generated_tokens);
  absl::Status Sync() { return journal_->Sync(); }

  // It has ended as `state`, for good: the record is on disk when this returns OK.
  absl::Status End(BatchState state);
  // Merges the results of a job that has ended and frees what it needed to run; OK when that is
  // done already. RESOURCE_EXHAUSTED for a full disk: nothing is lost, try again.
  absl::Status Settle();
  bool settled() const { return settled_; }

  // The next results in order, whole lines of about `most_bytes` together; empty when there are
  // none yet, or no more. May stop early on the way to the cursor: `skipping` says so.
  absl::StatusOr<std::string> Results(BatchCursor& cursor, int64_t most_bytes, bool& skipping);

 private:
  absl::StatusOr<bool> ReadPlan(const BatchModel& model);
  absl::Status OpenJournal();
  absl::StatusOr<std::string> PartialResults(BatchCursor& cursor, int64_t most_bytes);
  absl::StatusOr<std::string> MergedResults(BatchCursor& cursor, int64_t most_bytes,
                                            bool& skipping);

  const std::string folder_;
  BatchRecord record_;
  std::string message_;
  std::unique_ptr<BatchPlanReader> loading_;
  std::optional<BatchPlan> plan_;
  std::unique_ptr<BatchJournal> journal_;
  bool settled_ = false;
  int64_t input_bytes_;
  int64_t output_bytes_;
};

}  // namespace based

#endif  // BASED_SERVER_BATCH_JOB_H_
