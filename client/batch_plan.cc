#include "client/batch_plan.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <tuple>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/command.h"
#include "kernels/base/status.h"
#include "xxhash.h"

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

float ExpectedWork(const v1::GenerateRequest& request) {
  const auto prompt = request.has_text()
                          ? static_cast<float>(request.text().size()) / kBytesPerToken
                          : static_cast<float>(request.token_ids().ids_size());
  const float output = request.stop().has_max_tokens()
                           ? static_cast<float>(request.stop().max_tokens())
                           : kDefaultMaxTokens;
  return output + prompt / kPrefillTokensPerStep;
}

uint64_t PrefixOf(const v1::GenerateRequest& request) {
  if (request.has_text()) {
    return XXH3_64bits(request.text().data(), std::min(request.text().size(), kPrefixBytes));
  }
  const auto& ids = request.token_ids().ids();
  const size_t bytes = static_cast<size_t>(ids.size()) * sizeof(int32_t);
  return XXH3_64bits(ids.data(), std::min(bytes, kPrefixBytes));
}

// What must hold between the lines of one input.
class Checker {
 public:
  explicit Checker(std::string path) : path_(std::move(path)) {}

  void Check(const BatchLine& line, int32_t number) {
    const std::string place = absl::StrCat(path_, ":", number);
    if (!line.custom_id.empty()) {
      const auto [entry, fresh] = lines_of_ids_.try_emplace(line.custom_id, number);
      if (!fresh) {
        Fault(absl::StrCat(place, ": custom_id is \"", line.custom_id, "\", as on line ",
                           entry->second, ", expected a name of its own for every line"));
      }
    }
    const std::string& model = line.request.model();
    if (model.empty()) return;
    if (!model_) {
      model_ = model;
      model_line_ = number;
    } else if (*model_ != model) {
      Fault(absl::StrCat(place, ": model is \"", model, "\", expected \"", *model_,
                         "\" as on line ", model_line_, ": a batch is for one model"));
    }
  }

  void Fault(absl::string_view message) {
    if (++faults_ <= kMostFaults) messages_.emplace_back(message);
  }

  absl::Status status() const {
    if (faults_ == 0) return absl::OkStatus();
    std::string text = absl::StrJoin(messages_, "\n");
    if (faults_ > kMostFaults) absl::StrAppend(&text, "\nand ", faults_ - kMostFaults, " more");
    return absl::InvalidArgumentError(text);
  }

  std::string model() const { return model_.value_or(""); }

 private:
  const std::string path_;
  absl::flat_hash_map<std::string, int32_t> lines_of_ids_;
  std::optional<std::string> model_;
  int32_t model_line_ = 0;
  std::vector<std::string> messages_;
  size_t faults_ = 0;
};

}  // namespace

absl::StatusOr<Shard> ParseShard(absl::string_view text) {
  Shard shard;
  const std::vector<absl::string_view> parts = absl::StrSplit(text, '/');
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &shard.index) ||
      !absl::SimpleAtoi(parts[1], &shard.count) || shard.index < 0 || shard.index >= shard.count) {
    return UsageError(
        absl::StrCat("--shard is '", text, "'; expected i/n with 0 <= i < n, e.g. 0/4"));
  }
  return shard;
}

absl::StatusOr<BatchPlan> BatchPlan::Read(const std::string& path, Shard shard) {
  BASED_ASSIGN_OR_RETURN(FileDescriptor file, OpenFile(path, O_RDONLY));
  struct stat info {};
  if (::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": not a regular file; a batch reads its input more than once"));
  }
  BatchPlan plan(path, std::move(file));
  Checker checker(path);
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> hash(XXH3_createState(),
                                                                      &XXH3_freeState);
  XXH3_128bits_reset(hash.get());
  LineReader reader(plan.file_.get(), path, kMaxBatchLineBytes);
  while (true) {
    BASED_ASSIGN_OR_RETURN(const bool more, reader.Next());
    if (!more) break;
    XXH3_128bits_update(hash.get(), reader.line().data(), reader.line().size());
    XXH3_128bits_update(hash.get(), "\n", 1);
    if (absl::StripAsciiWhitespace(reader.line()).empty()) continue;
    if (reader.number() > kMostLines) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": more than ", kMostLines, " lines; split the file"));
    }
    const auto number = static_cast<int32_t>(reader.number());
    const auto line = ParseBatchLine(reader.line(), plan.Place(number));
    if (!line.ok()) {
      checker.Fault(line.status().message());
      continue;
    }
    checker.Check(*line, number);
    plan.entries_.push_back({.offset = reader.offset(),
                             .bytes = static_cast<int32_t>(reader.line().size()),
                             .line = number,
                             .sequences = line->sequences(),
                             .work = ExpectedWork(line->request),
                             .prefix = PrefixOf(line->request)});
  }
  BASED_RETURN_IF_ERROR(checker.status());
  const auto total = static_cast<int64_t>(plan.entries_.size());
  const auto begin = plan.entries_.begin() + total * shard.index / shard.count;
  const auto end = plan.entries_.begin() + total * (shard.index + 1) / shard.count;
  plan.entries_ = std::vector<BatchEntry>(begin, end);
  XXH3_128bits_update(hash.get(), &shard, sizeof(shard));
  const XXH128_hash_t digest = XXH3_128bits_digest(hash.get());
  plan.digest_ = absl::StrFormat("%016x%016x", digest.high64, digest.low64);
  plan.model_ = checker.model();
  return plan;
}

std::string BatchPlan::Place(int64_t line) const { return absl::StrCat(path_, ":", line); }

absl::StatusOr<BatchLine> BatchPlan::Line(size_t entry) const {
  const BatchEntry& from = entries_[entry];
  absl::StatusOr<BatchLine> line = absl::DataLossError("");
  absl::StatusOr<std::string> text = ReadAt(file_.get(), from.offset, from.bytes, path_);
  if (text.ok()) line = ParseBatchLine(*text, Place(from.line));
  if (line.ok() && PrefixOf(line->request) == from.prefix) return line;
  return absl::DataLossError(
      absl::StrCat(Place(from.line), ": the file has changed since the batch began"));
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
