// The input of a batch, read as requests for a daemon.
#ifndef BASED_CLIENT_BATCH_INPUT_H_
#define BASED_CLIENT_BATCH_INPUT_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/batch_line.h"
#include "engine/batch_plan.h"

namespace based {

// "i/n" with 0 <= i < n, and n at most a million. A usage error else.
absl::StatusOr<Shard> ParseShard(absl::string_view text);

// BatchPlan::Read of lines that ParseBatchLine takes.
absl::StatusOr<BatchPlan> ReadBatchInput(const std::string& path, Shard shard);

// The errors of BatchPlan::Text.
absl::StatusOr<BatchLine> LineOf(const BatchPlan& plan, size_t entry);

}  // namespace based

#endif  // BASED_CLIENT_BATCH_INPUT_H_
