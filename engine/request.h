// What a client asks of the engine and what it hears back: plain structs, no proto, no threads.
//
// Words used everywhere:
//   request   a client's ask                  sequence  its life inside the engine
//   slot      index of one recurrent state    step      one forward pass of a ragged batch
//   prefill   feeding prompt tokens           decode    feeding the token just drawn
//   chunk     the part of a prompt in one step
//   token budget  most tokens in one step     TTFT, ITL time to first token, inter-token latency
#ifndef BASED_ENGINE_REQUEST_H_
#define BASED_ENGINE_REQUEST_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/held_slots.h"
#include "kernels/sampling.h"

namespace based {

using Clock = std::chrono::steady_clock;
using RequestId = uint64_t;

// Field names are those of the proto; defaults are what an unset proto field means.
struct SamplingParams {
  float temperature = 1.0f;         // [0, 100]; 0 is greedy
  int32_t top_k = 0;                // 0: off
  float top_p = 1.0f;               // (0, 1]
  float min_p = 0.0f;               // [0, 1]
  float typical_p = 1.0f;           // (0, 1]
  float repetition_penalty = 1.0f;  // (0, 10]; counts prompt and output
  float presence_penalty = 0.0f;    // [-10, 10]; counts the output
  float frequency_penalty = 0.0f;   // [-10, 10]; counts the output
  std::vector<TokenBias> logit_bias;
  std::vector<std::string> bad_words;      // text; needs a tokenizer
  std::vector<int32_t> allowed_token_ids;  // empty: all
  std::optional<uint64_t> seed;            // chosen by the engine and reported when absent
};

struct StopConditions {
  int64_t max_tokens = 256;          // at least 1
  std::vector<std::string> strings;  // UTF-8
  std::vector<int32_t> token_ids;
  bool ignore_eos = false;
  int64_t min_tokens = 0;     // draws before end-of-text or a stop may end it
  bool include_stop = false;  // the stop is part of the output
};

struct OutputOptions {
  static constexpr int32_t kMaxTokensPerMessage = 65'536;

  bool text = true;  // needs a tokenizer
  bool token_ids = false;
  bool logprobs = false;                        // of generated tokens
  int32_t top_logprobs = 0;                     // alternatives of every token that has a logprob
  bool echo = false;                            // the prompt before each completion
  bool prompt_logprobs = false;                 // of the prompt's tokens
  int32_t tokens_per_message = 0;               // merge this many tokens into a Delta; 0: no rule
  std::chrono::milliseconds delta_interval{0};  // merge what comes in this time; 0: no rule
};

// A session that a request goes on from and that keeps the state afterwards; see session_store.h.
struct SessionAsk {
  std::string id;  // as CheckSessionId has it; empty: none
  bool create = false;
  std::optional<int64_t> tokens;  // that the session must hold
};

// What the generated text must be; see deploy/docs/structured_output.md.
struct ConstraintAsk {
  enum class Kind : uint8_t { kNothing, kJsonSchema, kJson, kRegex, kChoice, kGrammar };
  Kind kind = Kind::kNothing;
  std::string text;                  // the schema, expression or grammar
  std::vector<std::string> choices;  // kChoice
  std::string field;                 // what messages call it; empty: its name in the proto
};

enum class Priority : uint8_t {
  kInteractive,
  kBatch,  // fills what interactive work leaves
};

// Ids that are scored as what follows others: their text is the prompt (the first continuation), or
// what an earlier one's begins with (the others), and these ids.
struct Continuation {
  std::vector<int32_t> ids;  // at least one
  int32_t parent = 0;        // index of the earlier one
  // Tokens of its text; more than it shares with its own parent, fewer than it has. 0: the prompt.
  int64_t shared = 0;
  int64_t unscored = 0;  // of `ids`, from the first; fewer than there are
};

// The prompt as text or as ids; exactly one is used. Empty (after tokenizing) starts from bos.
struct Request {
  std::string request_id;  // for logs; made by the caller
  bool prompt_is_text = true;
  std::string prompt_text;
  std::vector<int32_t> prompt_token_ids;
  SamplingParams sampling;
  StopConditions stop;
  OutputOptions output;
  int32_t n = 1;        // completions returned
  int32_t best_of = 1;  // completions drawn, at least n
  std::string tenant;   // one of Engine::SetTenants; empty: the default tenant
  Priority priority = Priority::kInteractive;
  SessionAsk session;
  ConstraintAsk constraint;
  std::shared_ptr<HeldSlots> held_slots;  // told of the slots that the request holds; may be null
  // Not empty: nothing is generated, and n and best_of are not read. The ids of each of these are
  // scored, and what their texts share is computed once, unless too few slots are left to keep its
  // state: the sink hears of the ids in Delta::prompt_logprobs under their continuation's index,
  // then of its end as of a completion's.
  std::vector<Continuation> continuations;
  Clock::time_point deadline = Clock::time_point::max();
};

enum class FinishReason : uint8_t {
  kEndOfText,  // the model drew eos_token_id
  kStopString,
  kStopToken,
  kMaxTokens,
  kConstraint,  // the text is whole: the constraint lets nothing follow
};

struct Started {
  uint64_t seed = 0;
  int64_t prompt_tokens = 0;                    // with a session, of the whole conversation
  int64_t reused_tokens = 0;                    // of those, in the session's state: not computed
  std::chrono::milliseconds predicted_wait{0};  // for a slot, at admission
};

struct TokenLogprob {
  int32_t token_id = -1;
  double logprob = 0;
  std::vector<TokenScore> alternatives;  // most likely first
  bool most_likely = false;              // only told of continuations
};

// Text and ids that came of one or more decode steps. Text is valid UTF-8, never half a character;
// text that may turn out to be part of a stop string is held back until it cannot.
struct Delta {
  std::string text;
  std::vector<int32_t> token_ids;
  int32_t tokens = 0;                         // generated tokens that this delta accounts for
  int32_t index = 0;                          // of the completion
  std::vector<TokenLogprob> logprobs;         // one per generated token
  std::vector<TokenLogprob> prompt_logprobs;  // of prompt tokens in order, across deltas
  bool ends = false;                          // OnFinished follows at once
};

struct Timings {
  std::chrono::nanoseconds queue{0};    // Submit until it took a slot
  std::chrono::nanoseconds prefill{0};  // from there to the first generated token
  std::chrono::nanoseconds decode{0};   // from there to the last
  // Computed of the prompt, once for all completions; of a continuation all that was for it.
  int64_t prefill_tokens = 0;
  int64_t decode_tokens = 0;  // drawn in `decode`: all but the first
};

struct Finished {
  FinishReason reason = FinishReason::kMaxTokens;
  std::string stop_string;       // the one that matched, with kStopString
  int32_t stop_token_id = -1;    // the one drawn, with kStopToken or kEndOfText
  int64_t prompt_tokens = 0;     // as Started has it
  int64_t reused_tokens = 0;     // as Started has it
  int64_t generated_tokens = 0;  // drawn and counted, the ending token included
  Timings timings;
  int32_t index = 0;              // of the completion
  double cumulative_logprob = 0;  // of the generated tokens, where logprobs were asked for
  int64_t session_tokens = 0;     // that the session holds now; 0 without one
  uint64_t seed = 0;              // that the completion was drawn with
};

// Where a request's output goes. All calls come from one delivery thread, in the order
// OnStarted, OnDelta..., then exactly one of OnFinished or OnError, and must not block. A request
// for n completions hears OnChoiceFinished of n - 1 of them, in the order of their ends, and
// OnFinished of the last; Delta::index tells them apart.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  virtual void OnStarted(const Started& started) = 0;
  // The first token of any of its completions is there; the Delta that carries it may come later.
  virtual void OnFirstToken() {}
  // Returns false when the sink's bounded queue is full: the sequence is then ended and OnError
  // follows with RESOURCE_EXHAUSTED (a slow reader hurts only itself).
  virtual bool OnDelta(Delta delta) = 0;
  virtual void OnChoiceFinished(const Finished&) {}
  virtual void OnFinished(const Finished& finished) = 0;
  // CANCELLED, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNAVAILABLE (draining) or INTERNAL.
  virtual void OnError(const absl::Status& status) = 0;
};

}  // namespace based

#endif  // BASED_ENGINE_REQUEST_H_
