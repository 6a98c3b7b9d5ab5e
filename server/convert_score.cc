// The Score half of convert.h.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"
#include "server/convert.h"

namespace based {
namespace {

constexpr int kMaxPairs = 4096;

absl::Status WrongPair(int index, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("pairs[", index, "]", what));
}

absl::StatusOr<ScoreText> Tokenize(const v1::ScorePair& pair, int index, const Model& model) {
  if (model.tokenizer == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("pairs[", index, "] is text and the model has no tokenizer; use token ids"));
  }
  for (const auto& [field, text] :
       {std::pair(".context", &pair.context()), std::pair(".continuation", &pair.continuation())}) {
    if (const size_t at = FindInvalidUtf8(*text); at != std::string::npos) {
      return WrongPair(index,
                       absl::StrCat(field, " is not UTF-8 at byte ", at, "; expected UTF-8 text"));
    }
  }
  // Whitespace between the two is written with what follows it: with the context it may be a token
  // that the continuation's first would have been part of.
  const size_t end = pair.context().find_last_not_of(" \t\n\v\f\r") + 1;
  BASED_ASSIGN_OR_RETURN(const std::vector<int32_t> context,
                         model.tokenizer->Encode(pair.context().substr(0, end)));
  ScoreText text;
  BASED_ASSIGN_OR_RETURN(
      text.ids, model.tokenizer->Encode(absl::StrCat(pair.context(), pair.continuation())));
  text.scored_from = static_cast<int64_t>(std::min(context.size(), text.ids.size()));
  if (text.scored_from == static_cast<int64_t>(text.ids.size()) && !pair.continuation().empty()) {
    return WrongPair(index,
                     ".continuation is part of the context's last token; expected a continuation "
                     "that begins a token, or token ids");
  }
  return text;
}

absl::StatusOr<ScoreText> TextOf(const v1::ScorePair& pair, int index, const Model& model) {
  const bool ids = pair.has_context_ids() || pair.has_continuation_ids();
  const bool is_text = !pair.context().empty() || !pair.continuation().empty();
  if (ids == is_text) {
    return WrongPair(index, ids ? " is set as text and as ids; expected one of the two"
                                : " is not set as text or as ids; expected one of the two");
  }
  ScoreText text;
  if (ids) {
    text.ids.assign(pair.context_ids().ids().begin(), pair.context_ids().ids().end());
    text.scored_from = pair.context_ids().ids_size();
    text.ids.insert(text.ids.end(), pair.continuation_ids().ids().begin(),
                    pair.continuation_ids().ids().end());
  } else {
    BASED_ASSIGN_OR_RETURN(text, Tokenize(pair, index, model));
  }
  if (text.scored_from == static_cast<int64_t>(text.ids.size())) {
    return WrongPair(index, ".continuation has no tokens; expected at least one");
  }
  if (text.scored_from == 0) {
    const ModelConfig& config = model.config;
    const int32_t start = config.bos_token_id >= 0 ? config.bos_token_id : config.eos_token_id;
    if (start < 0) {
      return WrongPair(index,
                       ".context is empty; expected text, since the model has no "
                       "begin-of-text or end-of-text token");
    }
    text.ids.insert(text.ids.begin(), start);
    text.scored_from = 1;
  }
  return text;
}

// What Engine::Submit checks too, where it does not know of pairs.
absl::Status CheckText(const ScoreText& text, int index, const Model& model,
                       const Capacity& limits) {
  if (static_cast<int64_t>(text.ids.size()) > limits.max_prompt_tokens) {
    return WrongPair(index, absl::StrCat(" is ", text.ids.size(), " tokens long; expected at most ",
                                         limits.max_prompt_tokens));
  }
  const auto context = static_cast<size_t>(text.scored_from);
  for (size_t i = 0; i < text.ids.size(); ++i) {
    const int32_t id = text.ids[i];
    if (id >= 0 && id < model.config.vocab_size) continue;
    const std::string field = i < context ? absl::StrCat(".context_ids.ids[", i)
                                          : absl::StrCat(".continuation_ids.ids[", i - context);
    return WrongPair(index, absl::StrCat(field, "] is ", id, "; expected a token id in [0, ",
                                         model.config.vocab_size, ")"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<ScoreGroup>> ScoresFromProto(const v1::ScoreRequest& message,
                                                        const Model& model,
                                                        const Capacity& limits) {
  if (message.pairs_size() < 1 || message.pairs_size() > kMaxPairs) {
    return absl::InvalidArgumentError(
        absl::StrCat("pairs is ", message.pairs_size(), " long; expected 1 to ", kMaxPairs));
  }
  std::vector<ScoreText> texts;
  for (int i = 0; i < message.pairs_size(); ++i) {
    BASED_ASSIGN_OR_RETURN(ScoreText text, TextOf(message.pairs(i), i, model));
    BASED_RETURN_IF_ERROR(CheckText(text, i, model, limits));
    texts.push_back(std::move(text));
  }
  return GroupTexts(std::move(texts), limits.slots_total);
}

void ScoreToProto(const std::vector<TokenLogprob>& tokens, bool token_logprobs,
                  v1::Score& message) {
  double sum = 0;
  bool greedy = true;
  for (const TokenLogprob& token : tokens) {
    sum += token.logprob;
    greedy = greedy && token.most_likely;
    if (token_logprobs) TokenLogprobToProto(token, *message.add_token_logprobs());
  }
  message.set_logprob(sum);
  message.set_is_greedy(greedy);
  message.set_tokens(static_cast<int64_t>(tokens.size()));
}

}  // namespace based
