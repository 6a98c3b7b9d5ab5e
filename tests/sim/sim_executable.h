// A model without arithmetic: a slot's state is a hash of the tokens fed to it, a draw a hash of
// state, seed and position. What a sequence must produce is known without running it
// (ExpectedToken), and any mix-up of slots, positions or pipelined inputs changes it. A slot can be
// exported as it was one token ago.
#ifndef BASED_TESTS_SIM_SIM_EXECUTABLE_H_
#define BASED_TESTS_SIM_SIM_EXECUTABLE_H_

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace based {

struct SimModel {
  int32_t vocab_size = 97;
  int32_t pipeline_depth = 1;
  bool late_rules = true;
  // A draw whose hash is a multiple of this has logits that are not finite; 0: never.
  uint64_t nonfinite_every = 0;
};

uint64_t SimState(uint64_t state, int32_t token);
// The id drawn after `state`; kNone when the logits are not finite, kNoId when no id is left.
// Counts, allowed and banned ids and the mask of `rules` (may be null) change it; the other rules
// do not.
inline constexpr int32_t kNoId = -2;
int32_t SimDraw(const SimModel& model, uint64_t state, const SampleParams& params,
                const SampleRules* rules = nullptr);
// Log-probability of `token` after `state`.
double SimLogprob(uint64_t state, int32_t token);
inline constexpr uint64_t kSimEmptyState = 0x9e3779b97f4a7c15ull;

// Records the first broken rule in error() instead of aborting, so that a simulation can name its
// seed, and fails every Collect from then on.
class SimExecutable final : public Executable {
 public:
  explicit SimExecutable(const SimModel& model);

  const ExecutableInfo& info() const override { return info_; }
  absl::Status CreateSlots(int32_t count) override;
  absl::Status Launch(const StepTable& table) override;
  absl::Status SupplyRules(absl::Span<const SampleRules* const> rules) override;
  absl::Status Collect(StepOutput& output) override;
  absl::Status ClearSlots(absl::Span<const int32_t> slots) override;
  absl::Status CopySlots(absl::Span<const SlotCopy> copies) override;
  absl::Status ExportSlot(int32_t slot, int64_t position, absl::Span<std::byte> image) override;
  absl::Status ImportSlot(int32_t slot, int64_t position,
                          absl::Span<const std::byte> image) override;

  const std::string& error() const { return error_; }
  // Launch number `step` (from 0) fails as a device does; -1: never.
  void FailAt(int64_t step) { fail_at_ = step; }

 private:
  struct Slot {
    uint64_t state = kSimEmptyState;
    uint64_t before = kSimEmptyState;  // without the last token: the spare one
    int64_t position = -1;             // -1: never cleared, must not be used
  };

  // A draw whose rules are to come.
  struct LateDraw {
    size_t sample;
    SampleRow row;
    uint64_t state;
  };

  void Require(bool condition, const std::string& what);
  void RunSpan(const StepTable& table, const Span& span, std::vector<uint64_t>& row_state);

  const SimModel model_;
  ExecutableInfo info_;
  std::vector<Slot> slots_;
  void Draw(const SampleRow& sample, uint64_t state, const SampleRules* rules, size_t index,
            StepOutput& output) const;

  std::vector<int32_t> previous_ids_;  // kVoidId where nobody wanted the draw
  std::vector<LateDraw> late_;         // of the step launched last
  std::deque<StepOutput> uncollected_;
  std::string error_;
  int64_t launches_ = 0;
  int64_t fail_at_ = -1;
};

}  // namespace based

#endif  // BASED_TESTS_SIM_SIM_EXECUTABLE_H_
