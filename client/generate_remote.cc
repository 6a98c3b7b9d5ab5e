#include "client/generate_remote.h"

#include <optional>
#include <utility>

#include "based/v1/completion.grpc.pb.h"
#include "client/remote.h"

namespace based {
namespace {

// Sets a field that was given.
template <typename T, typename Message, typename Argument>
void Set(const std::optional<T>& option, Message& message, void (Message::*set)(Argument)) {
  if (option.has_value()) (message.*set)(*option);
}

void SetSampling(const GenerateOptions::Sampling& options, v1::SamplingParams& message) {
  using M = v1::SamplingParams;
  Set(options.temperature, message, &M::set_temperature);
  Set(options.top_k, message, &M::set_top_k);
  Set(options.top_p, message, &M::set_top_p);
  Set(options.min_p, message, &M::set_min_p);
  Set(options.typical_p, message, &M::set_typical_p);
  Set(options.repetition_penalty, message, &M::set_repetition_penalty);
  Set(options.presence_penalty, message, &M::set_presence_penalty);
  Set(options.frequency_penalty, message, &M::set_frequency_penalty);
  Set(options.seed, message, &M::set_seed);
  message.mutable_logit_bias()->insert(options.logit_bias.begin(), options.logit_bias.end());
  for (const std::string& word : options.bad_words) message.add_bad_words(word);
  message.mutable_allowed_token_ids()->Add(options.allowed_token_ids.begin(),
                                           options.allowed_token_ids.end());
}

void SetStop(const GenerateOptions::Stop& options, v1::StopConditions& message) {
  using M = v1::StopConditions;
  Set(options.max_tokens, message, &M::set_max_tokens);
  Set(options.min_tokens, message, &M::set_min_tokens);
  Set(options.include_stop, message, &M::set_include_stop);
  Set(options.ignore_eos, message, &M::set_ignore_eos);
  for (const std::string& text : options.strings) message.add_strings(text);
  message.mutable_token_ids()->Add(options.token_ids.begin(), options.token_ids.end());
}

void SetOutput(const GenerateOptions::Output& options, v1::OutputOptions& message) {
  using M = v1::OutputOptions;
  Set(options.text, message, &M::set_text);
  Set(options.token_ids, message, &M::set_token_ids);
  Set(options.logprobs, message, &M::set_logprobs);
  Set(options.top_logprobs, message, &M::set_top_logprobs);
  Set(options.echo, message, &M::set_echo);
  Set(options.prompt_logprobs, message, &M::set_prompt_logprobs);
  Set(options.tokens_per_message, message, &M::set_tokens_per_message);
  Set(options.delta_interval_ms, message, &M::set_delta_interval_ms);
}

void SetConstraint(const GenerateOptions::Constraint& options, v1::GenerateRequest& request) {
  if (options.json_schema) request.mutable_constraint()->set_json_schema(*options.json_schema);
  if (options.json) request.mutable_constraint()->set_json(true);
  if (options.regex) request.mutable_constraint()->set_regex(*options.regex);
  for (const std::string& value : options.choice) {
    request.mutable_constraint()->mutable_choice()->add_values(value);
  }
  if (options.grammar) request.mutable_constraint()->set_grammar(*options.grammar);
}

void SetState(const GenerateOptions::State& options, v1::GenerateRequest& request) {
  if (options.session) request.mutable_state()->set_session(*options.session);
  if (options.snapshot) request.mutable_state()->set_snapshot(*options.snapshot);
  if (options.save_snapshot) request.mutable_state()->set_save_snapshot(true);
  if (options.create_session) request.mutable_state()->set_create_session(true);
  if (options.session_tokens) request.mutable_state()->set_session_tokens(*options.session_tokens);
}

v1::Priority PriorityOf(GenerateOptions::Priority priority) {
  switch (priority) {
    case GenerateOptions::Priority::kUnset:
      return v1::PRIORITY_UNSPECIFIED;
    case GenerateOptions::Priority::kInteractive:
      return v1::PRIORITY_INTERACTIVE;
    case GenerateOptions::Priority::kBatch:
      return v1::PRIORITY_BATCH;
  }
  return v1::PRIORITY_UNSPECIFIED;
}

std::vector<TokenEvent> Tokens(
    const google::protobuf::RepeatedPtrField<v1::TokenLogprob>& messages) {
  std::vector<TokenEvent> tokens;
  for (const v1::TokenLogprob& message : messages) {
    TokenEvent& token = tokens.emplace_back();
    token.token_id = message.token_id();
    token.logprob = message.logprob();
    for (const auto& alternative : message.alternatives()) {
      token.alternatives.emplace_back(alternative.token_id(), alternative.logprob());
    }
  }
  return tokens;
}

DoneEvent DoneOf(const v1::Done& message) {
  DoneEvent done{
      .index = message.index(),
      .finish_reason = v1::FinishReason_Name(message.finish_reason()),
      .usage = {.prompt_tokens = message.usage().prompt_tokens(),
                .generated_tokens = message.usage().generated_tokens(),
                .reused_tokens = message.usage().reused_tokens()},
      .timings = {.queue_us = message.timings().queue_us(),
                  .prefill_us = message.timings().prefill_us(),
                  .decode_us = message.timings().decode_us(),
                  .prefill_tokens = message.timings().prefill_tokens(),
                  .decode_tokens = message.timings().decode_tokens()},
      .snapshot = message.snapshot(),
      .cumulative_logprob = message.cumulative_logprob(),
      .session_tokens = message.session_tokens(),
      .seed = message.seed(),
  };
  if (message.has_stop_string()) done.stop_string = message.stop_string();
  if (message.has_stop_token_id()) done.stop_token_id = message.stop_token_id();
  return done;
}

}  // namespace

v1::GenerateRequest ToProto(const GenerateOptions& options) {
  v1::GenerateRequest request;
  request.set_model(options.model);
  if (options.chat.has_value()) {
    v1::Chat& chat = *request.mutable_chat();
    if (options.chat->messages) chat.set_messages(*options.chat->messages);
    Set(options.chat->add_generation_prompt, chat, &v1::Chat::set_add_generation_prompt);
    if (options.chat->chat_template_kwargs) {
      chat.set_chat_template_kwargs(*options.chat->chat_template_kwargs);
    }
  } else if (options.prompt_is_text) {
    request.set_text(options.text);
  } else {
    request.mutable_token_ids()->mutable_ids()->Add(options.token_ids.begin(),
                                                    options.token_ids.end());
  }
  Set(options.n, request, &v1::GenerateRequest::set_n);
  Set(options.best_of, request, &v1::GenerateRequest::set_best_of);
  SetSampling(options.sampling, *request.mutable_sampling());
  SetStop(options.stop, *request.mutable_stop());
  SetOutput(options.output, *request.mutable_output());
  SetConstraint(options.constraint, request);
  request.set_priority(PriorityOf(options.priority));
  request.set_tenant(options.tenant);
  SetState(options.state, request);
  return request;
}

GenerateEvent FromProto(const v1::GenerateResponse& message) {
  if (message.has_started()) {
    const v1::Started& started = message.started();
    return StartedEvent{.request_id = started.request_id(),
                        .seed = started.seed(),
                        .prompt_tokens = started.prompt_tokens(),
                        .reused_tokens = started.reused_tokens(),
                        .predicted_wait_ms = started.predicted_wait_ms()};
  }
  if (message.has_done()) return DoneOf(message.done());
  const v1::Delta& delta = message.delta();
  return DeltaEvent{.index = delta.index(),
                    .text = delta.text(),
                    .token_ids = {delta.token_ids().begin(), delta.token_ids().end()},
                    .logprobs = Tokens(delta.logprobs()),
                    .prompt_logprobs = Tokens(delta.prompt_logprobs())};
}

absl::Status GenerateAtDaemon(const GenerateOptions& options,
                              const std::function<void(GenerateEvent)>& on_event) {
  const auto stub = v1::CompletionService::NewStub(DaemonChannel());
  grpc::ClientContext context;
  SetDeadline(context);
  const auto reader = stub->Generate(&context, ToProto(options));
  v1::GenerateResponse message;
  while (reader->Read(&message)) on_event(FromProto(message));
  return FromGrpc(reader->Finish());
}

}  // namespace based
