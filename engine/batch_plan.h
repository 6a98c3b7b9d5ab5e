// What a batch has to do: the lines of its input, checked before anything is sent, and the order in
// which to send them. Memory is some 60 bytes a line, whatever the prompts' lengths.
#ifndef BASED_ENGINE_BATCH_PLAN_H_
#define BASED_ENGINE_BATCH_PLAN_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/base/file.h"
#include "xxhash.h"

namespace based {

// Part `index` of `count`: consecutive lines, so that the parts' outputs put one after the other
// are the output of the whole.
struct Shard {
  int64_t index = 0;
  int64_t count = 1;
};

// What the plan must know of a line.
struct BatchLineFacts {
  std::string custom_id;  // empty: none
  std::string model;      // that it asks for; empty: any
  int32_t sequences = 1;  // slots that it takes
  float work = 0;         // see ExpectedBatchWork
  uint64_t prefix = 0;    // see BatchPrefix
};

// Expected time in a slot, in decode steps; of `prompt_tokens` and the most that it generates.
float ExpectedBatchWork(float prompt_tokens, std::optional<int64_t> max_tokens);
float GuessTokens(size_t text_bytes);
// Equal for prompts, as text or token ids, that begin alike.
uint64_t BatchPrefix(const void* prompt, size_t bytes);

// Reads a line; `place` begins the messages of what it refuses.
using BatchLineReader =
    std::function<absl::StatusOr<BatchLineFacts>(absl::string_view text, const std::string& place)>;

struct BatchEntry {
  int64_t offset = 0;  // of the line in the file
  int32_t bytes = 0;
  int32_t line = 0;       // from 1
  int32_t sequences = 1;  // slots that it takes
  float work = 0;         // as of BatchLineFacts
  uint64_t prefix = 0;    // likewise
  uint64_t hash = 0;      // of the line
};

class BatchPlan {
 public:
  // Reads and checks the whole input, then keeps the lines of `shard`. The errors of
  // BatchPlanBuilder.
  static absl::StatusOr<BatchPlan> Read(const std::string& path, Shard shard,
                                        const BatchLineReader& reader);

  const std::vector<BatchEntry>& entries() const { return entries_; }
  // The line; DATA_LOSS when the file has changed since.
  absl::StatusOr<std::string> Text(size_t entry) const;
  // "in.jsonl:17", for messages.
  std::string Place(size_t entry) const;

  // Hexadecimal; of the input's bytes and the shard.
  const std::string& digest() const { return digest_; }
  // What the lines ask for; empty where none names a model.
  const std::string& model() const { return model_; }

  // Entries from the one that is expected to take longest: what is left at the end is short, and
  // the daemon's slots stay busy. Among those of about equal length (a factor of 1.4), prompts with
  // the same beginning follow each other.
  std::vector<int32_t> Order() const;

 private:
  friend class BatchPlanBuilder;

  std::string path_;
  FileDescriptor file_;
  std::vector<BatchEntry> entries_;
  std::string digest_;
  std::string model_;
};

// Makes a plan of lines as they come.
class BatchPlanBuilder {
 public:
  // `path` is for messages.
  BatchPlanBuilder(std::string path, BatchLineReader reader);

  // The file's next line, without its line break; lines of white space alone count and are skipped.
  // What is wrong with it Finish tells; an error when there are too many lines.
  absl::Status Add(absl::string_view text, int64_t offset);

  int64_t lines() const { return static_cast<int64_t>(entries_.size()); }
  bool faulty() const { return faults_ > 0; }

  // The plan of `shard`, over the file that holds the lines. INVALID_ARGUMENT with file, line and
  // reason of the first faults: what the reader refuses, a custom_id used twice, lines that ask for
  // different models. Call once.
  absl::StatusOr<BatchPlan> Finish(FileDescriptor file, Shard shard);

 private:
  // What must hold between the lines of one input.
  void Check(const BatchLineFacts& facts, int32_t number);
  void Fault(absl::string_view message);

  const std::string path_;
  const BatchLineReader reader_;
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> hash_;
  std::vector<BatchEntry> entries_;
  int32_t number_ = 0;  // of the last line
  // By the 128 bits of their hash: ids may be as long as lines.
  absl::flat_hash_map<std::pair<uint64_t, uint64_t>, int32_t> lines_of_ids_;
  std::optional<std::string> model_;
  int32_t model_line_ = 0;
  std::vector<std::string> messages_;
  size_t faults_ = 0;
};

// Makes a plan of a file, a piece at a time, for whoever must not be away for long.
class BatchPlanReader {
 public:
  // INVALID_ARGUMENT for what is no regular file.
  static absl::StatusOr<std::unique_ptr<BatchPlanReader>> Open(const std::string& path,
                                                               const BatchLineReader& reader);

  // Reads on: the lines of the next `most_bytes`, at least one. True at the end of the file.
  absl::StatusOr<bool> ReadSome(int64_t most_bytes);

  // REQUIRES: ReadSome has returned true. The errors of BatchPlanBuilder. Call once.
  absl::StatusOr<BatchPlan> Finish(Shard shard);

 private:
  BatchPlanReader(FileDescriptor file, const std::string& path, const BatchLineReader& reader);

  FileDescriptor file_;
  BatchPlanBuilder builder_;
  LineReader lines_;
};

}  // namespace based

#endif  // BASED_ENGINE_BATCH_PLAN_H_
