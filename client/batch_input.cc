#include "client/batch_input.h"

#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/command.h"
#include "kernels/base/status.h"

namespace based {
namespace {

constexpr int64_t kMostShards = 1'000'000;

void Count(const std::vector<std::string>& names, IgnoredFields& ignored) {
  for (const std::string& name : names) {
    const auto known = ignored.find(name);
    if (known != ignored.end()) {
      ++known->second;
    } else if (ignored.size() < kMostIgnoredFields) {
      ignored.emplace(name, 1);
    }
  }
}

absl::StatusOr<BatchLineFacts> FactsOf(absl::string_view text, const std::string& place,
                                       BatchInputNotes& notes) {
  BASED_ASSIGN_OR_RETURN(BatchLine line, ParseBatchLine(text, place));
  Count(line.ignored, notes.ignored);
  if (line.form == BatchForm::kChat && notes.first_chat.empty()) notes.first_chat = place;
  return std::move(line.facts);
}

}  // namespace

absl::StatusOr<Shard> ParseShard(absl::string_view text) {
  Shard shard;
  const std::vector<absl::string_view> parts = absl::StrSplit(text, '/');
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &shard.index) ||
      !absl::SimpleAtoi(parts[1], &shard.count) || shard.index < 0 || shard.index >= shard.count ||
      shard.count > kMostShards) {
    return UsageError(absl::StrCat("--shard is '", text,
                                   "'; expected i/n with 0 <= i < n and n at most ", kMostShards,
                                   ", e.g. 0/4"));
  }
  return shard;
}

absl::StatusOr<BatchPlan> ReadBatchInput(const std::string& path, Shard shard,
                                         BatchInputNotes* notes) {
  BatchInputNotes unwanted;
  BatchInputNotes& kept = notes == nullptr ? unwanted : *notes;
  return BatchPlan::Read(path, shard, [&](absl::string_view text, const std::string& place) {
    return FactsOf(text, place, kept);
  });
}

absl::StatusOr<BatchLine> LineOf(const BatchPlan& plan, size_t entry) {
  BASED_ASSIGN_OR_RETURN(const std::string text, plan.Text(entry));
  return ParseBatchLine(text, plan.Place(entry));
}

}  // namespace based
