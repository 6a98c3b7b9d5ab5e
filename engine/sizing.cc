#include "engine/sizing.h"

#include <unistd.h>

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"

namespace based {
namespace {

constexpr int64_t kDefaultCpuBudget = int64_t{1} << 30;

absl::StatusOr<int32_t> CountSlots(const ExecutableInfo& info, const EngineOptions& options) {
  const int64_t fixed = info.weight_bytes + info.workspace_bytes;
  int64_t room = 0;
  if (options.memory_budget > 0) {
    room = options.memory_budget - fixed;
  } else {
    room = DefaultMemoryBudget(info) - fixed;
  }
  const int64_t fits = room > 0 ? room / info.slot_bytes : 0;
  const int64_t slots = options.slots > 0 ? options.slots : fits;
  if (options.memory_budget > 0 && slots > fits) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "--slots ", slots, " needs ", fixed + slots * info.slot_bytes, " bytes (weights ",
        info.weight_bytes, ", workspace ", info.workspace_bytes, ", ", info.slot_bytes,
        " per slot); --memory_budget is ", options.memory_budget));
  }
  if (slots < 1) {
    return absl::ResourceExhaustedError(
        absl::StrCat("not enough memory for one slot: weights take ", info.weight_bytes,
                     " bytes, workspace ", info.workspace_bytes, " and one slot ", info.slot_bytes,
                     ", together ", fixed + info.slot_bytes, "; the budget is ", fixed + room,
                     ". Raise --memory_budget or lower --token_budget"));
  }
  return static_cast<int32_t>(std::min<int64_t>(slots, std::numeric_limits<int32_t>::max()));
}

int32_t ParkedAtMost(const ExecutableInfo& info, const EngineOptions& options) {
  const int64_t images = options.park_memory / std::max<int64_t>(1, info.image_bytes);
  return static_cast<int32_t>(std::min<int64_t>(images, std::numeric_limits<int32_t>::max()));
}

}  // namespace

int64_t DefaultMemoryBudget(const ExecutableInfo& info) {
  const int64_t fixed = info.weight_bytes + info.workspace_bytes;
  if (info.backend == "cuda") return fixed + info.available_bytes;
  const int64_t physical = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  return std::max(fixed + info.slot_bytes, std::min(fixed + kDefaultCpuBudget, physical / 4));
}

absl::StatusOr<SchedulerOptions> SizeEngine(const Model& model, const EngineOptions& options) {
  const ExecutableInfo& info = model.executable->info();
  BASED_ASSIGN_OR_RETURN(const int32_t slots, CountSlots(info, options));
  const CompileOptions& compiled = model.compile;
  SchedulerOptions sizes{.slots = slots,
                         .token_budget = compiled.max_rows,
                         .max_spans = std::min(compiled.max_spans, compiled.max_samples),
                         .max_samples = compiled.max_samples,
                         .reserved_slots = options.reserved_interactive_slots,
                         .max_parked = ParkedAtMost(info, options),
                         .batch_patience = options.batch_patience,
                         .late_rules = info.late_rules};
  if (options.token_budget > 0) {
    sizes.token_budget = std::min(options.token_budget, compiled.max_rows);
  }
  if (sizes.token_budget < 2 || sizes.max_spans < 2) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a step of ", sizes.token_budget, " tokens and ", sizes.max_spans,
        " sequences cannot decode and prefill side by side; expected at least 2 of each"));
  }
  if (sizes.reserved_slots < 0 || sizes.reserved_slots >= slots) {
    return absl::InvalidArgumentError(
        absl::StrCat("--reserved_interactive_slots is ", sizes.reserved_slots,
                     "; expected 0 or more, and fewer than the ", slots, " slots"));
  }
  return sizes;
}

}  // namespace based
