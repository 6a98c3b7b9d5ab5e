// Moves the states of parked sequences and of sessions between slots and host memory.
#ifndef BASED_ENGINE_SLOT_TRANSFER_H_
#define BASED_ENGINE_SLOT_TRANSFER_H_

#include <vector>

#include "absl/status/status.h"
#include "engine/observer.h"
#include "engine/scheduler.h"
#include "kernels/backend.h"

namespace based {

// Does to the slots what `plan` wants done before its step, all but the step. `observer` (may be
// null) hears of what was parked and resumed, and how long each copy took.
absl::Status PrepareSlots(const StepPlan& plan, Executable& executable, Observer* observer);

// Gives sessions the states that sequences leave to them; waits for the steps in flight. The
// sessions are free once `kept` is gone.
absl::Status KeepSessions(const std::vector<KeptState>& kept, Executable& executable,
                          Observer* observer);

}  // namespace based

#endif  // BASED_ENGINE_SLOT_TRANSFER_H_
