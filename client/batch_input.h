// The input of a batch, read as requests for a daemon.
#ifndef BASED_CLIENT_BATCH_INPUT_H_
#define BASED_CLIENT_BATCH_INPUT_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/batch_line.h"
#include "engine/batch_plan.h"

namespace based {

// "i/n" with 0 <= i < n, and n at most a million. A usage error else.
absl::StatusOr<Shard> ParseShard(absl::string_view text);

// Names of BatchLine::ignored and on how many lines of the input they are.
using IgnoredFields = std::map<std::string, int64_t>;
// Names beyond so many are not told.
inline constexpr size_t kMostIgnoredFields = 20;

// What else there is to say of an input.
struct BatchInputNotes {
  IgnoredFields ignored;
  std::string first_chat;  // place of the first chat; empty: none
};

// BatchPlan::Read of lines that ParseBatchLine takes. `notes` may be null.
absl::StatusOr<BatchPlan> ReadBatchInput(const std::string& path, Shard shard,
                                         BatchInputNotes* notes = nullptr);

// The errors of BatchPlan::Text.
absl::StatusOr<BatchLine> LineOf(const BatchPlan& plan, size_t entry);

}  // namespace based

#endif  // BASED_CLIENT_BATCH_INPUT_H_
