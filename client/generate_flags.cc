#include "client/generate_flags.h"

#include <unistd.h>

#include <optional>
#include <string>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/common_flags.h"
#include "client/input.h"
#include "kernels/base/status.h"

// Flags are called as the proto's fields are, but where two fields have one name or one is a flag
// of all commands: those say in brackets which field they set.
ABSL_FLAG(std::string, prompt, "",
          "The same as --text. Without any prompt, standard input is read.");
ABSL_FLAG(std::string, prompt_file, "", "File whose text is the prompt; - is standard input.");
ABSL_FLAG(std::string, prompt_token_ids, "",
          "Prompt as token ids with commas between (token_ids.ids).");
ABSL_FLAG(std::string, messages, "",
          "Prompt as a chat: OpenAI's messages, a JSON array, by the model's chat template.");
ABSL_FLAG(bool, add_generation_prompt, true, "Ends a chat where the reply begins.");
ABSL_FLAG(std::string, chat_template_kwargs, "",
          "More variables for the chat template: a JSON object.");
ABSL_FLAG(int64_t, max_tokens, 256, "Tokens to generate at most.");
ABSL_FLAG(float, temperature, 1.0f, "Divides the logits; 0 takes the most likely token.");
ABSL_FLAG(int32_t, top_k, 0, "Keeps this many of the most likely tokens; 0: off.");
ABSL_FLAG(float, top_p, 1.0f,
          "Keeps the most likely tokens up to this sum of probabilities; 1: off.");
ABSL_FLAG(float, min_p, 0.0f,
          "Keeps tokens at least this many times as likely as the most likely; 0: off.");
ABSL_FLAG(float, typical_p, 1.0f, "Locally typical sampling up to this sum; 1: off.");
ABSL_FLAG(float, repetition_penalty, 1.0f, "Penalty of tokens seen in prompt or output; 1: off.");
ABSL_FLAG(float, presence_penalty, 0.0f, "Subtracted from the logits of tokens in the output.");
ABSL_FLAG(float, frequency_penalty, 0.0f, "Subtracted once per occurrence in the output.");
ABSL_FLAG(std::string, logit_bias, "", "Added to logits: id:bias,id:bias; each id once.");
ABSL_FLAG(std::string, bad_words, "",
          "The ids of this word, and of it after a space, may not follow each other; other ids may "
          "still spell it. May be given several times.");
ABSL_FLAG(std::string, allowed_token_ids, "", "Draws only these ids, with commas between.");
ABSL_FLAG(uint64_t, seed, 0, "Seed of the draw. Where it is not given one is chosen.");
ABSL_FLAG(std::string, strings, "",
          "Ends the text before this string. May be given several times.");
ABSL_FLAG(std::string, stop, "", "The same as --strings.");
ABSL_FLAG(std::string, stop_token_ids, "",
          "Ends at any of these ids, with commas between (stop.token_ids).");
ABSL_FLAG(bool, ignore_eos, false, "Goes on past the end-of-text token.");
ABSL_FLAG(int64_t, min_tokens, 0, "Tokens before end-of-text or a stop may end the text.");
ABSL_FLAG(bool, include_stop, false, "Keeps the stop that matched in the output.");
ABSL_FLAG(int32_t, n, 1, "Completions to return.");
ABSL_FLAG(
    int32_t, best_of, 1,
    "Completions to draw, of which the n most likely are returned. Where it is not given, n.");
ABSL_FLAG(bool, logprobs, false, "Log-probability of each token; see --json.");
ABSL_FLAG(int32_t, top_logprobs, 0, "The most likely tokens beside each log-probability, to 20.");
ABSL_FLAG(bool, echo, false, "Prints the prompt before the completion.");
ABSL_FLAG(bool, prompt_logprobs, false, "Log-probabilities of the prompt's tokens; see --json.");
ABSL_FLAG(int32_t, tokens_per_message, 1, "Tokens that are merged into one message.");
ABSL_FLAG(int32_t, delta_interval_ms, 0, "Milliseconds that tokens may wait to be merged.");
ABSL_FLAG(bool, token_ids, false,
          "Token ids: with --json beside the text, else instead of it (output.token_ids).");
ABSL_FLAG(bool, output_text, true, "Text in every message (output.text).");
ABSL_FLAG(std::string, json_schema, "", "The text satisfies this JSON Schema.");
ABSL_FLAG(bool, json_value, false, "The text is a JSON value (constraint.json).");
ABSL_FLAG(std::string, regex, "", "The whole text matches this regular expression.");
ABSL_FLAG(std::string, choice, "",
          "The text is this. May be given several times: one of them (constraint.choice.values).");
ABSL_FLAG(std::string, grammar, "", "The text is of this grammar, in EBNF.");
ABSL_FLAG(std::string, priority, "interactive", "interactive or batch.");
ABSL_FLAG(std::string, session, "",
          "Continues this session, which keeps the state afterwards (see based session).");
ABSL_FLAG(bool, create_session, false, "Makes the session.");
ABSL_FLAG(int64_t, session_tokens, 0,
          "Where it is given, fails unless the session holds so many tokens.");
ABSL_FLAG(std::string, snapshot, "", "Starts from this snapshot. Not served yet.");
ABSL_FLAG(bool, save_snapshot, false, "Keeps a snapshot of the state at the end. Not served yet.");

namespace based {
namespace {

// The value of a flag that was given.
template <typename T>
std::optional<T> Given(const CommandLine& line, absl::string_view name, const absl::Flag<T>& flag) {
  return line.Has(name) ? std::optional<T>(absl::GetFlag(flag)) : std::nullopt;
}
#define BASED_GIVEN(name) Given(line, #name, FLAGS_##name)

absl::Status SetPrompt(const CommandLine& line, GenerateOptions& options) {
  const bool chat =
      line.Has("messages") || line.Has("add_generation_prompt") || line.Has("chat_template_kwargs");
  const int given = line.Has("text") + line.Has("prompt") + line.Has("prompt_file") +
                    line.Has("prompt_token_ids") + chat + !line.positional.empty();
  if (given > 1) {
    return UsageError(
        "more than one prompt; expected one of --text (or --prompt), --prompt_file, "
        "--prompt_token_ids, --messages or words");
  }
  if (chat) {
    options.chat = {.messages = BASED_GIVEN(messages),
                    .add_generation_prompt = BASED_GIVEN(add_generation_prompt),
                    .chat_template_kwargs = BASED_GIVEN(chat_template_kwargs)};
  } else if (line.Has("text")) {
    options.text = absl::GetFlag(FLAGS_text);
  } else if (line.Has("prompt")) {
    options.text = absl::GetFlag(FLAGS_prompt);
  } else if (line.Has("prompt_token_ids")) {
    options.prompt_is_text = false;
    BASED_ASSIGN_OR_RETURN(options.token_ids,
                           ParseIds("prompt_token_ids", absl::GetFlag(FLAGS_prompt_token_ids)));
  } else if (!line.positional.empty()) {
    options.text = absl::StrJoin(line.positional, " ");
  } else {
    const std::string path = line.Has("prompt_file") ? absl::GetFlag(FLAGS_prompt_file) : "-";
    if (path == "-" && ::isatty(STDIN_FILENO)) {
      return UsageError("no prompt; expected --prompt TEXT, --prompt_file FILE or standard input");
    }
    BASED_ASSIGN_OR_RETURN(std::string text, ReadInput(path));
    // A line break at the end belongs to the file, not to the prompt.
    if (absl::StripSuffix(text, "\n").size() < text.size()) text.pop_back();
    options.text = std::move(text);
  }
  return absl::OkStatus();
}

absl::Status SetLogitBias(GenerateOptions::Sampling& sampling) {
  for (const absl::string_view entry :
       absl::StrSplit(absl::GetFlag(FLAGS_logit_bias), ',', absl::SkipWhitespace())) {
    const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(entry, ':');
    int32_t id = 0;
    float bias = 0;
    if (!absl::SimpleAtoi(parts.first, &id) || !absl::SimpleAtof(parts.second, &bias)) {
      return UsageError(absl::StrCat("--logit_bias holds '", entry, "'; expected id:bias"));
    }
    if (!sampling.logit_bias.emplace(id, bias).second) {
      return UsageError(absl::StrCat("--logit_bias holds the id ", id, " twice; expected it once"));
    }
  }
  return absl::OkStatus();
}

absl::Status SetSampling(const CommandLine& line, GenerateOptions::Sampling& sampling) {
  sampling.temperature = BASED_GIVEN(temperature);
  sampling.top_k = BASED_GIVEN(top_k);
  sampling.top_p = BASED_GIVEN(top_p);
  sampling.min_p = BASED_GIVEN(min_p);
  sampling.typical_p = BASED_GIVEN(typical_p);
  sampling.repetition_penalty = BASED_GIVEN(repetition_penalty);
  sampling.presence_penalty = BASED_GIVEN(presence_penalty);
  sampling.frequency_penalty = BASED_GIVEN(frequency_penalty);
  sampling.seed = BASED_GIVEN(seed);
  sampling.bad_words = line.All("bad_words");
  BASED_ASSIGN_OR_RETURN(sampling.allowed_token_ids,
                         ParseIds("allowed_token_ids", absl::GetFlag(FLAGS_allowed_token_ids)));
  return SetLogitBias(sampling);
}

absl::Status SetStop(const CommandLine& line, GenerateOptions::Stop& stop) {
  stop.max_tokens = BASED_GIVEN(max_tokens);
  stop.min_tokens = BASED_GIVEN(min_tokens);
  stop.include_stop = BASED_GIVEN(include_stop);
  stop.ignore_eos = BASED_GIVEN(ignore_eos);
  stop.strings = line.All("strings");
  for (std::string& text : line.All("stop")) stop.strings.push_back(std::move(text));
  BASED_ASSIGN_OR_RETURN(stop.token_ids,
                         ParseIds("stop_token_ids", absl::GetFlag(FLAGS_stop_token_ids)));
  return absl::OkStatus();
}

void SetOutput(const CommandLine& line, GenerateOptions::Output& output) {
  output.text = BASED_GIVEN(output_text);
  if (absl::GetFlag(FLAGS_token_ids)) {
    output.token_ids = true;
    if (!absl::GetFlag(FLAGS_json)) output.text = false;
  }
  output.logprobs = BASED_GIVEN(logprobs);
  output.top_logprobs = BASED_GIVEN(top_logprobs);
  output.echo = BASED_GIVEN(echo);
  output.prompt_logprobs = BASED_GIVEN(prompt_logprobs);
  output.tokens_per_message = BASED_GIVEN(tokens_per_message);
  output.delta_interval_ms = BASED_GIVEN(delta_interval_ms);
}

absl::Status SetConstraint(const CommandLine& line, GenerateOptions::Constraint& constraint) {
  constraint.json_schema = BASED_GIVEN(json_schema);
  constraint.json = absl::GetFlag(FLAGS_json_value);
  constraint.regex = BASED_GIVEN(regex);
  constraint.choice = line.All("choice");
  constraint.grammar = BASED_GIVEN(grammar);
  const int given = constraint.json_schema.has_value() + constraint.json +
                    constraint.regex.has_value() + !constraint.choice.empty() +
                    constraint.grammar.has_value();
  if (given <= 1) return absl::OkStatus();
  return UsageError(
      "more than one constraint; expected one of --json_schema, --json_value, --regex, --choice "
      "and --grammar");
}

absl::Status SetPriority(const CommandLine& line, GenerateOptions& options) {
  if (!line.Has("priority")) return absl::OkStatus();
  const std::string priority = absl::GetFlag(FLAGS_priority);
  if (priority != "interactive" && priority != "batch") {
    return UsageError(
        absl::StrCat("--priority is '", priority, "'; expected interactive or batch"));
  }
  options.priority = priority == "batch" ? GenerateOptions::Priority::kBatch
                                         : GenerateOptions::Priority::kInteractive;
  return absl::OkStatus();
}

}  // namespace

std::vector<FlagGroup> GenerateFlagGroups() {
  return {{"Prompt",
           {"text", "prompt", "prompt_file", "prompt_token_ids", "messages",
            "add_generation_prompt", "chat_template_kwargs", "model"}},
          {"Sampling",
           {"temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty",
            "presence_penalty", "frequency_penalty", "logit_bias", "bad_words", "allowed_token_ids",
            "seed", "n", "best_of"}},
          {"Stop",
           {"max_tokens", "strings", "stop", "stop_token_ids", "ignore_eos", "min_tokens",
            "include_stop"}},
          {"Structured output, one of these",
           {"json_schema", "json_value", "regex", "choice", "grammar"}},
          {"Output",
           {"token_ids", "output_text", "logprobs", "top_logprobs", "echo", "prompt_logprobs",
            "tokens_per_message", "delta_interval_ms", "json"}},
          {"Scheduling and state",
           {"priority", "tenant", "session", "create_session", "session_tokens", "snapshot",
            "save_snapshot"}}};
}

absl::StatusOr<GenerateOptions> GenerateOptionsFromFlags(const CommandLine& line) {
  GenerateOptions options;
  options.model = absl::GetFlag(FLAGS_model);
  BASED_RETURN_IF_ERROR(SetPrompt(line, options));
  options.n = BASED_GIVEN(n);
  options.best_of = BASED_GIVEN(best_of);
  BASED_RETURN_IF_ERROR(SetSampling(line, options.sampling));
  BASED_RETURN_IF_ERROR(SetStop(line, options.stop));
  SetOutput(line, options.output);
  BASED_RETURN_IF_ERROR(SetConstraint(line, options.constraint));
  BASED_RETURN_IF_ERROR(SetPriority(line, options));
  options.tenant = absl::GetFlag(FLAGS_tenant);
  options.state = {.session = BASED_GIVEN(session),
                   .snapshot = BASED_GIVEN(snapshot),
                   .save_snapshot = absl::GetFlag(FLAGS_save_snapshot),
                   .create_session = absl::GetFlag(FLAGS_create_session),
                   .session_tokens = BASED_GIVEN(session_tokens)};
  return options;
}

}  // namespace based
