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
//   Forks         a request for n completions is one queued sequence until its prompt is fed but
//   for
//                 the last token. That slot is then the source that the others are copied from, one
//                 as each slot comes free, before anything queued is admitted; the last completion
//                 takes the source itself. While it waits a source holds a slot and waits for
//                 another, so at most all slots but one are sources: one more is not admitted, and
//                 the requests behind it wait too. So there is always a slot that is free or will
//                 be.
//   Scoring       prompt rows whose logprobs are asked for take their share of max_samples.
//   Pipelining    Plan may run while one earlier step is uncommitted: a decode's input id is then
//   taken
//                 on the device from that step (kTokenFromPrevious). A sequence whose sampling
//                 rules depend on what it drew (DrawRules::needs_history) sits out until its draw
//                 is known.
#ifndef BASED_ENGINE_SCHEDULER_H_
#define BASED_ENGINE_SCHEDULER_H_

#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "engine/draw_rules.h"
#include "engine/request.h"
#include "engine/slot_pool.h"
#include "kernels/backend.h"

namespace based {

struct SchedulerOptions {
  int32_t slots = 1;
  int32_t token_budget = 512;  // most rows of a step, at least 2
  int32_t max_spans = 256;     // most sequences in a step, at least 2
  int32_t max_samples = 256;   // most rows of a step with logits, at least max_spans
  // Most prefill tokens in a step that also decodes; 0: as many as it has decodes, at least 32.
  int32_t mixed_prefill_tokens = 0;
};

// What the scheduler needs to know of a request.
struct SequenceSpec {
  RequestId id = 0;
  std::vector<int32_t> prompt;  // at least one token
  SampleParams sampling;        // position is filled in per draw; completion i adds i to seed
  std::shared_ptr<const RuleSpec> rules;  // null: none
  int64_t max_tokens = 1;                 // 0: only scores the prompt, of at least two tokens
  // Each is scored as what follows the prompt. Where there are any, max_tokens is 0, completions
  // is their number and score_from the length of the prompt, of at least one token.
  std::vector<std::vector<int32_t>> continuations;
  int32_t completions = 1;                // 1 to the number of slots
  bool logprobs = false;                  // of drawn tokens
  int32_t top_logprobs = 0;               // alternatives with each logprob; at most vocab_size
  // Prompt tokens from this index on, at least 1, are scored.
  int64_t score_from = std::numeric_limits<int64_t>::max();
  int32_t eos_token_id = kNone;  // kNone: never ends at end-of-text
  std::vector<int32_t> stop_token_ids;
  Clock::time_point deadline = Clock::time_point::max();
};

struct SchedulerEvent {
  enum class Kind : uint8_t {
    kStarted,   // took a slot
    kPrompt,    // `logprobs` of the next prompt tokens, or of those of continuation `index`
    kToken,     // drew `token`
    kFinished,  // completion `index` drew `token` (kNone: only scored), which ended it for `reason`
    kEnded,     // the request ended without finishing: `status`
  };
  RequestId id = 0;
  Kind kind = Kind::kToken;
  int32_t token = kNone;
  FinishReason reason = FinishReason::kMaxTokens;
  absl::Status status;
  int32_t index = 0;                   // of the completion
  std::vector<TokenLogprob> logprobs;  // of `token`, if asked for
};

struct StepPlan {
  StepTable table;
  std::vector<int32_t> clear_slots;  // to be cleared before the step: newly taken
  std::vector<SlotCopy> copies;      // to be made after that and before the step
  int32_t decode_tokens = 0;
  int32_t prefill_tokens = 0;

  bool empty() const { return table.spans.empty(); }
};

class Scheduler {
 public:
  explicit Scheduler(const SchedulerOptions& options);
  ~Scheduler();

  // REQUIRES: id unused and the spec within the bounds that it states.
  void Submit(SequenceSpec spec);

  // Ends the request with `status`; nothing happens for unknown or ended ids.
  void Cancel(RequestId id, const absl::Status& status, std::vector<SchedulerEvent>& events);

  // Ends one completion that needs no more tokens, without an event; its request lives on while it
  // has others.
  void Stop(RequestId id, int32_t index);

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
  int32_t running() const {
    return static_cast<int32_t>(prefilling_.size() + decoding_.size() + sources_.size());
  }
  // Requests that hold a slot and have completions left to start.
  int32_t pending_sources() const { return pending_sources_; }
  int32_t decoding() const { return static_cast<int32_t>(decoding_.size()); }
  bool idle() const { return sequences_.empty(); }
  const SlotPool& slots() const { return slots_; }

 private:
  struct Sequence;
  using Completions = absl::InlinedVector<std::unique_ptr<Sequence>, 1>;  // of one request
  struct Sampled {
    Sequence* sequence;
    int32_t target;  // prompt token that is scored; kNone: a draw
  };
  struct InFlight {
    std::vector<Sequence*> members;  // one per span
    std::vector<Sampled> samples;    // as the table's
  };

  bool MayAdmit(const Sequence& sequence) const;
  void Admit(StepPlan& plan, std::vector<SchedulerEvent>& events);
  void StartForks(StepPlan& plan);
  void StartFork(Sequence& source, StepPlan& plan);
  void PlanDecodes(StepPlan& plan, InFlight& step);
  void PlanPrefills(StepPlan& plan, InFlight& step);
  static std::vector<int64_t> SharePrefill(const std::deque<Sequence*>& waiting, int64_t budget);
  int32_t SamplesLeft(const StepPlan& plan) const;
  void AddSpan(Sequence& sequence, int32_t length, StepPlan& plan, InFlight& step);
  void AddScores(Sequence& sequence, int32_t row, int32_t length, StepPlan& plan, InFlight& step);
  void AddDraw(Sequence& sequence, int32_t row, StepPlan& plan, InFlight& step);
  void LeavePrefill(Sequence& sequence);
  void CommitSample(const StepOutput& output, size_t sample, size_t top, const Sampled& sampled,
                    std::vector<SchedulerEvent>& events);
  void CommitScore(Sequence& sequence, TokenLogprob scored, std::vector<SchedulerEvent>& events);
  void CommitToken(Sequence& sequence, SchedulerEvent event, std::vector<SchedulerEvent>& events);
  void End(Sequence& sequence);
  void Retire(Sequence& sequence);
  void ExpireDeadlines(Clock::time_point now, std::vector<SchedulerEvent>& events);

  const SchedulerOptions options_;
  int32_t mixed_prefill_tokens_;
  SlotPool slots_;
  absl::flat_hash_map<RequestId, Completions> sequences_;
  std::deque<Sequence*> queue_;       // FIFO
  std::deque<Sequence*> prefilling_;  // by admission
  std::deque<Sequence*> decoding_;    // longest unserved first
  std::deque<Sequence*> sources_;     // prompt fed, completions left to start; oldest first
  int32_t pending_sources_ = 0;       // admitted sequences with completions left to start
  std::deque<InFlight> in_flight_;    // oldest first; at most one while planning
  std::set<std::pair<Clock::time_point, RequestId>> deadlines_;  // of live sequences that have one
  uint64_t steps_planned_ = 0;
};

}  // namespace based

#endif  // BASED_ENGINE_SCHEDULER_H_
