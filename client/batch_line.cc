#include "client/batch_line.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/batch_ask.h"
#include "kernels/base/status.h"

namespace based {
namespace {

absl::Status CheckServed(const OpenAiRequest& request, const std::string& place) {
  const std::string fault = request.logprobs ? "logprobs is set; expected no log-probabilities"
                            : request.requests.size() > 1
                                ? absl::StrCat("prompt is an array of ", request.requests.size(),
                                               " prompts; expected one")
                                : "";
  if (fault.empty()) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrCat(place, ": ", fault, " (`based jobs` and the HTTP API serve it)"));
}

// Sets what differs from what the field means unset.
template <typename T, typename Message, typename Argument>
void Set(const T& value, const T& unset, Message& message, void (Message::*set)(Argument)) {
  if (value != unset) (message.*set)(value);
}

void SetSampling(const SamplingParams& asked, v1::SamplingParams& message) {
  using M = v1::SamplingParams;
  const SamplingParams unset;
  Set(asked.temperature, unset.temperature, message, &M::set_temperature);
  Set(asked.top_k, unset.top_k, message, &M::set_top_k);
  Set(asked.top_p, unset.top_p, message, &M::set_top_p);
  Set(asked.min_p, unset.min_p, message, &M::set_min_p);
  Set(asked.typical_p, unset.typical_p, message, &M::set_typical_p);
  Set(asked.repetition_penalty, unset.repetition_penalty, message, &M::set_repetition_penalty);
  Set(asked.presence_penalty, unset.presence_penalty, message, &M::set_presence_penalty);
  Set(asked.frequency_penalty, unset.frequency_penalty, message, &M::set_frequency_penalty);
  for (const TokenBias& bias : asked.logit_bias) {
    (*message.mutable_logit_bias())[bias.id] = bias.bias;
  }
  for (const std::string& word : asked.bad_words) message.add_bad_words(word);
  message.mutable_allowed_token_ids()->Assign(asked.allowed_token_ids.begin(),
                                              asked.allowed_token_ids.end());
  if (asked.seed.has_value()) message.set_seed(*asked.seed);
}

void SetStop(const StopConditions& asked, v1::StopConditions& message) {
  using M = v1::StopConditions;
  message.set_max_tokens(asked.max_tokens);
  Set(asked.min_tokens, int64_t{0}, message, &M::set_min_tokens);
  Set(asked.ignore_eos, false, message, &M::set_ignore_eos);
  Set(asked.include_stop, false, message, &M::set_include_stop);
  for (const std::string& text : asked.strings) message.add_strings(text);
  message.mutable_token_ids()->Assign(asked.token_ids.begin(), asked.token_ids.end());
}

void SetConstraint(const ConstraintAsk& asked, v1::GenerateRequest& request) {
  switch (asked.kind) {
    case ConstraintAsk::Kind::kNothing:
      return;
    case ConstraintAsk::Kind::kJsonSchema:
      return request.mutable_constraint()->set_json_schema(asked.text);
    case ConstraintAsk::Kind::kJson:
      return request.mutable_constraint()->set_json(true);
    case ConstraintAsk::Kind::kRegex:
      return request.mutable_constraint()->set_regex(asked.text);
    case ConstraintAsk::Kind::kChoice:
      // An empty list is there too, and refused by the daemon.
      return request.mutable_constraint()->mutable_choice()->mutable_values()->Assign(
          asked.choices.begin(), asked.choices.end());
    case ConstraintAsk::Kind::kGrammar:
      return request.mutable_constraint()->set_grammar(asked.text);
  }
}

void SetPrompt(const OpenAiRequest& asked, v1::GenerateRequest& request) {
  const Request& one = asked.requests[0];
  if (asked.chat) {
    v1::Chat& chat = *request.mutable_chat();
    chat.set_messages(asked.messages.messages.dump());
    if (!asked.messages.add_generation_prompt) chat.set_add_generation_prompt(false);
    if (!asked.messages.kwargs.empty()) {
      chat.set_chat_template_kwargs(asked.messages.kwargs.dump());
    }
  } else if (one.prompt_is_text) {
    request.set_text(one.prompt_text);
  } else {
    request.mutable_token_ids()->mutable_ids()->Assign(one.prompt_token_ids.begin(),
                                                       one.prompt_token_ids.end());
  }
}

v1::GenerateRequest ToProto(const OpenAiRequest& asked) {
  const Request& one = asked.requests[0];
  v1::GenerateRequest request;
  request.set_model(asked.model);
  SetPrompt(asked, request);
  SetSampling(one.sampling, *request.mutable_sampling());
  SetStop(one.stop, *request.mutable_stop());
  SetConstraint(one.constraint, request);
  if (asked.echo) request.mutable_output()->set_echo(true);
  if (asked.return_token_ids.has_value()) {
    request.mutable_output()->set_token_ids(*asked.return_token_ids);
  }
  Set(one.n, 1, request, &v1::GenerateRequest::set_n);
  Set(one.best_of, one.n, request, &v1::GenerateRequest::set_best_of);
  return request;
}

}  // namespace

absl::StatusOr<BatchLine> ParseBatchLine(absl::string_view text, const std::string& place) {
  BASED_ASSIGN_OR_RETURN(BatchAsk ask, ReadBatchAsk(text, place));
  BASED_RETURN_IF_ERROR(CheckServed(ask.request, place));
  return BatchLine{.form = ask.form,
                   .custom_id = ask.custom_id,
                   .request = ToProto(ask.request),
                   .names = ask.request.names,
                   .return_token_ids = ask.request.return_token_ids,
                   .ignored = std::move(ask.request.ignored),
                   .facts = ask.Facts()};
}

}  // namespace based
