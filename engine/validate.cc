#include "engine/validate.h"

#include <algorithm>
#include <cmath>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "engine/constraint/constraint_compiler.h"
#include "kernels/base/status.h"

namespace based {
namespace {

constexpr float kMaxTemperature = 100.0f;
constexpr float kMaxRepetitionPenalty = 10.0f;
constexpr float kMaxPenalty = 10.0f;
constexpr float kMaxBias = 100.0f;
constexpr size_t kMaxBiases = 1024;
constexpr size_t kMaxBadWords = 256;
constexpr size_t kMaxBadWordBytes = 256;
constexpr int32_t kMaxTopLogprobs = 20;
constexpr int32_t kMaxCompletions = 64;
constexpr int64_t kMaxDeltaIntervalMs = 60'000;
constexpr size_t kMaxTenantBytes = 128;

absl::Status OutOfRange(absl::string_view field, auto value, absl::string_view expected) {
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", value, "; expected ", expected));
}

absl::Status CheckSampling(const SamplingParams& sampling) {
  // Written so that NaN fails.
  if (!(sampling.temperature >= 0.0f && sampling.temperature <= kMaxTemperature)) {
    return OutOfRange("sampling.temperature", sampling.temperature, "a number in [0, 100]");
  }
  if (sampling.top_k < 0) {
    return OutOfRange("sampling.top_k", sampling.top_k, "0 (off) or more");
  }
  if (!(sampling.top_p > 0.0f && sampling.top_p <= 1.0f)) {
    return OutOfRange("sampling.top_p", sampling.top_p, "a number in (0, 1]");
  }
  if (!(sampling.min_p >= 0.0f && sampling.min_p <= 1.0f)) {
    return OutOfRange("sampling.min_p", sampling.min_p, "a number in [0, 1]");
  }
  if (!(sampling.typical_p > 0.0f && sampling.typical_p <= 1.0f)) {
    return OutOfRange("sampling.typical_p", sampling.typical_p, "a number in (0, 1]");
  }
  if (!(sampling.repetition_penalty > 0.0f &&
        sampling.repetition_penalty <= kMaxRepetitionPenalty)) {
    return OutOfRange("sampling.repetition_penalty", sampling.repetition_penalty,
                      "a number in (0, 10]");
  }
  if (!(std::abs(sampling.presence_penalty) <= kMaxPenalty)) {
    return OutOfRange("sampling.presence_penalty", sampling.presence_penalty,
                      "a number in [-10, 10]");
  }
  if (!(std::abs(sampling.frequency_penalty) <= kMaxPenalty)) {
    return OutOfRange("sampling.frequency_penalty", sampling.frequency_penalty,
                      "a number in [-10, 10]");
  }
  return absl::OkStatus();
}

absl::Status CheckTokenIds(absl::string_view field, const std::vector<int32_t>& ids,
                           int32_t vocab_size) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab_size) {
      return OutOfRange(absl::StrCat(field, "[", i, "]"), ids[i],
                        absl::StrCat("a token id in [0, ", vocab_size, ")"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckLists(const SamplingParams& sampling, int32_t vocab_size) {
  if (sampling.logit_bias.size() > kMaxBiases) {
    return OutOfRange("sampling.logit_bias",
                      absl::StrCat(sampling.logit_bias.size(), " entries long"),
                      absl::StrCat("at most ", kMaxBiases));
  }
  absl::flat_hash_set<int32_t> biased;
  for (const TokenBias& bias : sampling.logit_bias) {
    if (!biased.insert(bias.id).second) {
      return OutOfRange("a key of sampling.logit_bias", absl::StrCat(bias.id, " twice"),
                        "each id once");
    }
    if (bias.id < 0 || bias.id >= vocab_size) {
      return OutOfRange("a key of sampling.logit_bias", bias.id,
                        absl::StrCat("a token id in [0, ", vocab_size, ")"));
    }
    if (!(std::abs(bias.bias) <= kMaxBias)) {
      return OutOfRange(absl::StrCat("sampling.logit_bias[", bias.id, "]"), bias.bias,
                        "a number in [-100, 100]");
    }
  }
  if (sampling.bad_words.size() > kMaxBadWords) {
    return OutOfRange("sampling.bad_words", absl::StrCat(sampling.bad_words.size(), " words long"),
                      absl::StrCat("at most ", kMaxBadWords));
  }
  for (size_t i = 0; i < sampling.bad_words.size(); ++i) {
    const std::string field = absl::StrCat("sampling.bad_words[", i, "]");
    const std::string& word = sampling.bad_words[i];
    if (word.empty() || word.size() > kMaxBadWordBytes) {
      return OutOfRange(field, absl::StrCat(word.size(), " bytes long"),
                        absl::StrCat("1 to ", kMaxBadWordBytes, " bytes"));
    }
    if (const size_t at = FindInvalidUtf8(word); at != std::string::npos) {
      return OutOfRange(field, absl::StrCat("not UTF-8 at byte ", at), "UTF-8 text");
    }
  }
  if (static_cast<int64_t>(sampling.allowed_token_ids.size()) > vocab_size) {
    return OutOfRange("sampling.allowed_token_ids",
                      absl::StrCat(sampling.allowed_token_ids.size(), " ids long"),
                      absl::StrCat("at most ", vocab_size));
  }
  return CheckTokenIds("sampling.allowed_token_ids", sampling.allowed_token_ids, vocab_size);
}

absl::Status CheckStop(const StopConditions& stop, int32_t vocab_size,
                       const EngineOptions& limits) {
  if (stop.max_tokens < 1 || stop.max_tokens > limits.max_output_tokens) {
    return OutOfRange("stop.max_tokens", stop.max_tokens,
                      absl::StrCat("a number in [1, ", limits.max_output_tokens, "]"));
  }
  if (stop.min_tokens < 0 || stop.min_tokens > stop.max_tokens) {
    return OutOfRange("stop.min_tokens", stop.min_tokens,
                      absl::StrCat("a number in [0, ", stop.max_tokens, "] (stop.max_tokens)"));
  }
  if (static_cast<int64_t>(stop.strings.size()) > limits.max_stop_strings) {
    return OutOfRange("stop.strings", absl::StrCat(stop.strings.size(), " strings long"),
                      absl::StrCat("at most ", limits.max_stop_strings));
  }
  for (size_t i = 0; i < stop.strings.size(); ++i) {
    const std::string field = absl::StrCat("stop.strings[", i, "]");
    const std::string& text = stop.strings[i];
    if (text.empty() || static_cast<int64_t>(text.size()) > limits.max_stop_string_bytes) {
      return OutOfRange(field, absl::StrCat(text.size(), " bytes long"),
                        absl::StrCat("1 to ", limits.max_stop_string_bytes, " bytes"));
    }
    if (const size_t at = FindInvalidUtf8(text); at != std::string::npos) {
      return OutOfRange(field, absl::StrCat("not UTF-8 at byte ", at), "UTF-8 text");
    }
  }
  if (static_cast<int64_t>(stop.token_ids.size()) > limits.max_stop_token_ids) {
    return OutOfRange("stop.token_ids", absl::StrCat(stop.token_ids.size(), " ids long"),
                      absl::StrCat("at most ", limits.max_stop_token_ids));
  }
  return CheckTokenIds("stop.token_ids", stop.token_ids, vocab_size);
}

// Ids that end a completion.
std::vector<int32_t> Endings(const StopConditions& stop, const Model& model) {
  std::vector<int32_t> ids = stop.token_ids;
  if (!stop.ignore_eos && model.config.eos_token_id >= 0) ids.push_back(model.config.eos_token_id);
  return ids;
}

absl::Status NeedsTokenizer(absl::string_view field) {
  return absl::FailedPreconditionError(
      absl::StrCat(field,
                   " needs a tokenizer and the model has none; use token ids, or start the "
                   "daemon with --tokenizer"));
}

absl::Status CheckOutput(const OutputOptions& output) {
  if (output.top_logprobs < 0 || output.top_logprobs > kMaxTopLogprobs) {
    return OutOfRange("output.top_logprobs", output.top_logprobs,
                      absl::StrCat("a number in [0, ", kMaxTopLogprobs, "]"));
  }
  if (output.top_logprobs > 0 && !output.logprobs && !output.prompt_logprobs) {
    return OutOfRange("output.top_logprobs", output.top_logprobs,
                      "0 unless output.logprobs or output.prompt_logprobs is set");
  }
  if (output.tokens_per_message != 0) {
    BASED_RETURN_IF_ERROR(CheckTokensPerMessage(output.tokens_per_message));
  }
  const int64_t interval = output.delta_interval.count();
  if (interval < 0 || interval > kMaxDeltaIntervalMs) {
    return OutOfRange("output.delta_interval_ms", interval,
                      absl::StrCat("a number in [0, ", kMaxDeltaIntervalMs, "]"));
  }
  return absl::OkStatus();
}

absl::Status CheckCompletions(const Request& request, const EngineOptions& limits, int32_t slots) {
  if (request.n < 1 || request.n > kMaxCompletions) {
    return OutOfRange("n", request.n, absl::StrCat("a number in [1, ", kMaxCompletions, "]"));
  }
  if (request.best_of < request.n || request.best_of > kMaxCompletions) {
    return OutOfRange("best_of", request.best_of,
                      absl::StrCat("a number in [", request.n, " (n), ", kMaxCompletions, "]"));
  }
  const absl::string_view field = request.n > slots ? "n" : "best_of";
  // Continuations start one by one, as slots come free; two slots are enough.
  const bool few_do = !request.continuations.empty() && slots > 1;
  if (request.best_of > slots && !few_do) {
    return OutOfRange(field, request.n > slots ? request.n : request.best_of,
                      absl::StrCat("at most the ", slots, " slots of this daemon"));
  }
  // Completions that are ranked are kept until all have ended.
  if (request.best_of > request.n &&
      request.best_of * request.stop.max_tokens > limits.max_output_tokens) {
    return OutOfRange(
        "best_of", request.best_of,
        absl::StrCat("best_of * stop.max_tokens of at most ", limits.max_output_tokens));
  }
  return absl::OkStatus();
}

// Contradictions that leave nothing to draw first; later ones show when they come about.
absl::Status CheckFirstDraw(const RuleSpec& spec) {
  const std::vector<absl::string_view> fields = DrawRules(spec, {}).FieldsThatLeaveNone(0);
  if (fields.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(absl::StrJoin(fields, " and "), fields.size() == 1 ? " leaves" : " leave",
                   " no token for the first draw; expected at least one"));
}

void SetConstraint(const Request& request, const Model& model,
                   std::shared_ptr<const Constraint> constraint, RuleSpec& spec) {
  spec.constraint = std::move(constraint);
  spec.constraint_field = std::string(ConstraintCompiler::FieldOf(request.constraint));
  if (request.stop.ignore_eos && model.config.eos_token_id >= 0) {
    spec.never.push_back(model.config.eos_token_id);
  }
  // A token that is not drawn has no logprob and was not asked whether it is allowed; a session
  // keeps only one that is not fed.
  if (!request.output.logprobs && request.best_of == request.n && request.session.id.empty() &&
      request.sampling.bad_words.empty() && spec.rules.allowed.empty()) {
    spec.spelling = model.tokenizer.get();
  }
}

bool HasRules(const Request& request) {
  const SamplingParams& sampling = request.sampling;
  return sampling.typical_p != 1 || sampling.repetition_penalty != 1 ||
         sampling.presence_penalty != 0 || sampling.frequency_penalty != 0 ||
         !sampling.logit_bias.empty() || !sampling.bad_words.empty() ||
         !sampling.allowed_token_ids.empty() || request.stop.min_tokens > 0 ||
         request.constraint.kind != ConstraintAsk::Kind::kNothing;
}

}  // namespace

absl::Status CheckBackend(const Request& request, const ExecutableInfo& info) {
  absl::string_view field;
  const SamplingParams& sampling = request.sampling;
  if (HasRules(request) && !info.sampling_rules) {
    field = sampling.typical_p != 1               ? "sampling.typical_p"
            : sampling.repetition_penalty != 1    ? "sampling.repetition_penalty"
            : sampling.presence_penalty != 0      ? "sampling.presence_penalty"
            : sampling.frequency_penalty != 0     ? "sampling.frequency_penalty"
            : !sampling.logit_bias.empty()        ? "sampling.logit_bias"
            : !sampling.bad_words.empty()         ? "sampling.bad_words"
            : !sampling.allowed_token_ids.empty() ? "sampling.allowed_token_ids"
            : request.stop.min_tokens > 0         ? "stop.min_tokens"
                                                  : "constraint";
  } else if (request.output.top_logprobs > 0 && !info.top_logprobs) {
    field = "output.top_logprobs";
  }
  if (field.empty()) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat(field, " is set; the ", info.backend,
                                               " backend does not serve it yet, leave it unset"));
}

absl::Status CheckTokensPerMessage(int32_t tokens) {
  if (tokens >= 1 && tokens <= OutputOptions::kMaxTokensPerMessage) return absl::OkStatus();
  return OutOfRange("output.tokens_per_message", tokens,
                    absl::StrCat("a number in [1, ", OutputOptions::kMaxTokensPerMessage, "]"));
}

absl::Status ValidateRequest(const Request& request, const Model& model,
                             const EngineOptions& limits, int32_t slots) {
  BASED_RETURN_IF_ERROR(CheckSampling(request.sampling));
  BASED_RETURN_IF_ERROR(CheckLists(request.sampling, model.config.vocab_size));
  BASED_RETURN_IF_ERROR(CheckStop(request.stop, model.config.vocab_size, limits));
  BASED_RETURN_IF_ERROR(CheckOutput(request.output));
  BASED_RETURN_IF_ERROR(CheckCompletions(request, limits, slots));
  if (request.tenant.size() > kMaxTenantBytes) {
    return OutOfRange("tenant", absl::StrCat(request.tenant.size(), " bytes long"),
                      absl::StrCat("at most ", kMaxTenantBytes));
  }
  if (model.tokenizer == nullptr) {
    if (request.prompt_is_text && !request.prompt_text.empty()) return NeedsTokenizer("text");
    if (request.output.text) return NeedsTokenizer("output.text");
    if (!request.stop.strings.empty()) return NeedsTokenizer("stop.strings");
    if (!request.sampling.bad_words.empty()) return NeedsTokenizer("sampling.bad_words");
    if (request.constraint.kind != ConstraintAsk::Kind::kNothing) {
      return NeedsTokenizer("constraint");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const RuleSpec>> MakeRules(
    const Request& request, const Model& model, std::shared_ptr<const Constraint> constraint) {
  if (!HasRules(request)) return std::shared_ptr<const RuleSpec>();
  auto spec = std::make_shared<RuleSpec>();
  const SamplingParams& sampling = request.sampling;
  spec->rules.repetition_penalty = sampling.repetition_penalty;
  spec->rules.presence_penalty = sampling.presence_penalty;
  spec->rules.frequency_penalty = sampling.frequency_penalty;
  spec->rules.typical_p = sampling.typical_p;
  spec->rules.biases = sampling.logit_bias;
  std::vector<int32_t>& allowed = spec->rules.allowed;
  allowed = sampling.allowed_token_ids;
  std::sort(allowed.begin(), allowed.end());
  allowed.erase(std::unique(allowed.begin(), allowed.end()), allowed.end());
  for (const std::string& word : sampling.bad_words) {
    for (const absl::string_view before : {"", " "}) {
      BASED_ASSIGN_OR_RETURN(std::vector<int32_t> ids,
                             model.tokenizer->Encode(absl::StrCat(before, word)));
      if (!ids.empty()) spec->bad_words.push_back(std::move(ids));
    }
  }
  spec->min_tokens = request.stop.min_tokens;
  spec->endings = Endings(request.stop, model);
  spec->vocab_size = model.config.vocab_size;
  if (constraint != nullptr) SetConstraint(request, model, std::move(constraint), *spec);
  BASED_RETURN_IF_ERROR(CheckFirstDraw(*spec));
  return spec;
}

absl::StatusOr<std::vector<int32_t>> PromptTokens(const Request& request, const Model& model,
                                                  const EngineOptions& limits) {
  std::vector<int32_t> ids;
  const absl::string_view field = request.prompt_is_text ? "text" : "token_ids.ids";
  if (!request.prompt_is_text) {
    ids = request.prompt_token_ids;
  } else if (!request.prompt_text.empty()) {
    if (const size_t at = FindInvalidUtf8(request.prompt_text); at != std::string::npos) {
      return OutOfRange(field, absl::StrCat("not UTF-8 at byte ", at), "UTF-8 text");
    }
    BASED_ASSIGN_OR_RETURN(ids, model.tokenizer->Encode(request.prompt_text));
  }
  if (static_cast<int64_t>(ids.size()) > limits.max_prompt_tokens) {
    return OutOfRange(field, absl::StrCat(ids.size(), " tokens long"),
                      absl::StrCat("at most ", limits.max_prompt_tokens));
  }
  BASED_RETURN_IF_ERROR(CheckTokenIds(field, ids, model.config.vocab_size));
  if (ids.empty()) {
    if (model.config.bos_token_id < 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          field, " is empty; expected a prompt, since the model has no begin-of-text token"));
    }
    ids.push_back(model.config.bos_token_id);
  }
  return ids;
}

absl::Status CheckContinuations(const Request& request, const Model& model,
                                const EngineOptions& limits, int64_t prompt_tokens) {
  struct Text {
    int64_t shared = 0;
    int64_t length = 0;
  };
  std::vector<Text> texts;
  for (size_t i = 0; i < request.continuations.size(); ++i) {
    const Continuation& own = request.continuations[i];
    const std::string field = absl::StrCat("continuations[", i, "]");
    const int64_t shared = own.shared == 0 || i == 0 ? prompt_tokens : own.shared;
    if (i > 0) {
      if (own.parent < 0 || static_cast<size_t>(own.parent) >= i) {
        return OutOfRange(field + ".parent", own.parent, "the index of an earlier one");
      }
      const Text& parent = texts[static_cast<size_t>(own.parent)];
      if (shared <= parent.shared || shared >= parent.length) {
        return OutOfRange(field + ".shared", shared,
                          absl::StrCat("a number in (", parent.shared, ", ", parent.length, ")"));
      }
    }
    const auto tokens = static_cast<int64_t>(own.ids.size());
    if (tokens < 1 || shared + tokens > limits.max_prompt_tokens) {
      return OutOfRange(field, absl::StrCat(tokens, " tokens long"),
                        absl::StrCat("at least 1, with the ", shared, " before them at most ",
                                     limits.max_prompt_tokens));
    }
    if (own.unscored < 0 || own.unscored >= tokens) {
      return OutOfRange(field + ".unscored", own.unscored,
                        absl::StrCat("a number in [0, ", tokens, ")"));
    }
    BASED_RETURN_IF_ERROR(CheckTokenIds(field, own.ids, model.config.vocab_size));
    texts.push_back({.shared = i == 0 ? 0 : shared, .length = shared + tokens});
  }
  return absl::OkStatus();
}

}  // namespace based
