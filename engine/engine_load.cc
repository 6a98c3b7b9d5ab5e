#include "engine/engine_load.h"

#include <algorithm>

namespace based {

void LimitStep(const StepCost& cost, Scheduler& scheduler) {
  const InteractiveWork interactive = scheduler.interactive();
  const InteractiveWork all = {scheduler.decoding(), scheduler.prefilling()};
  const InteractiveWork& work = interactive.any() ? interactive : all;
  scheduler.SetMixedPrefill(cost.PrefillBeside(std::max(1, work.decoding), work.prefilling));
  const int32_t decodes = std::max(1, interactive.decoding);
  const int32_t rows = cost.BatchBeside(decodes, interactive.prefilling);
  scheduler.SetBatchRows(rows, cost.BatchPromptsEvery(decodes, rows));
}

StepStats StatsOf(const StepPlan& plan) {
  return {.decode_tokens = plan.decode_tokens,
          .prefill_tokens = plan.prefill_tokens,
          .forced_rows = plan.forced_rows,
          .interactive_decodes = plan.interactive_decodes,
          .batch_rows = plan.batch_rows,
          .deferred_rows = plan.deferred_rows,
          .sequences = static_cast<int32_t>(plan.table.spans.size())};
}

void ObserveStep(const StepStats& stats, Clock::duration ran, StepCost& cost) {
  cost.Observe(stats.decode_tokens, stats.prefill_tokens,
               std::chrono::duration<double>(ran).count());
  cost.ObserveBatch(stats.interactive_decodes, stats.batch_rows);
}

EngineLoad MeasureLoad(const Scheduler& scheduler, const StepCost& cost) {
  EngineLoad load = scheduler.load();
  const int32_t rows = std::min(load.slots, scheduler.most_rows());
  // Sequences beyond the rows of a step take turns.
  load.step_seconds = cost.DecodeSeconds(rows) * load.slots / rows;
  load.one_row_seconds = cost.DecodeSeconds(1);
  load.prompt_seconds = cost.PrefillSeconds();
  load.most_step_seconds = cost.target();
  return load;
}

}  // namespace based
