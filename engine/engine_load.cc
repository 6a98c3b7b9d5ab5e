#include "engine/engine_load.h"

#include <algorithm>
#include <utility>

namespace based {

EngineLoad MeasureLoad(const Scheduler& scheduler, const StepCost& cost) {
  SchedulerLoad load = scheduler.load();
  const int32_t slots = scheduler.slots().total();
  const int32_t rows = std::min(slots, scheduler.most_rows());
  const double step = cost.DecodeSeconds(rows);
  return {.slots = slots,
          .free_slots = scheduler.slots().free(),
          .parkable = load.parkable,
          .running = load.running,
          .tenants = std::move(load.tenants),
          // Sequences beyond the rows of a step take turns.
          .step_seconds = step * slots / rows,
          .output_seconds = step / rows,
          .prompt_seconds = cost.PrefillSeconds(),
          .drawn_share = load.drawn_share};
}

}  // namespace based
