// Between the scheduler and the measured cost of its steps: what it may plan, what that took, and
// its load as admission wants it.
#ifndef BASED_ENGINE_ENGINE_LOAD_H_
#define BASED_ENGINE_ENGINE_LOAD_H_

#include "engine/load.h"
#include "engine/observer.h"
#include "engine/scheduler.h"
#include "engine/step_cost.h"

namespace based {

// What prompts and batch work may take of the step planned next.
void LimitStep(const StepCost& cost, Scheduler& scheduler);

// What a plan holds.
StepStats StatsOf(const StepPlan& plan);

// A step that ran for so long.
void ObserveStep(const StepStats& stats, Clock::duration ran, StepCost& cost);

EngineLoad MeasureLoad(const Scheduler& scheduler, const StepCost& cost);

}  // namespace based

#endif  // BASED_ENGINE_ENGINE_LOAD_H_
