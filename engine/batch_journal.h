// The checkpoint of a batch: finished lines in the order of their ends, in OUTPUT.partial. When all
// are there they are written to OUTPUT in the order of the input and the checkpoint goes.
//
// Text, one record a line. First a header, then results:
//   based-batch-1 {"input":"<digest>","lines":N,"model":"<digest>"}
//   <16 hexadecimal digits> <entry> <ok|error> <result as JSON>
// The digits are XXH3-64 of what follows them and a space, up to the line break. A process that is
// killed leaves at most one torn record, at the end, which the next one cuts off; a damaged record
// in the middle is cut off with everything after it. What was cut off is computed again.
#ifndef BASED_ENGINE_BATCH_JOURNAL_H_
#define BASED_ENGINE_BATCH_JOURNAL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/base/file.h"

namespace based {

// Whose results a checkpoint holds.
struct BatchIdentity {
  std::string input;  // BatchPlan::digest
  std::string model;  // the daemon's digest of it
  int64_t lines = 0;  // of this shard
};

class BatchJournal {
 public:
  // Makes the checkpoint of `output`, or goes on with it. It is this process's alone until the
  // journal goes. FAILED_PRECONDITION when another process works on it, when it belongs to another
  // input, shard or model, or when `output` is there beside a checkpoint that is not complete.
  static absl::StatusOr<std::unique_ptr<BatchJournal>> Open(const std::string& output,
                                                            const BatchIdentity& identity);

  bool Has(size_t entry) const { return places_[entry].bytes >= 0; }
  int64_t finished() const { return finished_; }
  int64_t failed() const { return failed_; }  // of these, those with an error
  // Bytes of damaged records that were cut off.
  int64_t cut_bytes() const { return cut_bytes_; }
  int64_t bytes() const { return end_; }  // of the checkpoint

  // A result that was kept. REQUIRES: Has(entry).
  absl::StatusOr<std::string> Read(size_t entry) const;

  // Keeps one result (JSON without a line break). REQUIRES: !Has(entry). On an error (a full disk)
  // the checkpoint is as before.
  absl::Status Append(size_t entry, bool failed, absl::string_view json);

  // To the disk, so that even a fall of the machine loses nothing before this.
  absl::Status Sync();

  // Writes the results that there are to `output`, in order, and removes the checkpoint.
  absl::Status Finish();

 private:
  struct Place {
    int64_t offset = 0;  // of the JSON
    int64_t bytes = -1;  // absent
  };

  BatchJournal(std::string output, std::string path, FileDescriptor file, int64_t lines)
      : output_(std::move(output)),
        path_(std::move(path)),
        file_(std::move(file)),
        places_(static_cast<size_t>(lines)) {}

  absl::Status Recover(const std::string& header);
  // The results in order, then `temporary` becomes the output.
  absl::Status WriteOutput(const std::string& temporary);
  // False for a damaged record.
  bool Accept(absl::string_view record, int64_t offset);

  const std::string output_;
  const std::string path_;
  FileDescriptor file_;
  std::vector<Place> places_;  // by entry
  int64_t end_ = 0;            // bytes of whole records
  int64_t finished_ = 0;
  int64_t failed_ = 0;
  int64_t cut_bytes_ = 0;
};

}  // namespace based

#endif  // BASED_ENGINE_BATCH_JOURNAL_H_
