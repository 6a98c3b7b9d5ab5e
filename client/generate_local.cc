#include "client/generate_local.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <memory>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "client/common_flags.h"
#include "engine/engine.h"
#include "engine/validate.h"
#include "kernels/base/mutex.h"
#include "kernels/base/status.h"

namespace based {
namespace {

constexpr int32_t kMostSlots = 64;

template <typename T, typename Field>
void Set(const std::optional<T>& option, Field& field) {
  if (option.has_value()) field = *option;
}

absl::Status CheckServed(const GenerateOptions& options) {
  const GenerateOptions::State& state = options.state;
  const absl::string_view field = options.chat.has_value()           ? "chat"
                                  : state.session.has_value()        ? "state.session"
                                  : state.snapshot.has_value()       ? "state.snapshot"
                                  : state.save_snapshot              ? "state.save_snapshot"
                                  : state.create_session             ? "state.create_session"
                                  : state.session_tokens.has_value() ? "state.session_tokens"
                                                                     : "";
  if (field.empty()) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrCat(field, " is set; the engine in this process does not serve it, leave it unset"));
}

ConstraintAsk ConstraintOf(const GenerateOptions::Constraint& options) {
  using Kind = ConstraintAsk::Kind;
  ConstraintAsk ask;
  const auto take = [&ask](Kind kind, const std::optional<std::string>& text) {
    if (text.has_value()) ask = {.kind = kind, .text = *text};
  };
  take(Kind::kJsonSchema, options.json_schema);
  take(Kind::kRegex, options.regex);
  take(Kind::kGrammar, options.grammar);
  if (options.json) ask.kind = Kind::kJson;
  if (!options.choice.empty()) ask = {.kind = Kind::kChoice, .choices = options.choice};
  return ask;
}

SamplingParams SamplingOf(const GenerateOptions::Sampling& options) {
  SamplingParams sampling;
  Set(options.temperature, sampling.temperature);
  Set(options.top_k, sampling.top_k);
  Set(options.top_p, sampling.top_p);
  Set(options.min_p, sampling.min_p);
  Set(options.typical_p, sampling.typical_p);
  Set(options.repetition_penalty, sampling.repetition_penalty);
  Set(options.presence_penalty, sampling.presence_penalty);
  Set(options.frequency_penalty, sampling.frequency_penalty);
  for (const auto& [id, bias] : options.logit_bias) sampling.logit_bias.push_back({id, bias});
  sampling.bad_words = options.bad_words;
  sampling.allowed_token_ids = options.allowed_token_ids;
  sampling.seed = options.seed;
  return sampling;
}

StopConditions StopOf(const GenerateOptions::Stop& options) {
  StopConditions stop;
  Set(options.max_tokens, stop.max_tokens);
  stop.strings = options.strings;
  stop.token_ids = options.token_ids;
  Set(options.ignore_eos, stop.ignore_eos);
  Set(options.min_tokens, stop.min_tokens);
  Set(options.include_stop, stop.include_stop);
  return stop;
}

OutputOptions OutputOf(const GenerateOptions::Output& options, bool has_tokenizer) {
  return {.text = options.text.value_or(has_tokenizer),
          .token_ids = options.token_ids.value_or(!has_tokenizer),
          .logprobs = options.logprobs.value_or(false),
          .top_logprobs = options.top_logprobs.value_or(0),
          .echo = options.echo.value_or(false),
          .prompt_logprobs = options.prompt_logprobs.value_or(false),
          .tokens_per_message = options.tokens_per_message.value_or(0),
          .delta_interval = std::chrono::milliseconds(options.delta_interval_ms.value_or(0))};
}

std::vector<TokenEvent> Tokens(const std::vector<TokenLogprob>& logprobs) {
  std::vector<TokenEvent> tokens;
  for (const TokenLogprob& logprob : logprobs) {
    TokenEvent& token = tokens.emplace_back();
    token.token_id = logprob.token_id;
    token.logprob = static_cast<float>(logprob.logprob);
    for (const TokenScore& score : logprob.alternatives) {
      token.alternatives.emplace_back(score.id, static_cast<float>(score.logprob));
    }
  }
  return tokens;
}

std::string NameOf(FinishReason reason) {
  switch (reason) {
    case FinishReason::kEndOfText:
      return "FINISH_REASON_END_OF_TEXT";
    case FinishReason::kStopString:
      return "FINISH_REASON_STOP_STRING";
    case FinishReason::kStopToken:
      return "FINISH_REASON_STOP_TOKEN";
    case FinishReason::kConstraint:
      return "FINISH_REASON_CONSTRAINT";
    case FinishReason::kMaxTokens:
      return "FINISH_REASON_MAX_TOKENS";
  }
  return "FINISH_REASON_UNSPECIFIED";
}

DoneEvent DoneOf(const Finished& finished) {
  const auto us = [](std::chrono::nanoseconds time) {
    return std::chrono::duration_cast<std::chrono::microseconds>(time).count();
  };
  DoneEvent done{.index = finished.index,
                 .finish_reason = NameOf(finished.reason),
                 .usage = {.prompt_tokens = finished.prompt_tokens,
                           .generated_tokens = finished.generated_tokens},
                 .timings = {.queue_us = us(finished.timings.queue),
                             .prefill_us = us(finished.timings.prefill),
                             .decode_us = us(finished.timings.decode),
                             .prefill_tokens = finished.timings.prefill_tokens,
                             .decode_tokens = finished.timings.decode_tokens},
                 .cumulative_logprob = finished.cumulative_logprob,
                 .seed = finished.seed};
  if (finished.reason == FinishReason::kStopString) {
    done.stop_string = finished.stop_string;
  } else if (finished.stop_token_id != kNone) {
    done.stop_token_id = finished.stop_token_id;
  }
  return done;
}

// Hands events from the engine's thread to the caller's. Holds at most what the request may
// generate, n * max_tokens deltas.
class EventQueue final : public TokenSink {
 public:
  void OnStarted(const Started& started) override {
    Push(StartedEvent{
        .request_id = "local", .seed = started.seed, .prompt_tokens = started.prompt_tokens});
  }
  bool OnDelta(Delta delta) override {
    Push(DeltaEvent{.index = delta.index,
                    .text = std::move(delta.text),
                    .token_ids = std::move(delta.token_ids),
                    .logprobs = Tokens(delta.logprobs),
                    .prompt_logprobs = Tokens(delta.prompt_logprobs)});
    return true;
  }
  void OnChoiceFinished(const Finished& finished) override { Push(DoneOf(finished)); }
  void OnFinished(const Finished& finished) override {
    Push(DoneOf(finished));
    End(absl::OkStatus());
  }
  void OnError(const absl::Status& status) override { End(status); }

  // Waits for the next event; none after the last, when `status` is how it ended.
  std::optional<GenerateEvent> Next(absl::Status& status) {
    MutexLock lock(mutex_);
    while (events_.empty() && !ended_) changed_.Wait(mutex_);
    if (events_.empty()) {
      status = status_;
      return std::nullopt;
    }
    GenerateEvent event = std::move(events_.front());
    events_.pop_front();
    return event;
  }

 private:
  void Push(GenerateEvent event) {
    MutexLock lock(mutex_);
    events_.push_back(std::move(event));
    changed_.NotifyAll();
  }
  void End(const absl::Status& status) {
    MutexLock lock(mutex_);
    ended_ = true;
    status_ = status;
    changed_.NotifyAll();
  }

  Mutex mutex_;
  CondVar changed_;
  std::deque<GenerateEvent> events_ ABSL_GUARDED_BY(mutex_);
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

// As errors of a daemon are shown.
absl::Status Named(const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(
      status.code(), absl::StrCat(absl::StatusCodeToString(status.code()), ": ", status.message()));
}

}  // namespace

absl::StatusOr<Request> ToRequest(const GenerateOptions& options, bool has_tokenizer) {
  BASED_RETURN_IF_ERROR(CheckServed(options));
  if (options.output.tokens_per_message.has_value()) {
    BASED_RETURN_IF_ERROR(CheckTokensPerMessage(*options.output.tokens_per_message));
  }
  Request request;
  request.request_id = "local";
  request.prompt_is_text = options.prompt_is_text;
  request.prompt_text = options.text;
  request.prompt_token_ids = options.token_ids;
  request.sampling = SamplingOf(options.sampling);
  request.stop = StopOf(options.stop);
  request.output = OutputOf(options.output, has_tokenizer);
  request.constraint = ConstraintOf(options.constraint);
  request.n = options.n.value_or(1);
  request.best_of = options.best_of.value_or(request.n);
  request.tenant = options.tenant;
  if (options.priority == GenerateOptions::Priority::kBatch) request.priority = Priority::kBatch;
  if (const double seconds = absl::GetFlag(FLAGS_timeout); seconds > 0) {
    request.deadline =
        Clock::now() + std::chrono::milliseconds(static_cast<int64_t>(seconds * 1e3));
  }
  return request;
}

absl::Status GenerateHere(const BackendFactory& new_backend, const GenerateOptions& options,
                          const std::function<void(GenerateEvent)>& on_event) {
  BASED_ASSIGN_OR_RETURN(LocalModel local, LoadLocalModel(new_backend, CompileOptions()));
  auto request = ToRequest(options, local.model->tokenizer != nullptr);
  if (!request.ok()) return Named(request.status());
  const int32_t slots = std::clamp(request->best_of, 1, kMostSlots);
  BASED_ASSIGN_OR_RETURN(
      const std::unique_ptr<Engine> engine,
      Engine::Create(std::move(local.model), {.slots = slots}, /*observer=*/nullptr));
  const auto queue = std::make_shared<EventQueue>();
  BASED_RETURN_IF_ERROR(Named(engine->Submit(*std::move(request), queue).status()));
  absl::Status status;
  while (std::optional<GenerateEvent> event = queue->Next(status)) on_event(*std::move(event));
  return Named(status);
}

}  // namespace based
