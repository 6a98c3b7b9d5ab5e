#include "engine/validate.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "kernels/base/status.h"

namespace based {
namespace {

constexpr float kMaxTemperature = 100.0f;

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

absl::Status CheckStop(const StopConditions& stop, int32_t vocab_size,
                       const EngineOptions& limits) {
  if (stop.max_tokens < 1 || stop.max_tokens > limits.max_output_tokens) {
    return OutOfRange("stop.max_tokens", stop.max_tokens,
                      absl::StrCat("a number in [1, ", limits.max_output_tokens, "]"));
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

absl::Status NeedsTokenizer(absl::string_view field) {
  return absl::FailedPreconditionError(
      absl::StrCat(field, " needs a tokenizer and the model has none; use token ids, or start the "
                          "daemon with --tokenizer"));
}

}  // namespace

absl::Status ValidateRequest(const Request& request, const Model& model,
                             const EngineOptions& limits) {
  BASED_RETURN_IF_ERROR(CheckSampling(request.sampling));
  BASED_RETURN_IF_ERROR(CheckStop(request.stop, model.config.vocab_size, limits));
  if (model.tokenizer == nullptr) {
    if (request.prompt_is_text && !request.prompt_text.empty()) return NeedsTokenizer("text");
    if (request.output.text) return NeedsTokenizer("output.text");
    if (!request.stop.strings.empty()) return NeedsTokenizer("stop.strings");
  }
  return absl::OkStatus();
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

}  // namespace based
