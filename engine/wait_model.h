// How long a request will wait for a slot, out of what steps have cost. Pure arithmetic.
//
// Work ahead is what waits before the request: its prompt tokens at the measured cost of one beside
// decodes, its output tokens at the measured cost of a row in a full step, scaled by the share of
// max_tokens that requests have really drawn. A request that finds the pool full waits for the
// first slot too: of S sequences with R tokens left together, ends taken as uniform, the first ends
// after 2 R / S / (S + 1) steps.
#ifndef BASED_ENGINE_WAIT_MODEL_H_
#define BASED_ENGINE_WAIT_MODEL_H_

#include <cstdint>
#include <optional>
#include <vector>

namespace based {

struct QueueLoad {
  int32_t requests = 0;
  int64_t prompt_tokens = 0;
  int64_t output_tokens = 0;  // at most: max_tokens of every completion

  int64_t tokens() const { return prompt_tokens + output_tokens; }
  QueueLoad& operator+=(const QueueLoad& other) {
    requests += other.requests;
    prompt_tokens += other.prompt_tokens;
    output_tokens += other.output_tokens;
    return *this;
  }
  QueueLoad& operator-=(const QueueLoad& other) {
    requests -= other.requests;
    prompt_tokens -= other.prompt_tokens;
    output_tokens -= other.output_tokens;
    return *this;
  }
};

// What one tenant has in the queue.
struct TenantLoad {
  double weight = 1;
  QueueLoad interactive;
  QueueLoad batch;
};

// The engine between two steps.
struct EngineLoad {
  int32_t slots = 1;
  int32_t free_slots = 0;
  int32_t parkable = 0;             // running sequences that make room for interactive requests
  QueueLoad running;                // tokens left to those that run or are parked
  std::vector<TenantLoad> tenants;  // by index
  // Measured; 0 while unknown.
  double step_seconds = 0;    // a decode step of all slots
  double output_seconds = 0;  // one output token's part of a full step
  double prompt_seconds = 0;  // one prompt token
  double drawn_share = 1;     // of max_tokens

  QueueLoad queued() const;
  // Counts a request that waits.
  void Queue(int32_t tenant, double weight, bool batch, const QueueLoad& load);
};

// Seconds until a request takes a slot that stands behind what is queued now; nothing while costs
// are unknown. A tenant that has little in the queue passes those that have much.
std::optional<double> PredictWait(const EngineLoad& load, int32_t tenant, bool batch);

}  // namespace based

#endif  // BASED_ENGINE_WAIT_MODEL_H_
