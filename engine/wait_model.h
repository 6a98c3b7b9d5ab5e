// How long a request will wait for a slot, out of what steps have cost: the slots' next turns as
// SlotSimulation sees them, with what waits entering in the order of FairQueue.
//
// What waits is simulated once per load, when somebody asks, and goes on with what is admitted
// since; a question is then a search. Of large pools and queues one sequence of `every` stands for
// all, so that a simulation takes some tens of microseconds.
//
// Not known and not in it: what will arrive and pass the request, and what will be cancelled.
#ifndef BASED_ENGINE_WAIT_MODEL_H_
#define BASED_ENGINE_WAIT_MODEL_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/load.h"
#include "engine/slot_simulation.h"

namespace based {

class WaitModel {
 public:
  WaitModel() = default;
  WaitModel(const WaitModel&) = delete;  // the simulation refers to the load
  WaitModel& operator=(const WaitModel&) = delete;

  // What runs and waits now.
  void SetLoad(EngineLoad load);
  // Counts a request that waits since; `load` is of all its completions.
  void Queue(int32_t tenant, double weight, bool batch, const QueueLoad& load);
  const EngineLoad& load() const { return load_; }

  // Seconds until a request that comes now has a slot; nothing while costs are unknown. A tenant
  // that has little in the queue passes those that have much.
  std::optional<double> Predict(int32_t tenant, double weight, bool batch) const;
  // The same of an interactive request that has to wait behind all others.
  std::optional<double> PredictLast() const;

 private:
  // When a slot is free for those that wait, by turns, and for one behind all of them.
  struct Turns {
    std::vector<double> turns;
    std::vector<double> seconds;  // one more
  };

  bool HasRoom(bool batch) const;
  bool MayDisplace(int32_t tenant, double weight) const;
  const Turns& Interactive() const;
  const Turns& Batch() const;

  EngineLoad load_;
  // Of load_; made when asked for.
  mutable std::optional<SlotSimulation> simulation_;  // all interactive work has entered
  mutable Turns interactive_;
  mutable std::optional<Turns> batch_;
};

}  // namespace based

#endif  // BASED_ENGINE_WAIT_MODEL_H_
