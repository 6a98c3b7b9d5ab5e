// What a batch job's folder says of it: job.json beside input.jsonl, results.jsonl.partial while it
// runs (see batch_journal.h) and results.jsonl once it has ended.
#ifndef BASED_SERVER_BATCH_RECORD_H_
#define BASED_SERVER_BATCH_RECORD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace based {

enum class BatchState : uint8_t { kQueued, kRunning, kCompleted, kCancelled };

struct BatchRecord {
  std::string tenant;
  std::string id;
  BatchState state = BatchState::kQueued;  // kRunning is never written
  std::string model;                       // name and digest
  std::string model_digest;
  std::string input;  // BatchPlan::digest
  int64_t lines = 0;
  int64_t finished = 0;  // written when it has ended, as the rest
  int64_t failed = 0;
  int64_t generated_tokens = 0;
  int64_t created_ms = 0;  // since 1970
  int64_t ended_ms = 0;    // 0: it has not
  std::vector<std::string> ignored_fields;

  bool ended() const { return state == BatchState::kCompleted || state == BatchState::kCancelled; }
};

inline constexpr char kBatchInput[] = "/input.jsonl";
inline constexpr char kBatchResults[] = "/results.jsonl";
inline constexpr char kBatchPartial[] = "/results.jsonl.partial";

// The folder's name: readable, and of this tenant and id alone.
std::string BatchFolderName(const std::string& tenant, const std::string& id);

// INVALID_ARGUMENT with the file and the reason.
absl::StatusOr<BatchRecord> ReadBatchRecord(const std::string& folder);
// To the disk, all of it or nothing. RESOURCE_EXHAUSTED for a full one.
absl::Status WriteBatchRecord(const BatchRecord& record, const std::string& folder);

int64_t FileBytes(const std::string& path);  // 0 for one that is not there
void RemoveFolder(const std::string& folder);
int64_t MillisecondsNow();  // since 1970

}  // namespace based

#endif  // BASED_SERVER_BATCH_RECORD_H_
