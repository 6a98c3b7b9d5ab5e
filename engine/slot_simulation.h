// When slots will be free: what runs and what enters, played forward over the measured cost of
// steps. Pure arithmetic.
//
// Time passes in decode steps, a token for each sequence that decodes; a step's cost is a line in
// their number. Prompts are fed one after another, beside decodes for as long a part of each step
// as StepCost lets them. A sequence ends when it has drawn what DrawnShares says, sequence by
// sequence another quantile, so that ends spread as they do.
#ifndef BASED_ENGINE_SLOT_SIMULATION_H_
#define BASED_ENGINE_SLOT_SIMULATION_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/load.h"

namespace based {

class SlotSimulation {
 public:
  // What runs in `load`, which must outlive the simulation. `parked` of its batch sequences, the
  // latest, have made room.
  SlotSimulation(const EngineLoad& load, int32_t parked);

  // Plays on until a slot is free; seconds from the beginning.
  double AwaitSlot();
  // A sequence takes its slots, one after another as they are free.
  void Enter(const SequenceLoad& sequence);
  // A slot stays free for others from now on.
  void Reserve();

 private:
  struct Prompt {
    double tokens = 0;  // to be fed
    double steps = 0;   // then drawn; below 0: its slot is held, until its forks have started
  };

  double StepSeconds() const;
  double PromptTokensOfStep(double step) const;
  void Advance();
  void EndFirst();
  void EndPrompt();
  // A sequence that has its slot.
  void Begin(int64_t prompt_tokens, double steps);
  void StartForks(const SequenceLoad& sequence, int32_t forks);
  double StepsOf(const SequenceLoad& sequence);

  const EngineLoad* load_;
  double seconds_ = 0;
  double steps_ = 0;  // of decoding
  int32_t free_ = 0;
  std::vector<double> ends_;  // of what decodes, in steps: a heap, the next first
  std::vector<Prompt> prompts_;
  size_t fed_ = 0;          // of prompts_
  uint32_t sequences_ = 0;  // that were given an end
};

}  // namespace based

#endif  // BASED_ENGINE_SLOT_SIMULATION_H_
