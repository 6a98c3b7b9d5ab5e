#include "engine/openai_request.h"

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/json_file.h"
#include "engine/json_reader.h"
#include "engine/openai_constraint.h"
#include "engine/openai_fields.h"
#include "engine/utf8.h"
#include "kernels/base/status.h"

namespace based {
namespace {

using Json = nlohmann::json;

constexpr int64_t kCompletionMaxTokens = 16;  // OpenAI's default
constexpr int64_t kChatMaxTokens = 256;       // the gRPC API's
// Completions of one call, all prompts together.
constexpr int64_t kMaxChoices = 1024;

absl::Status Invalid(absl::string_view message) { return absl::InvalidArgumentError(message); }

void ReadSeed(OpenAiFields& fields, SamplingParams& sampling) {
  const Json* seed = fields.Find("seed");
  if (seed == nullptr) return;
  if (!seed->is_number_integer()) return fields.Wrong("seed", *seed, "an integer of 64 bits");
  // A negative seed is as good as any: its bits are what counts.
  sampling.seed = seed->is_number_unsigned() ? seed->get<uint64_t>()
                                             : static_cast<uint64_t>(seed->get<int64_t>());
}

void ReadLogitBias(OpenAiFields& fields, SamplingParams& sampling) {
  const Json* biases = fields.Find("logit_bias");
  if (biases == nullptr) return;
  if (!biases->is_object()) return fields.Wrong("logit_bias", *biases, "an object");
  for (const auto& [key, value] : biases->items()) {
    int32_t id = 0;
    // One spelling per id, so that none stands twice in the list.
    if (!absl::SimpleAtoi(key, &id) || absl::StrCat(id) != key) {
      return fields.Wrong("a key of logit_bias", key, "a token id in decimal");
    }
    if (!value.is_number()) {
      return fields.Wrong(absl::StrCat("logit_bias[", key, "]"), value, "a number");
    }
    sampling.logit_bias.push_back({id, value.get<float>()});
  }
}

SamplingParams ReadSampling(OpenAiFields& fields) {
  SamplingParams sampling;
  fields.Read("temperature", sampling.temperature);
  fields.Read("top_k", sampling.top_k);
  if (sampling.top_k == -1) sampling.top_k = 0;  // vLLM's way to say off
  fields.Read("top_p", sampling.top_p);
  fields.Read("min_p", sampling.min_p);
  fields.Read("typical_p", sampling.typical_p);
  fields.Read("repetition_penalty", sampling.repetition_penalty);
  fields.Read("presence_penalty", sampling.presence_penalty);
  fields.Read("frequency_penalty", sampling.frequency_penalty);
  fields.ReadTexts("bad_words", sampling.bad_words);
  fields.Read("allowed_token_ids", sampling.allowed_token_ids);
  ReadLogitBias(fields, sampling);
  ReadSeed(fields, sampling);
  return sampling;
}

StopConditions ReadStop(OpenAiFields& fields, bool chat, OpenAiNames& names) {
  StopConditions stop;
  stop.max_tokens = chat ? kChatMaxTokens : kCompletionMaxTokens;
  fields.Read("max_tokens", stop.max_tokens);
  if (chat) {
    fields.Read("max_completion_tokens", stop.max_tokens);
    const bool old_name = fields.Find("max_tokens") != nullptr;
    if (!old_name || fields.Find("max_completion_tokens") != nullptr) {
      names.max_tokens = "max_completion_tokens";
    }
  }
  fields.Read("min_tokens", stop.min_tokens);
  fields.Read("ignore_eos", stop.ignore_eos);
  fields.Read("stop_token_ids", stop.token_ids);
  fields.Read("include_stop_str_in_output", stop.include_stop);
  fields.ReadTexts("stop", stop.strings);
  return stop;
}

bool IsString(const OpenAiFields& fields, const std::string& name) {
  const Json* value = fields.Find(name);
  return value != nullptr && value->is_string();
}

void ReadStream(OpenAiFields& fields, OpenAiRequest& call) {
  fields.Read("stream", call.stream);
  const Json* options = fields.Find("stream_options");
  if (options == nullptr) return;
  if (!options->is_object()) return fields.Wrong("stream_options", *options, "an object");
  if (!call.stream) {
    return fields.Fail(Invalid("stream_options is set; expected only where stream is true"));
  }
  const Json& usage = json_reader::Member(*options, "include_usage");
  if (usage.is_null()) return;
  if (!usage.is_boolean()) {
    return fields.Wrong("stream_options.include_usage", usage, "true or false");
  }
  call.include_usage = usage.get<bool>();
}

void ReadCounts(OpenAiFields& fields, bool stream, Request& request) {
  fields.Read("n", request.n);
  request.best_of = request.n;
  fields.Read("best_of", request.best_of);
  if (stream && request.best_of > request.n) {
    fields.Fail(Invalid(absl::StrCat("best_of is ", request.best_of, "; expected n (", request.n,
                                     ") where stream is true")));
  }
}

// "batch" or "interactive"; or vLLM's number, of which the greater are served later.
void ReadPriority(OpenAiFields& fields, Request& request) {
  const Json* priority = fields.Find("priority");
  if (priority == nullptr) return;
  if (*priority == "batch" || (priority->is_number_integer() && *priority > 0)) {
    request.priority = Priority::kBatch;
  } else if (*priority != "interactive" && !priority->is_number_integer()) {
    fields.Wrong("priority", *priority, "'interactive', 'batch' or an integer");
  }
}

// What both endpoints share, for every prompt of the call.
absl::StatusOr<Request> ReadTemplate(OpenAiFields& fields, const Json& body, std::string_view raw,
                                     OpenAiRequest& call) {
  Request request;
  fields.Read("model", call.model);
  BASED_ASSIGN_OR_RETURN(request.constraint, ReadOpenAiConstraint(body, raw));
  call.names.constraint = request.constraint.field;
  ReadStream(fields, call);
  ReadCounts(fields, call.stream, request);
  ReadPriority(fields, request);
  request.sampling = ReadSampling(fields);
  request.stop = ReadStop(fields, call.chat, call.names);
  call.names.one_stop = IsString(fields, "stop");
  call.names.one_bad_word = IsString(fields, "bad_words");
  if (fields.Find("return_token_ids") != nullptr) {
    fields.Read("return_token_ids", call.return_token_ids.emplace());
  }
  return request;
}

void ReadLegacyLogprobs(OpenAiFields& fields, OpenAiRequest& call, OutputOptions& output) {
  fields.Read("echo", call.echo);
  output.echo = call.echo;
  if (fields.Find("logprobs") == nullptr) return;
  call.logprobs = output.logprobs = true;
  fields.Read("logprobs", output.top_logprobs);
  output.prompt_logprobs = call.echo;
  // The prompt's first token has no log-probability: its id comes with the echo.
  if (call.echo) output.token_ids = true;
}

absl::Status AddPrompt(const Json& prompt, const std::string& place, Request request,
                       OpenAiRequest& call) {
  if (prompt.is_string()) {
    request.prompt_text = prompt.get<std::string>();
  } else if (prompt.is_array()) {
    request.prompt_is_text = false;
    request.prompt_token_ids.resize(prompt.size());
    for (size_t i = 0; i < prompt.size(); ++i) {
      if (!JsonToInt32(prompt[i], request.prompt_token_ids[i])) {
        return Invalid(
            absl::StrCat(place, "[", i, "] is ", JsonExcerpt(prompt[i]), "; expected a token id"));
      }
    }
  } else {
    return Invalid(absl::StrCat(place, " is ", JsonExcerpt(prompt),
                                "; expected a string or an array of token ids"));
  }
  call.requests.push_back(std::move(request));
  return absl::OkStatus();
}

// A prompt, or an array of prompts.
absl::Status AddPrompts(const Json& prompt, const Request& request, OpenAiRequest& call) {
  call.names.prompts = prompt.is_array() && (prompt.empty() || !prompt[0].is_number());
  if (!call.names.prompts) return AddPrompt(prompt, "prompt", request, call);
  const int64_t choices = static_cast<int64_t>(prompt.size()) * std::max(request.best_of, 1);
  if (prompt.empty() || choices > kMaxChoices) {
    return Invalid(absl::StrCat("prompt is ", JsonExcerpt(prompt), " prompts; expected 1 or more, ",
                                "and at most ", kMaxChoices, " completions of all together"));
  }
  for (size_t i = 0; i < prompt.size(); ++i) {
    BASED_RETURN_IF_ERROR(AddPrompt(prompt[i], absl::StrCat("prompt[", i, "]"), request, call));
  }
  return absl::OkStatus();
}

absl::Status ReadCompletion(const Json& body, std::string_view raw, OpenAiRequest& call) {
  OpenAiFields fields(body);
  BASED_ASSIGN_OR_RETURN(Request request, ReadTemplate(fields, body, raw, call));
  ReadLegacyLogprobs(fields, call, request.output);
  BASED_RETURN_IF_ERROR(fields.status());
  const Json* prompt = fields.Find("prompt");
  if (prompt == nullptr) return Invalid("prompt is not set; expected text or token ids");
  return AddPrompts(*prompt, request, call);
}

absl::Status ReadChat(const Json& body, std::string_view raw, OpenAiRequest& call) {
  OpenAiFields fields(body);
  BASED_ASSIGN_OR_RETURN(Request request, ReadTemplate(fields, body, raw, call));
  fields.Read("logprobs", call.logprobs);
  request.output.logprobs = call.logprobs;
  fields.Read("top_logprobs", request.output.top_logprobs);
  BASED_RETURN_IF_ERROR(fields.status());
  if (request.output.top_logprobs != 0 && !call.logprobs) {
    return Invalid("top_logprobs is set; expected only where logprobs is true");
  }
  BASED_ASSIGN_OR_RETURN(call.messages, ReadChatAsk(body));
  call.requests.push_back(std::move(request));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Json> ParseBody(std::string_view body) {
  if (const size_t at = FindInvalidUtf8(body); at != std::string::npos) {
    return Invalid(absl::StrCat("the body is not UTF-8 at byte ", at));
  }
  absl::StatusOr<Json> parsed = json_reader::Parse(body, json_reader::RepeatedNames::kRefused);
  if (!parsed.ok()) return Invalid(absl::StrCat("the body: ", parsed.status().message()));
  if (!parsed->is_object()) {
    return Invalid(absl::StrCat("the body is ", JsonExcerpt(*parsed), "; expected a JSON object"));
  }
  return parsed;
}

absl::StatusOr<OpenAiRequest> ReadOpenAiRequest(const Json& body, std::string_view raw,
                                                OpenAiEndpoint endpoint) {
  OpenAiRequest call;
  call.names.endpoint = endpoint;
  call.chat = endpoint == OpenAiEndpoint::kChat;
  BASED_RETURN_IF_ERROR(CheckOpenAiFields(body, endpoint, call.ignored));
  BASED_RETURN_IF_ERROR(call.chat ? ReadChat(body, raw, call) : ReadCompletion(body, raw, call));
  return call;
}

}  // namespace based
