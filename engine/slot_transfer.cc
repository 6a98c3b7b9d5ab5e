#include "engine/slot_transfer.h"

#include <algorithm>

#include "absl/types/span.h"
#include "kernels/base/status.h"

namespace based {

absl::Status PrepareSlots(const StepPlan& plan, Executable& executable, Observer* observer) {
  for (const SlotTransfer& park : plan.parks) {
    const Clock::time_point begin = Clock::now();
    park.image->resize(static_cast<size_t>(executable.info().image_bytes));
    BASED_RETURN_IF_ERROR(
        executable.ExportSlot(park.slot, park.position, absl::MakeSpan(*park.image)));
    if (observer != nullptr) observer->OnStateSaved(Clock::now() - begin);
  }
  if (!plan.clear_slots.empty()) {
    BASED_RETURN_IF_ERROR(executable.ClearSlots(plan.clear_slots));
  }
  for (const std::vector<SlotTransfer>* transfers : {&plan.resumes, &plan.restores}) {
    for (const auto& [slot, position, image] : *transfers) {
      const Clock::time_point begin = Clock::now();
      BASED_RETURN_IF_ERROR(executable.ImportSlot(slot, position, *image));
      if (observer != nullptr) observer->OnStateRestored(Clock::now() - begin);
    }
  }
  if (observer != nullptr && plan.parks.size() + plan.resumes.size() > 0) {
    observer->OnParks(static_cast<int32_t>(plan.parks.size()),
                      static_cast<int32_t>(plan.resumes.size()));
  }
  return plan.copies.empty() ? absl::OkStatus() : executable.CopySlots(plan.copies);
}

absl::Status KeepSessions(const std::vector<KeptState>& kept, Executable& executable,
                          Observer* observer) {
  for (const KeptState& state : kept) {
    const Clock::time_point begin = Clock::now();
    const SlotTransfer& from = state.from;
    BASED_RETURN_IF_ERROR(state.session->Keep(
        from.position, state.tail, state.tokens, [&](absl::Span<std::byte> image) {
          if (from.image == nullptr) return executable.ExportSlot(from.slot, from.position, image);
          std::copy(from.image->begin(), from.image->end(), image.begin());
          return absl::OkStatus();
        }));
    if (observer != nullptr) observer->OnStateSaved(Clock::now() - begin);
  }
  return absl::OkStatus();
}

}  // namespace based
