// What a completion says of itself, in neither proto nor engine types: what a daemon's message or
// the engine in this process brings, on its way to the printer.
#ifndef BASED_CLIENT_GENERATE_EVENT_H_
#define BASED_CLIENT_GENERATE_EVENT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace based {

// Fields are those of the message of the same name.
struct StartedEvent {
  std::string request_id;
  uint64_t seed = 0;
  int64_t prompt_tokens = 0;
  int64_t reused_tokens = 0;
  int64_t predicted_wait_ms = 0;
};

struct TokenEvent {
  int32_t token_id = 0;
  float logprob = 0;
  std::vector<std::pair<int32_t, float>> alternatives;  // id and logprob
};

struct DeltaEvent {
  int32_t index = 0;
  std::string text;
  std::vector<int32_t> token_ids;
  std::vector<TokenEvent> logprobs;
  std::vector<TokenEvent> prompt_logprobs;
};

struct DoneEvent {
  struct Usage {
    int64_t prompt_tokens = 0;
    int64_t generated_tokens = 0;
    int64_t reused_tokens = 0;
  };
  struct Timings {
    int64_t queue_us = 0;
    int64_t prefill_us = 0;
    int64_t decode_us = 0;
    int64_t prefill_tokens = 0;
    int64_t decode_tokens = 0;
  };

  int32_t index = 0;
  std::string finish_reason;  // as FinishReason_Name gives it
  std::optional<std::string> stop_string;
  std::optional<int32_t> stop_token_id;
  Usage usage;
  Timings timings;
  std::string snapshot;
  double cumulative_logprob = 0;
  int64_t session_tokens = 0;
  uint64_t seed = 0;
};

using GenerateEvent = std::variant<StartedEvent, DeltaEvent, DoneEvent>;

}  // namespace based

#endif  // BASED_CLIENT_GENERATE_EVENT_H_
