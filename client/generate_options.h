// What a command line of `based generate` asks for, in neither proto nor engine types: it becomes a
// message for a daemon or a request of the engine in this process.
#ifndef BASED_CLIENT_GENERATE_OPTIONS_H_
#define BASED_CLIENT_GENERATE_OPTIONS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace based {

// Fields are those of GenerateRequest under their names; absent ones were not given.
struct GenerateOptions {
  struct Chat {
    std::optional<std::string> messages;
    std::optional<bool> add_generation_prompt;
    std::optional<std::string> chat_template_kwargs;
  };
  struct Sampling {
    std::optional<float> temperature;
    std::optional<int32_t> top_k;
    std::optional<float> top_p;
    std::optional<float> min_p;
    std::optional<float> typical_p;
    std::optional<float> repetition_penalty;
    std::optional<float> presence_penalty;
    std::optional<float> frequency_penalty;
    std::map<int32_t, float> logit_bias;
    std::vector<std::string> bad_words;
    std::vector<int32_t> allowed_token_ids;
    std::optional<uint64_t> seed;
  };
  struct Stop {
    std::optional<int64_t> max_tokens;
    std::vector<std::string> strings;
    std::vector<int32_t> token_ids;
    std::optional<bool> ignore_eos;
    std::optional<int64_t> min_tokens;
    std::optional<bool> include_stop;
  };
  struct Output {
    std::optional<bool> text;
    std::optional<bool> token_ids;
    std::optional<bool> logprobs;
    std::optional<int32_t> top_logprobs;
    std::optional<bool> echo;
    std::optional<bool> prompt_logprobs;
    std::optional<int32_t> tokens_per_message;
    std::optional<int32_t> delta_interval_ms;
  };
  // At most one of them.
  struct Constraint {
    std::optional<std::string> json_schema;
    bool json = false;
    std::optional<std::string> regex;
    std::vector<std::string> choice;
    std::optional<std::string> grammar;
  };
  struct State {
    std::optional<std::string> session;
    std::optional<std::string> snapshot;
    bool save_snapshot = false;
    bool create_session = false;
    std::optional<int64_t> session_tokens;
  };
  enum class Priority : uint8_t { kUnset, kInteractive, kBatch };

  std::string model;  // a name at the daemon, a directory here
  bool prompt_is_text = true;
  std::string text;
  std::vector<int32_t> token_ids;  // of the prompt
  std::optional<Chat> chat;        // the prompt, if it is there
  Sampling sampling;
  Stop stop;
  Output output;
  std::optional<int32_t> n;
  std::optional<int32_t> best_of;
  Constraint constraint;
  Priority priority = Priority::kUnset;
  std::string tenant;
  State state;
};

}  // namespace based

#endif  // BASED_CLIENT_GENERATE_OPTIONS_H_
