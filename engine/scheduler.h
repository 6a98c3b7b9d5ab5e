// Which tokens of which sequences go into the next step. A pure state machine: Submit, Cancel,
// Plan, Commit; no thread, clock, lock or I/O, so that a simulator can drive it for millions of
// steps.
//
// Life of a sequence: queued -> prefilling (holds a slot) -> decoding -> ended. Its slot is free
// again when the steps in flight that hold it have been committed.
//
// Rules
//   Admission  a free slot goes to the tenant whose turn it is (FairQueue), FIFO within a tenant.
//              Batch work takes slots that no interactive work waits for, less reserved_slots
//              (forks too, but for one slot where a request for several needs a second).
//   Parking    when all slots are held, a sequence may have to wait again with its state kept in
//              memory: one of batch work for interactive work, and one of a tenant that holds more
//              than its share of slots for a tenant that is behind its share of tokens and slots.
//              It goes on bit for bit where it was. Nothing is computed twice.
//   Decode     every decoding sequence gets one row, in turns when there are more than rows; batch
//              sequences take the rows that interactive ones leave.
//   Beside     while interactive work runs, and for some steps after, batch work takes no more than
//              batch_rows of a step, so that it cannot stretch the inter-token latency of the
//              others: decodes by turns, and in every second step or more rarely prompts first. So
//              each of B decoding batch sequences has a row within 2 B / batch_rows steps, but for
//              steps that interactive work fills.
//   Prefill    takes what is left of the token budget: interactive before batch, tenants that are
//              behind their share before others, those by turns. A prompt that does not end in the
//              step takes at most half of what is left while others wait behind it, so that one
//              long prompt cannot hold up short ones. Beside decodes it is held to
//              mixed_prefill_tokens, or to more where all that runs is batch work, so that it
//              cannot stretch their inter-token latency; while it waits, decodes leave it a quarter
//              of the budget and a sixteenth of the spans.
//   Aging      batch work that has waited longer than batch_patience is interactive from then on,
//              and what was parked for so long is not parked again.
//   Forks      a request for n completions is one queued sequence until its prompt is fed but for
//              the last token. That slot is then the source that the others are copied from, one as
//              each slot comes free, before anything queued is admitted; the last completion takes
//              the source itself. While it waits a source holds a slot and waits for another, so at
//              most all slots but one are sources: one more is not admitted, and the requests
//              behind it wait too. So there is always a slot that is free or will be.
//              Continuations are forks of each other: one is held up where others begin as it does,
//              a source until all of them have started. One that others are to fork from in turn is
//              a source from its start; where there may be no more of those, its own forks are made
//              where it is made itself, and compute again what they have in common beyond.
//   Scoring    prompt rows whose logprobs are asked for take their share of max_samples.
//   Forced     tokens that a constraint leaves no choice of are counted as drawn together with the
//              one before them, and fed with it in one span. The rows beyond its first are prefill:
//              they share what prompts may take beside decodes.
//   Sessions   a sequence may start from a session's state and leave its own there (TakeKept) when
//              it draws its end; what else ends it leaves the session as it was.
//   Pipelining Plan may run while one earlier step is uncommitted: a decode's input id is then
//              taken on the device from that step (kTokenFromPrevious). Where sampling rules
//              depend on what was drawn (DrawRules::needs_history), they are late (LateRules). When
//              the draw before shows that there is none to make, since the sequence ended or forced
//              tokens follow, the draw is void; the token before it has been fed all the same.
//              Where the device takes no late rules, and where forced tokens are frequent, such a
//              sequence sits out until its draw is known; where a quarter or more would, nothing is
//              planned until then.
#ifndef BASED_ENGINE_SCHEDULER_H_
#define BASED_ENGINE_SCHEDULER_H_

#include <algorithm>
#include <cstddef>
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
#include "engine/drawn_shares.h"
#include "engine/fair_queue.h"
#include "engine/load.h"
#include "engine/request.h"
#include "engine/session_store.h"
#include "engine/slot_pool.h"
#include "engine/text_stop.h"
#include "kernels/backend.h"

namespace based {

struct SchedulerOptions {
  int32_t slots = 1;
  int32_t token_budget = 512;  // most rows of a step, at least 2
  int32_t max_spans = 256;     // most sequences in a step, at least 2
  int32_t max_samples = 256;   // most rows of a step with logits, at least max_spans
  // Most prefill tokens in a step that also decodes; 0: as many as it has decodes, at least 32.
  int32_t mixed_prefill_tokens = 0;
  // Most rows of batch work in a step beside interactive work; 0: as many as that has decodes, at
  // least 1.
  int32_t batch_rows = 0;
  int32_t reserved_slots = 0;  // batch work leaves so many free
  int32_t max_parked = 0;      // sequences parked at a time; 0: none is
  Clock::duration batch_patience = std::chrono::seconds(60);
  int64_t burst_tokens = 16'384;  // see FairQueue
  bool late_rules = false;        // the device takes them
};

// What the scheduler needs to know of a request.
struct SequenceSpec {
  RequestId id = 0;
  std::vector<int32_t> prompt;  // at least one token
  SampleParams sampling;        // position is filled in per draw; completion i adds i to seed
  std::shared_ptr<const RuleSpec> rules;  // null: none
  int64_t max_tokens = 1;                 // 0: only scores the prompt, of at least two tokens
  // Null, or what is scored: max_tokens is 0 then, completions the number of these, score_from that
  // of the first, and the prompt at least one token. `shared` is 0 of the first alone.
  std::shared_ptr<const std::vector<Continuation>> continuations;
  // 1 to the number of slots; of continuations, to 64 where there is more than one slot.
  int32_t completions = 1;
  bool logprobs = false;     // of drawn tokens
  int32_t top_logprobs = 0;  // alternatives with each logprob; at most vocab_size
  // Prompt tokens from this index on, at least 1, are scored.
  int64_t score_from = std::numeric_limits<int64_t>::max();
  int32_t eos_token_id = kNone;  // kNone: never ends at end-of-text
  std::vector<int32_t> stop_token_ids;
  Clock::time_point deadline = Clock::time_point::max();
  int32_t tenant = 0;  // index
  double weight = 1;   // of the tenant
  bool batch = false;  // gives way to what is not
  Clock::time_point submitted;
  std::shared_ptr<const void> lease;      // dropped when the request has ended
  std::shared_ptr<HeldSlots> held_slots;  // null: nobody looks
  // Null: it starts from an empty state, which nobody keeps. Else completions is 1, max_tokens is
  // not 0, `prompt` follows the image's tokens and score_from counts from their first.
  std::shared_ptr<SessionLease> session;
  std::vector<int32_t> history;  // ids in the image, for `rules`
  bool include_stop = false;     // the session keeps the token that ended the completion
  // Null: whoever hears the tokens looks for stop strings, and knows of one some steps later.
  std::shared_ptr<TextStop> text_stop;
};

// What a request may take in all.
QueueLoad CostOf(const SequenceSpec& spec);

// Makes `spec`, whose prompt is set, one that scores these: at least one, as CheckContinuations has
// them.
void SetContinuations(std::vector<Continuation> continuations, SequenceSpec& spec);

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
  int64_t fed = 0;                     // tokens computed for a continuation that finished
};

struct SlotTransfer {
  int32_t slot = 0;
  int64_t position = 0;  // tokens in the state
  std::shared_ptr<StateImage> image;
};

// What is to be done before the step, in this order: parks, clear_slots, resumes, restores, copies.
struct StepPlan {
  StepTable table;
  std::vector<SlotTransfer> parks;     // slot to image
  std::vector<int32_t> clear_slots;    // newly taken
  std::vector<SlotTransfer> resumes;   // image to slot
  std::vector<SlotTransfer> restores;  // a session's image to slot
  std::vector<SlotCopy> copies;
  int32_t decode_tokens = 0;
  int32_t prefill_tokens = 0;
  int32_t forced_rows = 0;          // of prefill_tokens
  int32_t interactive_decodes = 0;  // of decode_tokens
  int32_t batch_rows = 0;           // of both, those of batch work
  int32_t deferred_rows = 0;        // decodes of batch work left out for interactive work

  bool empty() const { return table.spans.empty(); }
};

// The state that a sequence leaves to its session.
struct KeptState {
  std::shared_ptr<SessionLease> session;
  SlotTransfer from;              // a slot, which may hold a token more; kNone: a park's image
  int32_t tail = kNone;           // drawn last and not fed
  std::vector<int32_t> tokens{};  // that the session did not hold before
};

// Interactive sequences that take rows.
struct InteractiveWork {
  int32_t decoding = 0;
  int32_t prefilling = 0;

  bool any() const { return decoding + prefilling > 0; }
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

  // Replaces SchedulerOptions::mixed_prefill_tokens for the steps planned from now on; 0: none.
  void SetMixedPrefill(int32_t tokens) { mixed_prefill_tokens_ = tokens; }

  // Replaces SchedulerOptions::batch_rows for the steps planned from now on; 0: none beside
  // interactive decodes. Prompts go first in one step of `prompts_every`, at least 2.
  void SetBatchRows(int32_t rows, int32_t prompts_every = 2) {
    batch_rows_ = rows;
    batch_prompts_every_ = prompts_every;
  }

  // Takes what the oldest planned step drew, aligned with its samples.
  void Commit(const StepOutput& output, std::vector<SchedulerEvent>& events);

  // The late rules of the step in flight, for Executable::SupplyRules: once after each Commit, and
  // before anything else that takes the device's time, since the step waits for them. Valid until
  // the next call.
  std::vector<const SampleRules*> LateRules();

  // What sequences that ended in the latest Commit leave to their sessions. The slots named hold it
  // until the next Plan; it is to be taken out before their events are told.
  std::vector<KeptState> TakeKept() { return std::exchange(kept_, {}); }

  // Forgets the steps in flight: the device that ran them is gone. REQUIRES: CancelAll before.
  void Abandon();

  int32_t queued() const { return queue_.size(); }
  int32_t parked() const { return static_cast<int32_t>(parked_.size()); }
  // States in host memory, those that are kept for the next to be parked included.
  int32_t park_images() const { return images_made_; }
  // Without what is measured.
  EngineLoad load() const;
  int32_t most_rows() const { return std::min(options_.token_budget, options_.max_spans); }
  // Tokens planned for each tenant, by index.
  const std::vector<int64_t>& served() const { return served_; }
  int32_t running() const {
    return static_cast<int32_t>(prefilling_.size() + decoding_.size() + sources_.size());
  }
  // Tokens that came without a draw, so far.
  int64_t forced_tokens() const { return forced_tokens_; }
  // Requests that hold a slot and have completions left to start.
  int32_t pending_sources() const { return pending_sources_; }
  int32_t prefilling() const { return static_cast<int32_t>(prefilling_.size()); }
  int32_t decoding() const { return static_cast<int32_t>(decoding_.size()); }
  // Of these, what is interactive.
  InteractiveWork interactive() const;
  bool idle() const { return sequences_.empty(); }
  const SlotPool& slots() const { return slots_; }

 private:
  struct Sequence;
  using Completions = absl::InlinedVector<std::unique_ptr<Sequence>, 1>;  // of one request
  struct Sampled {
    Sequence* sequence;
    int32_t target;  // prompt token that is scored; kNone: a draw
    bool has_late_rules = false;
    bool is_void = false;  // the draw is not to be made, though the sequence goes on
  };
  struct InFlight {
    std::vector<Sequence*> members;  // one per span
    std::vector<Sampled> samples;    // as the table's
  };

  struct Tenant {
    double weight = 1;
    int32_t live = 0;  // requests
    int32_t slots = 0;
  };

  Tenant& TenantOf(const Sequence& sequence);
  void TakeSlot(Sequence& sequence);
  void GiveSlot(Sequence& sequence);
  void Admit(StepPlan& plan, std::vector<SchedulerEvent>& events);
  bool FillSlot(StepPlan& plan, std::vector<SchedulerEvent>& events);
  int32_t KeptFromForks() const;
  bool MayBecomeSource(bool yields) const;
  bool MayAdmit(const Sequence& sequence) const;
  void Enter(bool batch, StepPlan& plan, std::vector<SchedulerEvent>& events);
  void JoinPrefill(Sequence& sequence);
  bool MakeRoom(const Sequence& claimant, bool entitled, StepPlan& plan);
  bool MayPark(const Sequence& sequence) const;
  Sequence* Victim(const Sequence& claimant, bool entitled);
  std::vector<double> SlotExcess() const;
  void Park(Sequence& sequence, StepPlan& plan);
  Sequence* NextParked(bool yields);
  void Resume(Sequence& sequence, StepPlan& plan);
  void AgeIfDue(Sequence& sequence);
  bool Yields(Sequence& sequence);
  void CountServed(Sequence& sequence, int32_t tokens);
  void Settle(Sequence& sequence);
  SequenceLoad LoadOf(const Sequence& sequence, double batch_pace) const;
  double BatchPace() const;
  void StartForks(StepPlan& plan);
  void StartFork(Sequence& source, StepPlan& plan);
  void StartContinuation(Sequence& source, Sequence& fork);
  bool MayDraw(const Sequence& sequence) const;
  bool AwaitsDraws() const;
  void LimitBatch();
  int32_t BatchDecodes();
  void PlanDecodes(StepPlan& plan, InFlight& step);
  int32_t PlanDecode(Sequence& sequence, int32_t spare, StepPlan& plan, InFlight& step);
  int32_t PrefillBeside(int32_t decodes) const;
  bool OnlyBatchRuns() const;
  void PlanPrefills(StepPlan& plan, InFlight& step);
  int64_t PlanPrefillsOf(absl::Span<Sequence* const> waiting, int64_t budget, StepPlan& plan,
                         InFlight& step);
  static std::vector<int64_t> SharePrefill(absl::Span<Sequence* const> waiting, int64_t budget);
  int32_t SamplesLeft(const StepPlan& plan) const;
  void AddSpan(Sequence& sequence, int32_t length, StepPlan& plan, InFlight& step);
  void AddScores(Sequence& sequence, int32_t row, int32_t length, StepPlan& plan, InFlight& step);
  void AddDraw(Sequence& sequence, int32_t row, StepPlan& plan, InFlight& step);
  void LeavePrefill(Sequence& sequence);
  void CommitSample(const StepOutput& output, size_t sample, size_t top, const Sampled& sampled,
                    std::vector<SchedulerEvent>& events);
  static absl::Status NothingToDraw(Sequence& sequence);
  void CommitScore(Sequence& sequence, TokenLogprob scored, std::vector<SchedulerEvent>& events);
  void CommitToken(Sequence& sequence, SchedulerEvent event, std::vector<SchedulerEvent>& events);
  void JumpAhead(Sequence& sequence, std::vector<SchedulerEvent>& events);
  void VoidDraw(Sequence& sequence);
  bool CompletesStopString(const Sequence& sequence) const;
  void Finish(Sequence& sequence);
  void Restore(Sequence& sequence, StepPlan& plan);
  void End(Sequence& sequence);
  void Retire(Sequence& sequence);
  void ExpireDeadlines(Clock::time_point now, std::vector<SchedulerEvent>& events);

  const SchedulerOptions options_;
  int32_t mixed_prefill_tokens_;  // below 0: as many as decodes
  int32_t batch_rows_;            // below 0: as many as interactive decodes
  SlotPool slots_;
  absl::flat_hash_map<RequestId, Completions> sequences_;
  FairQueue queue_;
  std::vector<Tenant> tenants_;       // by index
  std::deque<Sequence*> prefilling_;  // by turns of tenants
  std::deque<Sequence*> decoding_;    // longest unserved first
  std::deque<Sequence*> sources_;     // prompt fed, completions left to start; oldest first
  std::deque<Sequence*> parked_;      // oldest first
  int32_t pending_sources_ = 0;       // admitted sequences with completions left to start
  std::deque<InFlight> in_flight_;    // oldest first; at most one while planning
  std::set<std::pair<Clock::time_point, RequestId>> deadlines_;  // of live sequences that have one
  uint64_t steps_planned_ = 0;
  uint64_t plans_ = 0;     // empty ones too
  Clock::time_point now_;  // of the latest plan

  // Of the latest plan.
  InteractiveWork interactive_;
  bool limits_batch_ = false;
  int32_t batch_limit_ = 0;          // rows
  int32_t batch_prompts_every_ = 2;  // steps
  int32_t batch_turns_ = 0;          // steps since batch prompts went first
  uint64_t calm_until_ = 0;          // number of the step from which batch work is not limited

  // Images not in use. One that a plan resumes from is in use until the next plan.
  std::vector<std::shared_ptr<StateImage>> spare_images_;
  std::vector<std::shared_ptr<StateImage>> resumed_images_;
  int32_t images_made_ = 0;

  std::vector<KeptState> kept_;
  int32_t yielding_slots_ = 0;   // held by sequences that yield
  std::vector<int64_t> served_;  // tokens by tenant
  int64_t forced_tokens_ = 0;
  DrawnShares drawn_;  // of sequences that ended
};

}  // namespace based

#endif  // BASED_ENGINE_SCHEDULER_H_
