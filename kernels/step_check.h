// Check of a StepTable against what backend.h requires of the caller of Launch.
#ifndef BASED_KERNELS_STEP_CHECK_H_
#define BASED_KERNELS_STEP_CHECK_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "kernels/backend.h"

namespace based {

struct StepLimits {
  CompileOptions options;
  int32_t slots = 0;             // slots of the pool
  int64_t embed_rows = 0;        // input ids are [0, embed_rows)
  int32_t vocab_size = 0;        // targets are [0, vocab_size)
  int32_t previous_samples = 0;  // SampleRows of the step launched before; 0 when there is none
  bool late_rules = false;       // SampleRow::late is followed
};

// INTERNAL, naming the field, when the table breaks a rule of backend.h: the caller has a bug.
// INVALID_ARGUMENT when a mask of sampling rules has not ceil(vocab_size / 32) words.
// Linear in the table's size plus the number of slots.
absl::Status CheckStepTable(const StepTable& table, const StepLimits& limits);

// The same for rules that come late, of a sample that was launched with `most`; INTERNAL when they
// are larger.
absl::Status CheckLateRules(const SampleRules& rules, const RuleSizes& most, int32_t vocab_size);

}  // namespace based

#endif  // BASED_KERNELS_STEP_CHECK_H_
