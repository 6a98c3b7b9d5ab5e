#include "engine/batch_plan.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "engine/batch_envelope.h"
#include "kernels/base/status.h"

namespace based {
namespace {

constexpr size_t kMostFaults = 10;
constexpr int32_t kMostLines = 100'000'000;
// Prompts that agree so far are taken to share a prefix.
constexpr size_t kPrefixBytes = 256;
// A rough guess is enough for the order: bytes of English per token, prompt tokens that prefill
// takes in the time of one decode step, and the daemon's default of max_tokens.
constexpr float kBytesPerToken = 4;
constexpr float kPrefillTokensPerStep = 16;
constexpr float kDefaultMaxTokens = 256;

std::string PlaceOf(const std::string& path, int32_t line) { return absl::StrCat(path, ":", line); }

}  // namespace

float ExpectedBatchWork(float prompt_tokens, std::optional<int64_t> max_tokens) {
  const float output = max_tokens ? static_cast<float>(*max_tokens) : kDefaultMaxTokens;
  return output + prompt_tokens / kPrefillTokensPerStep;
}

float GuessTokens(size_t text_bytes) { return static_cast<float>(text_bytes) / kBytesPerToken; }

uint64_t BatchPrefix(const void* prompt, size_t bytes) {
  return XXH3_64bits(prompt, std::min(bytes, kPrefixBytes));
}

BatchPlanBuilder::BatchPlanBuilder(std::string path, BatchLineReader reader)
    : path_(std::move(path)),
      reader_(std::move(reader)),
      hash_(XXH3_createState(), &XXH3_freeState) {
  XXH3_128bits_reset(hash_.get());
}

absl::Status BatchPlanBuilder::Add(absl::string_view text, int64_t offset) {
  XXH3_128bits_update(hash_.get(), text.data(), text.size());
  XXH3_128bits_update(hash_.get(), "\n", 1);
  if (++number_ > kMostLines) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": more than ", kMostLines, " lines; split the file"));
  }
  if (absl::StripAsciiWhitespace(text).empty()) return absl::OkStatus();
  const absl::StatusOr<BatchLineFacts> facts = reader_(text, PlaceOf(path_, number_));
  if (!facts.ok()) {
    Fault(facts.status().message());
    return absl::OkStatus();
  }
  Check(*facts, number_);
  entries_.push_back({.offset = offset,
                      .bytes = static_cast<int32_t>(text.size()),
                      .line = number_,
                      .sequences = facts->sequences,
                      .work = facts->work,
                      .prefix = facts->prefix,
                      .hash = XXH3_64bits(text.data(), text.size())});
  return absl::OkStatus();
}

void BatchPlanBuilder::Check(const BatchLineFacts& facts, int32_t number) {
  const std::string place = PlaceOf(path_, number);
  if (!facts.custom_id.empty()) {
    const XXH128_hash_t id = XXH3_128bits(facts.custom_id.data(), facts.custom_id.size());
    const auto [entry, fresh] = lines_of_ids_.try_emplace({id.high64, id.low64}, number);
    if (!fresh) {
      Fault(absl::StrCat(place, ": custom_id is \"", facts.custom_id, "\", as on line ",
                         entry->second, ", expected a name of its own for every line"));
    }
  }
  if (facts.model.empty()) return;
  if (!model_) {
    model_ = facts.model;
    model_line_ = number;
  } else if (*model_ != facts.model) {
    Fault(absl::StrCat(place, ": model is \"", facts.model, "\", expected \"", *model_,
                       "\" as on line ", model_line_, ": a batch is for one model"));
  }
}

void BatchPlanBuilder::Fault(absl::string_view message) {
  if (++faults_ <= kMostFaults) messages_.emplace_back(message);
}

absl::StatusOr<BatchPlan> BatchPlanBuilder::Finish(FileDescriptor file, Shard shard) {
  if (faults_ > 0) {
    const std::string text = absl::StrJoin(messages_, "\n");
    // The number first: what goes over a wire may be cut.
    return absl::InvalidArgumentError(
        faults_ > kMostFaults ? absl::StrCat(faults_, " faults, the first of them:\n", text)
                              : text);
  }
  BatchPlan plan;
  plan.path_ = path_;
  plan.file_ = std::move(file);
  const int64_t total = lines();
  const auto begin = entries_.begin() + total * shard.index / shard.count;
  const auto end = entries_.begin() + total * (shard.index + 1) / shard.count;
  plan.entries_ = std::vector<BatchEntry>(begin, end);
  XXH3_128bits_update(hash_.get(), &shard, sizeof(shard));
  const XXH128_hash_t digest = XXH3_128bits_digest(hash_.get());
  plan.digest_ = absl::StrFormat("%016x%016x", digest.high64, digest.low64);
  plan.model_ = model_.value_or("");
  return plan;
}

BatchPlanReader::BatchPlanReader(FileDescriptor file, const std::string& path,
                                 const BatchLineReader& reader)
    : file_(std::move(file)),
      builder_(path, reader),
      lines_(file_.get(), path, kMaxBatchLineBytes) {}

absl::StatusOr<std::unique_ptr<BatchPlanReader>> BatchPlanReader::Open(
    const std::string& path, const BatchLineReader& reader) {
  BASED_ASSIGN_OR_RETURN(FileDescriptor file, OpenFile(path, O_RDONLY));
  struct stat info {};
  if (::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": not a regular file; a batch reads its input more than once"));
  }
  return std::unique_ptr<BatchPlanReader>(new BatchPlanReader(std::move(file), path, reader));
}

absl::StatusOr<bool> BatchPlanReader::ReadSome(int64_t most_bytes) {
  for (int64_t bytes = 0; bytes < most_bytes;) {
    BASED_ASSIGN_OR_RETURN(const bool more, lines_.Next());
    if (!more) return true;
    BASED_RETURN_IF_ERROR(builder_.Add(lines_.line(), lines_.offset()));
    bytes += static_cast<int64_t>(lines_.line().size()) + 1;
  }
  return false;
}

absl::StatusOr<BatchPlan> BatchPlanReader::Finish(Shard shard) {
  return builder_.Finish(std::move(file_), shard);
}

absl::StatusOr<BatchPlan> BatchPlan::Read(const std::string& path, Shard shard,
                                          const BatchLineReader& reader) {
  BASED_ASSIGN_OR_RETURN(const std::unique_ptr<BatchPlanReader> plan,
                         BatchPlanReader::Open(path, reader));
  BASED_RETURN_IF_ERROR(plan->ReadSome(std::numeric_limits<int64_t>::max()).status());
  return plan->Finish(shard);
}

std::string BatchPlan::Place(size_t entry) const { return PlaceOf(path_, entries_[entry].line); }

absl::StatusOr<std::string> BatchPlan::Text(size_t entry) const {
  const BatchEntry& from = entries_[entry];
  absl::StatusOr<std::string> text = ReadAt(file_.get(), from.offset, from.bytes, path_);
  if (text.ok() && XXH3_64bits(text->data(), text->size()) == from.hash) return text;
  return absl::DataLossError(
      absl::StrCat(Place(entry), ": the file has changed since the batch began"));
}

std::vector<int32_t> BatchPlan::Order() const {
  std::vector<int32_t> order(entries_.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  const auto key = [this](int32_t i) {
    const BatchEntry& entry = entries_[static_cast<size_t>(i)];
    const int length = static_cast<int>(std::floor(2 * std::log2(std::max(entry.work, 1.0f))));
    return std::make_tuple(-length, entry.prefix, i);
  };
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return key(a) < key(b); });
  return order;
}

}  // namespace based
