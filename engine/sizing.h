// How many sequences live at once, from the memory there is, and how large a step may be.
#ifndef BASED_ENGINE_SIZING_H_
#define BASED_ENGINE_SIZING_H_

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/scheduler.h"

namespace based {

// RESOURCE_EXHAUSTED when memory does not hold the slots (the message gives both sizes),
// INVALID_ARGUMENT for options that contradict each other.
absl::StatusOr<SchedulerOptions> SizeEngine(const Model& model, const EngineOptions& options);

}  // namespace based

#endif  // BASED_ENGINE_SIZING_H_
