// Which tokens of which sequences go into the next step. A pure state machine: Submit, Cancel,
// Plan, Commit; no thread, clock, lock or I/O, so that a simulator can drive it for millions of
// steps.
//
// Life of a sequence: queued -> prefilling (holds a slot) -> decoding -> ended. Its slot is free
// again when the steps in flight that hold it have been committed.
//
// Rules
//   Admission     FIFO: the oldest queued sequence takes a free slot. Nothing admitted is ever
//   evicted. Decode first  every decoding sequence gets one row, in turns when there are more than
//   rows. Prefill       takes what is left of the token budget, oldest first, each sequence at most
//   half of
//                 what is left while others wait behind it, so that one long prompt cannot hold up
//                 short ones. Beside decodes it is held to mixed_prefill_tokens, so that it cannot
//                 stretch their inter-token latency; while it waits, decodes leave it a quarter of
//                 the budget.
//   Pipelining    Plan may run while one earlier step is uncommitted: a decode's input id is then
//   taken
//                 on the device from that step (kTokenFromPrevious).
#ifndef BASED_ENGINE_SCHEDULER_H_
#define BASED_ENGINE_SCHEDULER_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "engine/request.h"
#include "engine/slot_pool.h"
#include "kernels/backend.h"

namespace based {

struct SchedulerOptions {
  int32_t slots = 1;
  int32_t token_budget = 512;  // most rows of a step, at least 2
  int32_t max_spans = 256;     // most sequences in a step, at least 2
  // Most prefill tokens in a step that also decodes; 0: as many as it has decodes, at least 32.
  int32_t mixed_prefill_tokens = 0;
};

// What the scheduler needs to know of a request.
struct SequenceSpec {
  RequestId id = 0;
  std::vector<int32_t> prompt;     // at least one token
  SampleParams sampling;           // position is filled in per draw
  int64_t max_tokens = 1;          // at least 1
  int32_t eos_token_id = kNone;    // kNone: never ends at end-of-text
  std::vector<int32_t> stop_token_ids;
  Clock::time_point deadline = Clock::time_point::max();
};

struct SchedulerEvent {
  enum class Kind : uint8_t {
    kStarted,   // took a slot
    kToken,     // drew `token`
    kFinished,  // drew `token`, which ended it for `reason`
    kEnded,     // ended without finishing: `status`
  };
  RequestId id = 0;
  Kind kind = Kind::kToken;
  int32_t token = kNone;
  FinishReason reason = FinishReason::kMaxTokens;
  absl::Status status;
};

struct StepPlan {
  StepTable table;
  std::vector<int32_t> clear_slots;  // to be cleared before the step: newly taken
  int32_t decode_tokens = 0;
  int32_t prefill_tokens = 0;

  bool empty() const { return table.spans.empty(); }
};

class Scheduler {
 public:
  explicit Scheduler(const SchedulerOptions& options);
  ~Scheduler();

  // REQUIRES: id unused, prompt not empty, max_tokens >= 1.
  void Submit(SequenceSpec spec);

  // Ends the sequence with `status`; nothing happens for unknown or ended ids.
  void Cancel(RequestId id, const absl::Status& status, std::vector<SchedulerEvent>& events);

  // Ends every sequence with `status`.
  void CancelAll(const absl::Status& status, std::vector<SchedulerEvent>& events);

  // Ends sequences whose deadline is not after `now` (DEADLINE_EXCEEDED), then fills `plan` with
  // the next step. An empty plan is not launched and not committed.
  void Plan(Clock::time_point now, StepPlan& plan, std::vector<SchedulerEvent>& events);

  // Replaces SchedulerOptions::mixed_prefill_tokens for the steps planned from now on.
  void SetMixedPrefill(int32_t tokens) { mixed_prefill_tokens_ = tokens; }

  // Takes what the oldest planned step drew, aligned with its samples.
  void Commit(const StepOutput& output, std::vector<SchedulerEvent>& events);

  // Forgets the steps in flight: the device that ran them is gone. REQUIRES: CancelAll before.
  void Abandon();

  int32_t queued() const { return static_cast<int32_t>(queue_.size()); }
  int32_t running() const { return static_cast<int32_t>(prefilling_.size() + decoding_.size()); }
  int32_t decoding() const { return static_cast<int32_t>(decoding_.size()); }
  bool idle() const { return sequences_.empty(); }
  const SlotPool& slots() const { return slots_; }

 private:
  struct Sequence;
  struct InFlight {
    std::vector<Sequence*> members;  // one per span
    std::vector<Sequence*> drawing;  // one per sample
  };

  void Admit(StepPlan& plan, std::vector<SchedulerEvent>& events);
  void PlanDecodes(StepPlan& plan, InFlight& step);
  void PlanPrefills(StepPlan& plan, InFlight& step);
  static std::vector<int64_t> SharePrefill(const std::deque<Sequence*>& waiting, int64_t budget);
  void AddSpan(Sequence& sequence, int32_t length, StepPlan& plan, InFlight& step);
  void AddSample(Sequence& sequence, int32_t row, StepPlan& plan, InFlight& step);
  void CommitToken(Sequence& sequence, int32_t token, std::vector<SchedulerEvent>& events);
  void End(Sequence& sequence);
  void Retire(Sequence& sequence);
  void ExpireDeadlines(Clock::time_point now, std::vector<SchedulerEvent>& events);

  const SchedulerOptions options_;
  int32_t mixed_prefill_tokens_;
  SlotPool slots_;
  absl::flat_hash_map<RequestId, std::unique_ptr<Sequence>> sequences_;
  std::deque<Sequence*> queue_;       // FIFO
  std::deque<Sequence*> prefilling_;  // by admission
  std::deque<Sequence*> decoding_;    // longest unserved first
  std::deque<InFlight> in_flight_;    // oldest first; at most one while planning
  std::set<std::pair<Clock::time_point, RequestId>> deadlines_;  // of live sequences that have one
  uint64_t steps_planned_ = 0;
};

}  // namespace based

#endif  // BASED_ENGINE_SCHEDULER_H_
