#include "server/load_flags.h"

#include <string>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"
#include "server/flags.h"

ABSL_FLAG(int32_t, max_queue, 4096, "Requests that may wait for a slot; more are refused.");
ABSL_FLAG(
    std::string, max_queue_tokens, "4G",
    "Prompt and output tokens (max_tokens each) that may wait for a slot; more are refused. K, "
    "M and G count in powers of 1024.");
ABSL_FLAG(
    int32_t, itl_target_ms, 0,
    "Prompts, and batch work beside interactive streams, take so much of a step that the time "
    "between tokens stays within this; 0: within 1.75 times what it is without prompts, and "
    "twice what it is without batch work.");
ABSL_FLAG(int32_t, reserved_interactive_slots, 0, "Slots that batch requests leave free.");
ABSL_FLAG(std::string, park_memory, "1GiB",
          "Host memory for the states of batch sequences that wait for interactive ones, at most; "
          "0: they are not made to wait.");
ABSL_FLAG(int32_t, batch_patience_ms, 60000,
          "A batch request that has waited for so long is treated as interactive.");

namespace based {
namespace {

absl::Status Wrong(absl::string_view flag, auto value, absl::string_view expected) {
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, " is '", value, "'; expected ", expected));
}

absl::Status CheckAtLeast(absl::string_view flag, int32_t value, int32_t least) {
  if (value >= least) return absl::OkStatus();
  return Wrong(flag, value, absl::StrCat(least, " or more"));
}

}  // namespace

absl::Status ReadLoadFlags(EngineOptions& options) {
  options.max_queue = absl::GetFlag(FLAGS_max_queue);
  BASED_RETURN_IF_ERROR(CheckAtLeast("max_queue", options.max_queue, 1));
  const std::string tokens = absl::GetFlag(FLAGS_max_queue_tokens);
  const absl::StatusOr<int64_t> count = ParseBytes(tokens);
  if (!count.ok() || *count < 1) {
    return Wrong("max_queue_tokens", tokens, "a number of 1 or more, e.g. 65536 or 16M");
  }
  options.max_queue_tokens = *count;
  const std::string memory = absl::GetFlag(FLAGS_park_memory);
  const absl::StatusOr<int64_t> bytes = ParseBytes(memory);
  if (!bytes.ok()) return Wrong("park_memory", memory, "bytes, e.g. 268435456, 512MiB or 2GiB");
  options.park_memory = *bytes;
  const int32_t target = absl::GetFlag(FLAGS_itl_target_ms);
  BASED_RETURN_IF_ERROR(CheckAtLeast("itl_target_ms", target, 0));
  options.itl_target = std::chrono::milliseconds(target);
  options.reserved_interactive_slots = absl::GetFlag(FLAGS_reserved_interactive_slots);
  BASED_RETURN_IF_ERROR(
      CheckAtLeast("reserved_interactive_slots", options.reserved_interactive_slots, 0));
  const int32_t patience = absl::GetFlag(FLAGS_batch_patience_ms);
  BASED_RETURN_IF_ERROR(CheckAtLeast("batch_patience_ms", patience, 0));
  options.batch_patience = std::chrono::milliseconds(patience);
  return absl::OkStatus();
}

FlagGroup LoadFlags() {
  return {"Load",
          {"max_queue", "max_queue_tokens", "itl_target_ms", "reserved_interactive_slots",
           "park_memory", "batch_patience_ms"}};
}

}  // namespace based
