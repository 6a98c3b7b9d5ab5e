// The engine's front door: submit requests, get tokens through sinks. Thread-safe.
//
// One engine thread drains the inbox, asks the scheduler for a plan, drives the Executable and
// commits what came back; delivery threads detokenize and call sinks. Callers never block.
#ifndef BASED_ENGINE_ENGINE_H_
#define BASED_ENGINE_ENGINE_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/model.h"
#include "engine/observer.h"
#include "engine/request.h"
#include "engine/session_store.h"
#include "engine/tenant.h"

namespace based {

struct EngineOptions {
  int32_t slots = 0;  // 0: as many as memory_budget (or the device's free memory) holds
  // Bytes for weights, workspace and slots together; 0: see DefaultMemoryBudget.
  int64_t memory_budget = 0;
  int32_t token_budget = 0;  // most tokens in a step; 0: the model's compile-time maximum
  int32_t max_queue = 4096;  // requests waiting for a slot, inbox included
  // Prompt and output tokens waiting for a slot; one request may always wait.
  int64_t max_queue_tokens = int64_t{1} << 32;
  int32_t reserved_interactive_slots = 0;  // batch work leaves so many free
  int64_t park_memory = int64_t{1} << 30;  // host bytes for states of parked sequences, at most
  std::chrono::milliseconds batch_patience{60'000};  // batch work that waits longer is interactive
  std::chrono::milliseconds itl_target{0};           // see StepCost; 0: none
  int64_t session_memory = int64_t{1} << 30;  // host bytes for sessions, at most; 0: none are kept
  int32_t max_sessions_per_tenant = 0;        // 0: no limit but memory
  Clock::duration session_idle_limit = Clock::duration::max();
  int64_t max_prompt_tokens = 1'000'000;
  int64_t max_output_tokens = 1'000'000;
  int32_t max_stop_strings = 16;
  int32_t max_stop_string_bytes = 256;
  int32_t max_stop_token_ids = 64;
  int32_t delivery_threads = 0;  // 0: one per four cores, 1 to 4
};

// A consistent snapshot. slots_active + slots_free == slots_total.
struct Capacity {
  int32_t slots_total = 0;
  int32_t slots_active = 0;
  int32_t slots_free = 0;
  int64_t slot_bytes = 0;
  int64_t pool_bytes = 0;
  int64_t weight_bytes = 0;
  int64_t workspace_bytes = 0;
  int32_t queued_requests = 0;
  int32_t max_queue = 0;
  int32_t parked = 0;      // sequences
  int64_t park_bytes = 0;  // host memory of their states; what was taken is kept for others
  int64_t park_limit_bytes = 0;
  int64_t queued_tokens = 0;  // prompt and output, at most
  int64_t max_queue_tokens = 0;
  // For a slot, of an interactive request that came now, behind all that wait.
  std::chrono::milliseconds predicted_wait{0};
  int32_t token_budget = 0;
  int64_t max_prompt_tokens = 0;
  int64_t max_output_tokens = 0;
};

class Engine {
 public:
  virtual ~Engine() = default;

  // Sizes and makes the slot pool, starts the threads. RESOURCE_EXHAUSTED when memory does not hold
  // one slot (the message gives both sizes). `observer` may be null and must outlive the engine.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(std::unique_ptr<Model> model,
                                                        const EngineOptions& options,
                                                        Observer* observer);

  // Checks the request and queues it. On OK the sink will hear everything promised in TokenSink; on
  // an error it hears nothing:
  //   INVALID_ARGUMENT     names the proto field, its value and what was expected
  //   FAILED_PRECONDITION  text asked for or given, and the model has no tokenizer
  //   INVALID_ARGUMENT     the tenant is unknown
  //   RESOURCE_EXHAUSTED   the queue is full, or the tenant at a limit (see refusal.h)
  //   DEADLINE_EXCEEDED    the deadline has passed, or no token would come before it
  //   UNAVAILABLE          draining, or the device failed
  //   errors of SessionStore::Open
  virtual absl::StatusOr<RequestId> Submit(Request request, std::shared_ptr<TokenSink> sink) = 0;

  // The sequence ends with OnError(status) unless it has ended already; its slot is free once the
  // steps in flight retire. Unknown or ended ids are ignored.
  virtual void Cancel(RequestId id, absl::Status status) = 0;

  // Replaces the tenants and their limits; requests that were admitted go on as they were. While
  // only the default tenant exists, every request is its own. INVALID_ARGUMENT names the tenant and
  // the limit, and nothing is changed.
  virtual absl::Status SetTenants(std::vector<TenantLimits> tenants) = 0;
  // One entry per tenant, by name.
  virtual std::vector<TenantUse> tenants() const = 0;

  // Null: it keeps no sessions. Lives as long as the engine.
  virtual SessionStore* sessions() { return nullptr; }

  virtual Capacity capacity() const = 0;
  virtual const Model& model() const = 0;

  // Takes no more requests; waits until all have ended or `limit` passes, then ends the rest with
  // UNAVAILABLE. Returns true when nothing had to be cut. Idempotent.
  virtual bool Drain(std::chrono::milliseconds limit) = 0;

  // OK while serving; the device's error after a fatal fault.
  virtual absl::Status health() const = 0;
};

// What --memory_budget means when unset: on a GPU its free memory less a reserve, on a CPU a
// quarter of physical memory, at most 1 GiB beyond weights and workspace.
int64_t DefaultMemoryBudget(const ExecutableInfo& info);

}  // namespace based

#endif  // BASED_ENGINE_ENGINE_H_
