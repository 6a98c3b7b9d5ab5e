// The Score half of convert.h.
#include <algorithm>
#include <type_traits>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
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

absl::StatusOr<PairTokens> TokensOf(const v1::ScorePair& pair, int index, const Model& model) {
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
  return tokens;
}

// What Engine::Submit checks too, where it does not know of pairs.
absl::Status CheckTokens(const PairTokens& tokens, int index, const Model& model,
                         const Capacity& limits) {
  const size_t length = tokens.context.size() + tokens.continuation.size();
  if (static_cast<int64_t>(length) > limits.max_prompt_tokens) {
    return WrongPair(index, absl::StrCat(" is ", length, " tokens long; expected at most ",
                                         limits.max_prompt_tokens));
  }
  for (const auto& [field, ids] : {std::pair(".context_ids.ids[", &tokens.context),
                                   std::pair(".continuation_ids.ids[", &tokens.continuation)}) {
    for (size_t i = 0; i < ids->size(); ++i) {
      const int32_t id = (*ids)[i];
      if (id >= 0 && id < model.config.vocab_size) continue;
      return WrongPair(index, absl::StrCat(field, i, "] is ", id, "; expected a token id in [0, ",
                                           model.config.vocab_size, ")"));
    }
  }
  return absl::OkStatus();
}

// Contexts stay where they are when groups move.
static_assert(std::is_nothrow_move_constructible_v<ScoreGroup>);

// Puts pairs into groups of equal contexts.
class Grouping {
 public:
  explicit Grouping(int32_t slots)
      : most_(std::clamp<size_t>(static_cast<size_t>(slots), 1, ScoreGroup::kMostPairs)) {}

  void Add(PairTokens tokens, int pair) {
    const auto found = open_.find(absl::MakeConstSpan(tokens.context));
    if (found != open_.end()) {
      ScoreGroup& group = groups_[found->second];
      group.pairs.push_back(pair);
      group.request.continuations.push_back(std::move(tokens.continuation));
      if (group.pairs.size() == most_) open_.erase(found);
      return;
    }
    ScoreGroup& group = groups_.emplace_back();
    group.pairs.push_back(pair);
    group.request.prompt_is_text = false;
    group.request.output = {.text = false};
    group.request.prompt_token_ids = std::move(tokens.context);
    group.request.continuations.push_back(std::move(tokens.continuation));
    if (most_ == 1 || group.request.prompt_token_ids.size() < ScoreGroup::kLeastShared) return;
    open_.emplace(group.request.prompt_token_ids, groups_.size() - 1);
  }

  std::vector<ScoreGroup> Take() && { return std::move(groups_); }

 private:
  const size_t most_;
  std::vector<ScoreGroup> groups_;
  // Groups with room, by contexts that they hold.
  absl::flat_hash_map<absl::Span<const int32_t>, size_t> open_;
};

}  // namespace

absl::StatusOr<std::vector<ScoreGroup>> ScoresFromProto(const v1::ScoreRequest& message,
                                                        const Model& model,
                                                        const Capacity& limits) {
  if (message.pairs_size() < 1 || message.pairs_size() > kMaxPairs) {
    return absl::InvalidArgumentError(
        absl::StrCat("pairs is ", message.pairs_size(), " long; expected 1 to ", kMaxPairs));
  }
  Grouping grouping(limits.slots_total);
  for (int i = 0; i < message.pairs_size(); ++i) {
    BASED_ASSIGN_OR_RETURN(PairTokens tokens, TokensOf(message.pairs(i), i, model));
    BASED_RETURN_IF_ERROR(CheckTokens(tokens, i, model, limits));
    grouping.Add(std::move(tokens), i);
  }
  return std::move(grouping).Take();
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
