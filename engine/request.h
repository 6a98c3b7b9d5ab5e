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

namespace based {

using Clock = std::chrono::steady_clock;
using RequestId = uint64_t;

// Field names are those of the proto; defaults are what an unset proto field means.
struct SamplingParams {
  float temperature = 1.0f;      // [0, 100]; 0 is greedy
  int32_t top_k = 0;             // 0: off
  float top_p = 1.0f;            // (0, 1]
  float min_p = 0.0f;            // [0, 1]
  std::optional<uint64_t> seed;  // chosen by the engine and reported when absent
};

struct StopConditions {
  int64_t max_tokens = 256;          // at least 1
  std::vector<std::string> strings;  // UTF-8; not part of the output when matched
  std::vector<int32_t> token_ids;    // not part of the output when drawn
  bool ignore_eos = false;
};

struct OutputOptions {
  bool text = true;        // needs a tokenizer
  bool token_ids = false;
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
  Clock::time_point deadline = Clock::time_point::max();
};

enum class FinishReason : uint8_t {
  kEndOfText,   // the model drew eos_token_id
  kStopString,
  kStopToken,
  kMaxTokens,
};

struct Started {
  uint64_t seed = 0;
  int64_t prompt_tokens = 0;
};

// Text and ids that came of one or more decode steps. Text is valid UTF-8, never half a character;
// text that may turn out to be part of a stop string is held back until it cannot.
struct Delta {
  std::string text;
  std::vector<int32_t> token_ids;
  int32_t tokens = 0;  // generated tokens that this delta accounts for
};

struct Timings {
  std::chrono::nanoseconds queue{0};    // Submit until it took a slot
  std::chrono::nanoseconds prefill{0};  // from there to the first generated token
  std::chrono::nanoseconds decode{0};   // from there to the last
};

struct Finished {
  FinishReason reason = FinishReason::kMaxTokens;
  std::string stop_string;    // the one that matched, with kStopString
  int32_t stop_token_id = -1; // the one drawn, with kStopToken or kEndOfText
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;  // drawn and counted, the ending token included
  Timings timings;
};

// Where a sequence's output goes. All calls come from one delivery thread, in the order
// OnStarted, OnDelta..., then exactly one of OnFinished or OnError, and must not block.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  virtual void OnStarted(const Started& started) = 0;
  // Returns false when the sink's bounded queue is full: the sequence is then ended and OnError
  // follows with RESOURCE_EXHAUSTED (a slow reader hurts only itself).
  virtual bool OnDelta(Delta delta) = 0;
  virtual void OnFinished(const Finished& finished) = 0;
  // CANCELLED, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNAVAILABLE (draining) or INTERNAL.
  virtual void OnError(const absl::Status& status) = 0;
};

}  // namespace based

#endif  // BASED_ENGINE_REQUEST_H_
