#include "engine/slot_transfer.h"

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
  for (const SlotTransfer& resume : plan.resumes) {
    const Clock::time_point begin = Clock::now();
    BASED_RETURN_IF_ERROR(executable.ImportSlot(resume.slot, resume.position, *resume.image));
    if (observer != nullptr) observer->OnStateRestored(Clock::now() - begin);
  }
  return plan.copies.empty() ? absl::OkStatus() : executable.CopySlots(plan.copies);
}

}  // namespace based
