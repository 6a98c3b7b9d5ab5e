// The Score half of convert.h.
#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"
#include "server/convert.h"

namespace based {
namespace {

constexpr int kMaxPairs = 4096;

absl::Status WrongPair(int index, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("pairs[", index, "]", what));
}

struct PairTokens {
  std::vector<int32_t> context;
  std::vector<int32_t> continuation;
};

absl::StatusOr<PairTokens> Tokenize(const v1::ScorePair& pair, int index, const Model& model) {
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
  PairTokens tokens;
  BASED_ASSIGN_OR_RETURN(tokens.context, model.tokenizer->Encode(pair.context()));
  BASED_ASSIGN_OR_RETURN(
      const std::vector<int32_t> whole,
      model.tokenizer->Encode(absl::StrCat(pair.context(), pair.continuation())));
  const size_t first = std::min(tokens.context.size(), whole.size());
  tokens.context.assign(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(first));
  tokens.continuation.assign(whole.begin() + static_cast<ptrdiff_t>(first), whole.end());
  return tokens;
}

absl::StatusOr<Request> ScoreFromProto(const v1::ScorePair& pair, int index, const Model& model) {
  const bool ids = pair.has_context_ids() || pair.has_continuation_ids();
  const bool text = !pair.context().empty() || !pair.continuation().empty();
  if (ids == text)
    return WrongPair(index, " is not set as text or as ids; expected one of the two");
  PairTokens tokens;
  if (ids) {
    tokens.context.assign(pair.context_ids().ids().begin(), pair.context_ids().ids().end());
    tokens.continuation.assign(pair.continuation_ids().ids().begin(),
                               pair.continuation_ids().ids().end());
  } else {
    BASED_ASSIGN_OR_RETURN(tokens, Tokenize(pair, index, model));
  }
  if (tokens.continuation.empty()) {
    return WrongPair(index, ".continuation has no tokens; expected at least one");
  }
  if (tokens.context.empty()) {
    const ModelConfig& config = model.config;
    const int32_t start = config.bos_token_id >= 0 ? config.bos_token_id : config.eos_token_id;
    if (start < 0) {
      return WrongPair(index,
                       ".context is empty; expected text, since the model has no "
                       "begin-of-text or end-of-text token");
    }
    tokens.context.push_back(start);
  }
  Request request;
  request.prompt_is_text = false;
  request.output = {.text = false};
  request.score_from = static_cast<int64_t>(tokens.context.size());
  request.prompt_token_ids = std::move(tokens.context);
  request.prompt_token_ids.insert(request.prompt_token_ids.end(), tokens.continuation.begin(),
                                  tokens.continuation.end());
  return request;
}

}  // namespace

absl::StatusOr<std::vector<Request>> ScoresFromProto(const v1::ScoreRequest& message,
                                                     const Model& model) {
  if (message.pairs_size() < 1 || message.pairs_size() > kMaxPairs) {
    return absl::InvalidArgumentError(
        absl::StrCat("pairs is ", message.pairs_size(), " long; expected 1 to ", kMaxPairs));
  }
  std::vector<Request> requests;
  for (int i = 0; i < message.pairs_size(); ++i) {
    BASED_ASSIGN_OR_RETURN(Request request, ScoreFromProto(message.pairs(i), i, model));
    requests.push_back(std::move(request));
  }
  return requests;
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
