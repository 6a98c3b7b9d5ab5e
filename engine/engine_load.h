// The scheduler's load and the measured cost of its steps, as admission wants them.
#ifndef BASED_ENGINE_ENGINE_LOAD_H_
#define BASED_ENGINE_ENGINE_LOAD_H_

#include "engine/scheduler.h"
#include "engine/step_cost.h"
#include "engine/wait_model.h"

namespace based {

EngineLoad MeasureLoad(const Scheduler& scheduler, const StepCost& cost);

}  // namespace based

#endif  // BASED_ENGINE_ENGINE_LOAD_H_
