// What the engine has to do, between two steps: for predictions and the queue's limits.
#ifndef BASED_ENGINE_LOAD_H_
#define BASED_ENGINE_LOAD_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/drawn_shares.h"

namespace based {

// Of one request or of many.
struct QueueLoad {
  int32_t requests = 0;
  int64_t prompt_tokens = 0;
  int64_t output_tokens = 0;  // at most: max_tokens of every completion
  int32_t completions = 0;    // each takes a slot

  int64_t tokens() const { return prompt_tokens + output_tokens; }
  QueueLoad& operator+=(const QueueLoad& other) {
    requests += other.requests;
    prompt_tokens += other.prompt_tokens;
    output_tokens += other.output_tokens;
    completions += other.completions;
    return *this;
  }
  QueueLoad& operator-=(const QueueLoad& other) {
    requests -= other.requests;
    prompt_tokens -= other.prompt_tokens;
    output_tokens -= other.output_tokens;
    completions -= other.completions;
    return *this;
  }
};

// A sequence that holds a slot, or waits for one.
struct SequenceLoad {
  int64_t prompt_tokens = 0;  // to be fed
  int64_t output_tokens = 0;  // max_tokens of each completion
  int64_t drawn_tokens = 0;   // of these
  int32_t completions = 1;    // with those that are to be forked from it
  double pace = 1;            // steps for each token: more where it is left out of some
  bool batch = false;         // gives way to what is not
  double turn = 0;            // in the queue: whose is smallest is next (FairQueue)
};

struct TenantLoad {
  double weight = 1;
  QueueLoad interactive;  // what waits
  QueueLoad batch;
  bool is_live = false;           // has requests
  int32_t slots = 0;              // that it holds
  std::array<double, 2> turns{};  // of a request that comes now: interactive, batch
};

struct EngineLoad {
  int32_t slots = 1;
  int32_t free_slots = 0;
  int32_t reserved_slots = 0;  // batch work leaves so many free
  int32_t parkable = 0;        // sequences that make room for interactive requests
  int32_t park_room = 0;       // sequences that could be parked for tenants behind their share
  // Of `running`, `parked` and `waiting` one stands for so many.
  int32_t every = 1;
  std::vector<SequenceLoad> running;
  std::vector<SequenceLoad> parked;   // in the order in which they go on
  std::vector<SequenceLoad> waiting;  // of each tenant in order
  int32_t waiting_requests = 0;       // before one is chosen for `waiting`
  std::vector<TenantLoad> tenants;    // by index
  std::array<double, 2> now{};        // FairQueue's virtual times
  double burst_tokens = 0;            // see FairQueue
  DrawnShares drawn;
  // Measured; 0 while unknown.
  double step_seconds = 0;       // a decode step of all slots
  double one_row_seconds = 0;    // of one sequence
  double prompt_seconds = 0;     // what a prompt token adds to a step
  double most_step_seconds = 0;  // that prompts fill beside decodes; 0: no target
  int32_t row_budget = 1;        // most rows of a step

  // As many at most are simulated.
  static constexpr int32_t kMostSlots = 128;
  static constexpr int32_t kMostWaiting = 256;
  static int32_t EveryOf(int32_t slots, int32_t waiting) {
    const int32_t every = std::max((slots + kMostSlots - 1) / kMostSlots,
                                   (waiting + kMostWaiting - 1) / kMostWaiting);
    return std::clamp(every, 1, slots);
  }

  // All that waits.
  QueueLoad queued() const;
  // Of a request that comes now.
  double TurnOf(int32_t tenant, double weight, bool batch) const;
  // Counts a request that waits; `load` is of all its completions.
  void Queue(int32_t tenant, double weight, bool batch, const QueueLoad& load);
};

}  // namespace based

#endif  // BASED_ENGINE_LOAD_H_
