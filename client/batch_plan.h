// What a batch has to do: the lines of its input, checked before anything is sent, and the order in
// which to send them. Memory is some 50 bytes a line, whatever the prompts' lengths.
#ifndef BASED_CLIENT_BATCH_PLAN_H_
#define BASED_CLIENT_BATCH_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/batch_file.h"
#include "client/batch_line.h"

namespace based {

// Part `index` of `count`: consecutive lines, so that the parts' outputs put one after the other
// are the output of the whole.
struct Shard {
  int64_t index = 0;
  int64_t count = 1;
};

// "i/n" with 0 <= i < n. A usage error else.
absl::StatusOr<Shard> ParseShard(absl::string_view text);

struct BatchEntry {
  int64_t offset = 0;  // of the line in the file
  int32_t bytes = 0;
  int32_t line = 0;       // from 1
  int32_t sequences = 1;  // slots that it takes
  float work = 0;         // expected time in a slot, in decode steps
  uint64_t prefix = 0;    // hash of the prompt's beginning
};

class BatchPlan {
 public:
  // Reads and checks the whole input, then keeps the lines of `shard`. INVALID_ARGUMENT with file,
  // line and reason of the first faults: what ParseBatchLine refuses, a custom_id used twice, lines
  // that ask for different models. Lines of white space alone are skipped.
  static absl::StatusOr<BatchPlan> Read(const std::string& path, Shard shard);

  const std::vector<BatchEntry>& entries() const { return entries_; }
  // DATA_LOSS when the file has changed since.
  absl::StatusOr<BatchLine> Line(size_t entry) const;

  // Hexadecimal; of the input's bytes and the shard.
  const std::string& digest() const { return digest_; }
  // What the lines ask for; empty where none names a model.
  const std::string& model() const { return model_; }

  // Entries from the one that is expected to take longest: what is left at the end is short, and
  // the daemon's slots stay busy. Among those of about equal length (a factor of 1.4), prompts with
  // the same beginning follow each other.
  std::vector<int32_t> Order() const;

 private:
  BatchPlan(std::string path, FileDescriptor file)
      : path_(std::move(path)), file_(std::move(file)) {}

  std::string Place(int64_t line) const;

  std::string path_;
  FileDescriptor file_;
  std::vector<BatchEntry> entries_;
  std::string digest_;
  std::string model_;
};

}  // namespace based

#endif  // BASED_CLIENT_BATCH_PLAN_H_
