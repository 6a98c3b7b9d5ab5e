#include "server/convert.h"

#include <chrono>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "engine/json_reader.h"
#include "engine/validate.h"
#include "kernels/base/status.h"
#include "server/version.h"

namespace based {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// Full names, less "based.v1.", of the fields that are served.
const absl::flat_hash_set<absl::string_view>& ServedFields() {
  static const auto* fields = new absl::flat_hash_set<absl::string_view>{
      "GenerateRequest.model",
      "GenerateRequest.text",
      "GenerateRequest.token_ids",
      "GenerateRequest.chat",
      "GenerateRequest.sampling",
      "GenerateRequest.stop",
      "GenerateRequest.output",
      "GenerateRequest.n",
      "GenerateRequest.best_of",
      "GenerateRequest.constraint",
      "GenerateRequest.priority",
      "GenerateRequest.tenant",
      "GenerateRequest.state",
      "StateOptions.session",
      "StateOptions.create_session",
      "StateOptions.session_tokens",
      "TokenIds.ids",
      "Chat.messages",
      "Chat.add_generation_prompt",
      "Chat.chat_template_kwargs",
      "Constraint.json_schema",
      "Constraint.json",
      "Constraint.regex",
      "Constraint.choice",
      "Constraint.grammar",
      "Choices.values",
      "SamplingParams.temperature",
      "SamplingParams.top_k",
      "SamplingParams.top_p",
      "SamplingParams.min_p",
      "SamplingParams.typical_p",
      "SamplingParams.repetition_penalty",
      "SamplingParams.presence_penalty",
      "SamplingParams.frequency_penalty",
      "SamplingParams.logit_bias",
      "SamplingParams.bad_words",
      "SamplingParams.allowed_token_ids",
      "SamplingParams.seed",
      "StopConditions.max_tokens",
      "StopConditions.strings",
      "StopConditions.token_ids",
      "StopConditions.ignore_eos",
      "StopConditions.min_tokens",
      "StopConditions.include_stop",
      "OutputOptions.text",
      "OutputOptions.token_ids",
      "OutputOptions.logprobs",
      "OutputOptions.top_logprobs",
      "OutputOptions.echo",
      "OutputOptions.prompt_logprobs",
      "OutputOptions.tokens_per_message",
      "OutputOptions.delta_interval_ms",
  };
  return *fields;
}

// Walks the fields that are set. `path` is where `message` stands in the request.
absl::Status CheckServed(const Message& message, const std::string& path) {
  const google::protobuf::Reflection* reflection = message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    const std::string name = absl::StrCat(path, field->name());
    const std::string key = absl::StrCat(field->containing_type()->name(), ".", field->name());
    if (!ServedFields().contains(key)) {
      return absl::UnimplementedError(
          absl::StrCat(name, " is set; this daemon does not serve it yet, leave it unset"));
    }
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && !field->is_repeated()) {
      BASED_RETURN_IF_ERROR(
          CheckServed(reflection->GetMessage(message, field), absl::StrCat(name, ".")));
    }
  }
  return absl::OkStatus();
}

absl::Status OutOfRange(absl::string_view field, int64_t value, absl::string_view expected) {
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", value, "; expected ", expected));
}

// What the engine cannot see.
absl::Status CheckValues(const v1::GenerateRequest& message) {
  if (!v1::Priority_IsValid(message.priority())) {
    return OutOfRange("priority", message.priority(), "a value of the enum Priority");
  }
  if (message.output().has_tokens_per_message()) {
    // To the engine 0 means that the field is not set.
    BASED_RETURN_IF_ERROR(CheckTokensPerMessage(message.output().tokens_per_message()));
  }
  return absl::OkStatus();
}

absl::Status CheckState(const v1::StateOptions& state) {
  if (!state.session().empty()) return CheckSessionId("state.session", state.session());
  if (!state.create_session() && !state.has_session_tokens()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("state.session is not set; expected it with state.",
                   state.create_session() ? "create_session" : "session_tokens"));
}

SessionAsk SessionFromProto(const v1::StateOptions& state) {
  SessionAsk session{.id = state.session(), .create = state.create_session(), .tokens = {}};
  if (state.has_session_tokens()) session.tokens = state.session_tokens();
  return session;
}

absl::StatusOr<ConstraintAsk> ConstraintFromProto(const v1::Constraint& message) {
  using Kind = ConstraintAsk::Kind;
  switch (message.kind_case()) {
    case v1::Constraint::kJsonSchema:
      return ConstraintAsk{.kind = Kind::kJsonSchema, .text = message.json_schema()};
    case v1::Constraint::kJson:
      if (!message.json()) {
        return absl::InvalidArgumentError(
            "constraint.json is false; expected true, or no constraint");
      }
      return ConstraintAsk{.kind = Kind::kJson};
    case v1::Constraint::kRegex:
      return ConstraintAsk{.kind = Kind::kRegex, .text = message.regex()};
    case v1::Constraint::kChoice: {
      const auto& values = message.choice().values();
      ConstraintAsk ask{.kind = Kind::kChoice};
      ask.choices.assign(values.begin(), values.end());
      return ask;
    }
    case v1::Constraint::kGrammar:
      return ConstraintAsk{.kind = Kind::kGrammar, .text = message.grammar()};
    case v1::Constraint::KIND_NOT_SET:
      return ConstraintAsk{};
  }
  return ConstraintAsk{};
}

// The chat as the body of OpenAI's API has it.
absl::StatusOr<nlohmann::json> BodyOfChat(const v1::Chat& chat) {
  nlohmann::json body = nlohmann::json::object();
  for (const auto& [name, text] :
       {std::pair("messages", &chat.messages()),
        std::pair("chat_template_kwargs", &chat.chat_template_kwargs())}) {
    if (text->empty()) continue;
    absl::StatusOr<nlohmann::json> value =
        json_reader::Parse(*text, json_reader::RepeatedNames::kRefused);
    if (!value.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(name, " ", value.status().message()));
    }
    body[name] = *std::move(value);
  }
  if (chat.has_add_generation_prompt()) {
    body["add_generation_prompt"] = chat.add_generation_prompt();
  }
  return body;
}

absl::Status RenderChat(const v1::Chat& chat, const ChatFormat& format, Request& request) {
  BASED_ASSIGN_OR_RETURN(const nlohmann::json body, BodyOfChat(chat));
  BASED_ASSIGN_OR_RETURN(const ChatAsk ask, ReadChatAsk(body));
  return SetChatPrompt(ask, format, request);
}

// After the other fields of `request`. Messages begin with the member of the chat.
absl::Status SetChat(const v1::GenerateRequest& message, const ChatFormat& format,
                     Request& request) {
  if (!message.state().session().empty()) {
    return absl::InvalidArgumentError(
        "chat is set beside state.session; expected text or token_ids: a chat template renders "
        "whole conversations");
  }
  const absl::Status status = RenderChat(message.chat(), format, request);
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat("chat.", status.message()));
}

SamplingParams SamplingFromProto(const v1::SamplingParams& message) {
  SamplingParams sampling;
  if (message.has_temperature()) sampling.temperature = message.temperature();
  if (message.has_top_k()) sampling.top_k = message.top_k();
  if (message.has_top_p()) sampling.top_p = message.top_p();
  if (message.has_min_p()) sampling.min_p = message.min_p();
  if (message.has_typical_p()) sampling.typical_p = message.typical_p();
  if (message.has_repetition_penalty()) sampling.repetition_penalty = message.repetition_penalty();
  sampling.presence_penalty = message.presence_penalty();
  sampling.frequency_penalty = message.frequency_penalty();
  for (const auto& [id, bias] : message.logit_bias()) sampling.logit_bias.push_back({id, bias});
  sampling.bad_words.assign(message.bad_words().begin(), message.bad_words().end());
  sampling.allowed_token_ids.assign(message.allowed_token_ids().begin(),
                                    message.allowed_token_ids().end());
  if (message.has_seed()) sampling.seed = message.seed();
  return sampling;
}

StopConditions StopFromProto(const v1::StopConditions& message) {
  StopConditions stop;
  if (message.has_max_tokens()) stop.max_tokens = message.max_tokens();
  stop.strings.assign(message.strings().begin(), message.strings().end());
  stop.token_ids.assign(message.token_ids().begin(), message.token_ids().end());
  stop.ignore_eos = message.ignore_eos();
  stop.min_tokens = message.min_tokens();
  stop.include_stop = message.include_stop();
  return stop;
}

OutputOptions OutputFromProto(const v1::OutputOptions& message, bool has_tokenizer) {
  return {.text = message.has_text() ? message.text() : has_tokenizer,
          .token_ids = message.has_token_ids() ? message.token_ids() : !has_tokenizer,
          .logprobs = message.logprobs(),
          .top_logprobs = message.top_logprobs(),
          .echo = message.echo(),
          .prompt_logprobs = message.prompt_logprobs(),
          .tokens_per_message = message.tokens_per_message(),
          .delta_interval = std::chrono::milliseconds(message.delta_interval_ms())};
}

int64_t Microseconds(std::chrono::nanoseconds duration) {
  return std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
}

v1::Mixer MixerToProto(Mixer mixer) {
  switch (mixer) {
    case Mixer::kConv:
      return v1::MIXER_CONV;
    case Mixer::kLinearAttention:
      return v1::MIXER_LINEAR_ATTENTION;
    case Mixer::kSlidingWindow:
      return v1::MIXER_SLIDING_WINDOW;
  }
  return v1::MIXER_UNSPECIFIED;
}

}  // namespace

absl::Status CheckModelName(absl::string_view requested, absl::string_view served) {
  if (requested.empty() || requested == served) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat(
      "model is '", requested, "', which is not served; expected '", served, "' or nothing"));
}

absl::StatusOr<Request> RequestFromProto(const v1::GenerateRequest& message, bool has_tokenizer,
                                         const ChatFormat& chat) {
  BASED_RETURN_IF_ERROR(CheckServed(message, ""));
  BASED_RETURN_IF_ERROR(CheckValues(message));
  BASED_RETURN_IF_ERROR(CheckState(message.state()));
  Request request;
  switch (message.prompt_case()) {
    case v1::GenerateRequest::kText:
      request.prompt_text = message.text();
      break;
    case v1::GenerateRequest::kTokenIds:
      request.prompt_is_text = false;
      request.prompt_token_ids.assign(message.token_ids().ids().begin(),
                                      message.token_ids().ids().end());
      break;
    case v1::GenerateRequest::kChat:
      break;  // rendered below, when it is known where the reply may end
    case v1::GenerateRequest::PROMPT_NOT_SET:
      return absl::InvalidArgumentError(
          "text is not set, nor are token_ids and chat; expected one of the three");
  }
  request.sampling = SamplingFromProto(message.sampling());
  request.stop = StopFromProto(message.stop());
  request.output = OutputFromProto(message.output(), has_tokenizer);
  request.tenant = message.tenant();
  request.session = SessionFromProto(message.state());
  BASED_ASSIGN_OR_RETURN(request.constraint, ConstraintFromProto(message.constraint()));
  if (message.priority() == v1::PRIORITY_BATCH) request.priority = Priority::kBatch;
  request.n = message.has_n() ? message.n() : 1;
  request.best_of = message.has_best_of() ? message.best_of() : request.n;
  if (message.has_chat()) BASED_RETURN_IF_ERROR(SetChat(message, chat, request));
  return request;
}

void TokenLogprobToProto(const TokenLogprob& logprob, v1::TokenLogprob& message) {
  message.set_token_id(logprob.token_id);
  message.set_logprob(static_cast<float>(logprob.logprob));
  for (const TokenScore& score : logprob.alternatives) {
    v1::TokenLogprob::Alternative& alternative = *message.add_alternatives();
    alternative.set_token_id(score.id);
    alternative.set_logprob(static_cast<float>(score.logprob));
  }
}

v1::GenerateResponse StartedToProto(const Started& started, const std::string& request_id) {
  v1::GenerateResponse message;
  message.mutable_started()->set_request_id(request_id);
  message.mutable_started()->set_seed(started.seed);
  message.mutable_started()->set_prompt_tokens(started.prompt_tokens);
  message.mutable_started()->set_reused_tokens(started.reused_tokens);
  message.mutable_started()->set_predicted_wait_ms(started.predicted_wait.count());
  return message;
}

v1::FinishReason FinishReasonToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kEndOfText:
      return v1::FINISH_REASON_END_OF_TEXT;
    case FinishReason::kStopString:
      return v1::FINISH_REASON_STOP_STRING;
    case FinishReason::kStopToken:
      return v1::FINISH_REASON_STOP_TOKEN;
    case FinishReason::kMaxTokens:
      return v1::FINISH_REASON_MAX_TOKENS;
    case FinishReason::kConstraint:
      return v1::FINISH_REASON_CONSTRAINT;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

v1::GenerateResponse FinishedToProto(const Finished& finished) {
  v1::GenerateResponse message;
  v1::Done& done = *message.mutable_done();
  done.set_index(finished.index);
  done.set_cumulative_logprob(finished.cumulative_logprob);
  done.set_session_tokens(finished.session_tokens);
  done.set_seed(finished.seed);
  done.set_finish_reason(FinishReasonToProto(finished.reason));
  if (finished.reason == FinishReason::kStopString) {
    done.set_stop_string(finished.stop_string);
  } else if (finished.stop_token_id != kNone) {
    done.set_stop_token_id(finished.stop_token_id);
  }
  done.mutable_usage()->set_prompt_tokens(finished.prompt_tokens);
  done.mutable_usage()->set_reused_tokens(finished.reused_tokens);
  done.mutable_usage()->set_generated_tokens(finished.generated_tokens);
  done.mutable_timings()->set_queue_us(Microseconds(finished.timings.queue));
  done.mutable_timings()->set_prefill_us(Microseconds(finished.timings.prefill));
  done.mutable_timings()->set_decode_us(Microseconds(finished.timings.decode));
  done.mutable_timings()->set_prefill_tokens(finished.timings.prefill_tokens);
  done.mutable_timings()->set_decode_tokens(finished.timings.decode_tokens);
  return message;
}

void AppendDelta(const Delta& delta, bool token_ids, v1::GenerateResponse& message) {
  v1::Delta& out = *message.mutable_delta();
  out.set_index(delta.index);
  out.mutable_text()->append(delta.text);
  if (token_ids) out.mutable_token_ids()->Add(delta.token_ids.begin(), delta.token_ids.end());
  for (const TokenLogprob& logprob : delta.logprobs) {
    TokenLogprobToProto(logprob, *out.add_logprobs());
  }
  for (const TokenLogprob& logprob : delta.prompt_logprobs) {
    TokenLogprobToProto(logprob, *out.add_prompt_logprobs());
  }
}

v1::GetModelResponse ModelToProto(const Model& model) {
  const ModelConfig& config = model.config;
  const ExecutableInfo& info = model.executable->info();
  v1::GetModelResponse message;
  message.set_name(model.name);
  message.set_digest(model.checkpoint.digest);
  message.set_parameters(model.checkpoint.parameters);
  message.set_d_model(config.d_model);
  for (Mixer mixer : config.layers) message.add_layers(MixerToProto(mixer));
  message.set_vocab_size(config.vocab_size);
  if (config.bos_token_id >= 0) message.set_bos_token_id(config.bos_token_id);
  if (config.eos_token_id >= 0) message.set_eos_token_id(config.eos_token_id);
  message.set_feature_dim(config.feature_dim);
  message.set_window_size(config.window_size);
  message.set_has_tokenizer(model.tokenizer != nullptr);
  message.set_backend(info.backend);
  message.set_device(info.device);
  message.set_server_version(kVersion);
  message.set_chat(true);
  return message;
}

v1::GetCapacityResponse CapacityToProto(const Capacity& capacity) {
  v1::GetCapacityResponse message;
  message.set_slots_total(capacity.slots_total);
  message.set_slots_active(capacity.slots_active);
  message.set_slots_free(capacity.slots_free);
  message.set_slot_bytes(capacity.slot_bytes);
  message.set_pool_bytes(capacity.pool_bytes);
  message.set_weight_bytes(capacity.weight_bytes);
  message.set_workspace_bytes(capacity.workspace_bytes);
  message.set_queued_requests(capacity.queued_requests);
  message.set_max_queue(capacity.max_queue);
  message.set_token_budget(capacity.token_budget);
  message.set_max_prompt_tokens(capacity.max_prompt_tokens);
  message.set_max_output_tokens(capacity.max_output_tokens);
  return message;
}

}  // namespace based
