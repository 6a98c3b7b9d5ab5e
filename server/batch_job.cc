#include "server/batch_job.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/file.h"
#include "kernels/base/status.h"

namespace based {
namespace {

// The input as messages call it, whatever folder it lies in.
constexpr char kInputName[] = "input";
// Results that are passed over at a time, on the way to where a reader goes on.
constexpr int64_t kSkipBytes = 16 << 20;
// Of the input, read at a time: some milliseconds of parsing.
constexpr int64_t kLoadBytes = 256 << 10;

}  // namespace

BatchJob::BatchJob(std::string folder, BatchRecord record)
    : folder_(std::move(folder)),
      record_(std::move(record)),
      input_bytes_(FileBytes(folder_ + kBatchInput)),
      output_bytes_(FileBytes(folder_ + kBatchResults)) {}

int64_t BatchJob::bytes() const {
  const int64_t partial = journal_ != nullptr ? journal_->bytes() : 0;
  return input_bytes_ + output_bytes_ + partial;
}

int64_t BatchJob::finished() const {
  return journal_ != nullptr ? journal_->finished() : record_.finished;
}

int64_t BatchJob::failed() const {
  return journal_ != nullptr ? journal_->failed() : record_.failed;
}

absl::StatusOr<bool> BatchJob::Load(const BatchModel& model) {
  BASED_CHECK(!loaded() && !settled_);
  absl::StatusOr<bool> read = ReadPlan(model);
  if (read.ok() && !*read) return false;
  loading_.reset();
  BASED_RETURN_IF_ERROR(read.status());
  BASED_RETURN_IF_ERROR(OpenJournal());
  return true;
}

absl::StatusOr<bool> BatchJob::ReadPlan(const BatchModel& model) {
  if (model.digest != record_.model_digest) {
    return absl::FailedPreconditionError(
        absl::StrCat("it was made for the model ", record_.model, " (", record_.model_digest,
                     "), and the daemon serves ", model.openai.name, " (", model.digest, ")"));
  }
  if (loading_ == nullptr) {
    const auto reader = [&model, ignored = std::set<std::string>()](
                            absl::string_view text, const std::string& place) mutable {
      return FactsOfBatchJobLine(text, place, model.openai, ignored);
    };
    BASED_ASSIGN_OR_RETURN(loading_, BatchPlanReader::Open(folder_ + kBatchInput, reader));
  }
  BASED_ASSIGN_OR_RETURN(const bool whole, loading_->ReadSome(kLoadBytes));
  if (!whole) return false;
  BASED_ASSIGN_OR_RETURN(plan_, loading_->Finish({}));
  if (plan_->digest() == record_.input) return true;
  return absl::DataLossError("its input is not what it was when the job was made");
}

absl::Status BatchJob::OpenJournal() {
  BASED_ASSIGN_OR_RETURN(journal_,
                         BatchJournal::Open(folder_ + kBatchResults, {.input = record_.input,
                                                                      .model = record_.model_digest,
                                                                      .lines = record_.lines}));
  return absl::OkStatus();
}

absl::Status BatchJob::Keep(size_t entry, bool failed, const std::string& json,
                            int64_t generated_tokens) {
  BASED_RETURN_IF_ERROR(journal_->Append(entry, failed, json));
  record_.generated_tokens += generated_tokens;
  return absl::OkStatus();
}

absl::Status BatchJob::End(BatchState state) {
  BatchRecord ended = record_;
  ended.state = state;
  ended.finished = finished();
  ended.failed = failed();
  ended.ended_ms = MillisecondsNow();
  // First what the record will count: a machine that falls must not keep the count alone.
  if (journal_ != nullptr) BASED_RETURN_IF_ERROR(journal_->Sync());
  BASED_RETURN_IF_ERROR(WriteBatchRecord(ended, folder_));
  record_ = std::move(ended);
  return absl::OkStatus();
}

absl::Status BatchJob::Settle() {
  BASED_CHECK(record_.ended());
  if (settled_) return absl::OkStatus();
  const std::string output = folder_ + kBatchResults;
  if (FileExists(output)) {
    // Merged before the process ended: the file came by a rename, so it is whole.
    ::unlink((folder_ + kBatchPartial).c_str());
  } else {
    if (journal_ == nullptr) BASED_RETURN_IF_ERROR(OpenJournal());
    // A cancelled job may have got results after it was said to be.
    const bool late = journal_->finished() != record_.finished;
    record_.finished = journal_->finished();
    record_.failed = journal_->failed();
    if (late) BASED_RETURN_IF_ERROR(WriteBatchRecord(record_, folder_));
    BASED_RETURN_IF_ERROR(journal_->Finish());
  }
  journal_.reset();
  plan_.reset();
  loading_.reset();
  output_bytes_ = FileBytes(output);
  settled_ = true;
  return absl::OkStatus();
}

absl::StatusOr<std::string> BatchJob::Results(BatchCursor& cursor, int64_t most_bytes,
                                              bool& skipping) {
  skipping = false;
  if (settled_) return MergedResults(cursor, most_bytes, skipping);
  return journal_ != nullptr ? PartialResults(cursor, most_bytes) : std::string();
}

absl::StatusOr<std::string> BatchJob::PartialResults(BatchCursor& cursor, int64_t most_bytes) {
  std::string lines;
  while (cursor.next < record_.lines && static_cast<int64_t>(lines.size()) < most_bytes &&
         journal_->Has(static_cast<size_t>(cursor.next))) {
    BASED_ASSIGN_OR_RETURN(const std::string json,
                           journal_->Read(static_cast<size_t>(cursor.next)));
    absl::StrAppend(&lines, json, "\n");
    ++cursor.next;
  }
  return lines;
}

absl::StatusOr<std::string> BatchJob::MergedResults(BatchCursor& cursor, int64_t most_bytes,
                                                    bool& skipping) {
  const std::string path = folder_ + kBatchResults;
  BASED_ASSIGN_OR_RETURN(const FileDescriptor file, OpenFile(path, O_RDONLY));
  int64_t size = most_bytes;
  int64_t skipped = 0;
  while (cursor.offset < output_bytes_) {
    size = std::min(size, output_bytes_ - cursor.offset);
    BASED_ASSIGN_OR_RETURN(const std::string bytes, ReadAt(file.get(), cursor.offset, size, path));
    size_t begin = 0;
    size_t end = bytes.find('\n');
    for (; cursor.passed < cursor.next && end != std::string::npos; ++cursor.passed) {
      begin = end + 1;
      end = bytes.find('\n', begin);
    }
    cursor.offset += static_cast<int64_t>(begin);
    skipped += static_cast<int64_t>(begin);
    const size_t last = bytes.rfind('\n');
    if (cursor.passed == cursor.next && last != std::string::npos && last >= begin) {
      std::string lines = bytes.substr(begin, last + 1 - begin);
      cursor.next += std::count(lines.begin(), lines.end(), '\n');
      cursor.passed = cursor.next;
      cursor.offset += static_cast<int64_t>(lines.size());
      return lines;
    }
    if (begin == 0) size *= 2;  // one line is longer
    skipping = skipped >= kSkipBytes;
    if (skipping) break;
  }
  return std::string();
}

}  // namespace based
