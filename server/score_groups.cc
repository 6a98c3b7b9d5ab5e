#include "server/score_groups.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <utility>

#include "absl/types/span.h"

namespace based {
namespace {

int64_t Length(const ScoreText& text) { return static_cast<int64_t>(text.ids.size()); }

// Tokens that both begin with.
int64_t Common(const ScoreText& a, const ScoreText& b) {
  return std::mismatch(a.ids.begin(), a.ids.end(), b.ids.begin(), b.ids.end()).first -
         a.ids.begin();
}

std::vector<int32_t> Slice(const std::vector<int32_t>& ids, int64_t begin, int64_t end) {
  return {ids.begin() + begin, ids.begin() + end};
}

// Makes one group of texts that come one after the other in their order.
class GroupMaker {
 public:
  // `order` are indices into `texts`, of a group.
  GroupMaker(const std::vector<ScoreText>& texts, absl::Span<const int> order)
      : texts_(texts), order_(order) {}

  ScoreGroup Make() && {
    for (size_t i = 0; i < order_.size(); ++i) AddPair(i);
    SetScored();
    SetRequest();
    return std::move(group_);
  }

 private:
  const ScoreText& Text(size_t i) const { return texts_[static_cast<size_t>(order_[i])]; }

  // A text that the next one begins with has its scores with that one's.
  void AddPair(size_t i) {
    const ScoreText& text = Text(i);
    group_.pairs.push_back({.index = order_[i],
                            .continuation = static_cast<int32_t>(ends_.size()),
                            .begin = text.scored_from,
                            .end = Length(text)});
    const bool is_last = i + 1 == order_.size();
    if (is_last || Common(text, Text(i + 1)) < Length(text)) AddContinuation(i);
  }

  void AddContinuation(size_t i) {
    ScoreGroup::Continuation next;
    if (!ends_.empty()) {
      const int64_t common = Common(Text(ends_.back()), Text(i));
      // Whose own tokens the last of those in common is one of.
      next = {.parent = static_cast<int32_t>(ends_.size()) - 1, .shared = common};
      while (Parent(next).shared >= next.shared) next.parent = Parent(next).parent;
      if (common - Parent(next).shared < ScoreGroup::kLeastShared) {
        next = Parent(next);
      }
    }
    group_.continuations.push_back(next);
    ends_.push_back(i);
  }

  const ScoreGroup::Continuation& Parent(const ScoreGroup::Continuation& of) const {
    return group_.continuations[static_cast<size_t>(of.parent)];
  }

  // What of each continuation some pair asks for.
  void SetScored() {
    for (size_t i = 0; i < ends_.size(); ++i) {
      group_.continuations[i].scored_from = Length(Text(ends_[i]));
    }
    for (const ScoreGroup::Pair& pair : group_.pairs) {
      int64_t end = pair.end;
      for (int32_t i = pair.continuation; end > pair.begin;) {
        ScoreGroup::Continuation& continuation = group_.continuations[static_cast<size_t>(i)];
        if (end > continuation.shared) {
          continuation.scored_from =
              std::min(continuation.scored_from, std::max(pair.begin, continuation.shared));
        }
        end = std::min(end, continuation.shared);
        i = continuation.parent;
      }
    }
  }

  void SetRequest() {
    Request& request = group_.request;
    request.prompt_is_text = false;
    request.output = {.text = false};
    for (size_t i = 0; i < ends_.size(); ++i) {
      const ScoreGroup::Continuation& own = group_.continuations[i];
      const std::vector<int32_t>& ids = Text(ends_[i]).ids;
      const int64_t begin = i == 0 ? own.scored_from : own.shared;
      request.continuations.push_back({.ids = Slice(ids, begin, Length(Text(ends_[i]))),
                                       .parent = own.parent,
                                       .shared = own.shared,
                                       .unscored = own.scored_from - begin});
      if (i == 0) request.prompt_token_ids = Slice(ids, 0, begin);
    }
  }

  const std::vector<ScoreText>& texts_;
  const absl::Span<const int> order_;
  std::vector<size_t> ends_;  // the text of each continuation, by its place in order_
  ScoreGroup group_;
};

}  // namespace

std::vector<TokenLogprob> ScoreGroup::TokensOf(
    const Pair& pair, const std::vector<std::vector<TokenLogprob>>& heard) const {
  std::vector<TokenLogprob> tokens;  // the last first
  int64_t end = pair.end;
  for (int32_t i = pair.continuation; end > pair.begin;) {
    const Continuation& continuation = continuations[static_cast<size_t>(i)];
    const std::vector<TokenLogprob>& own = heard[static_cast<size_t>(i)];
    const int64_t begin = std::max(pair.begin, continuation.shared);
    for (; end > begin; --end) {
      tokens.push_back(own[static_cast<size_t>(end - 1 - continuation.scored_from)]);
    }
    i = continuation.parent;
  }
  std::reverse(tokens.begin(), tokens.end());
  return tokens;
}

std::vector<ScoreGroup> GroupTexts(std::vector<ScoreText> texts, int32_t slots) {
  std::vector<int> order(texts.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&texts](int a, int b) {
    return texts[static_cast<size_t>(a)].ids < texts[static_cast<size_t>(b)].ids;
  });
  // A slot is needed beside that of a text that others go on from.
  const size_t most = slots > 1 ? ScoreGroup::kMostPairs : 1;
  std::vector<ScoreGroup> groups;
  for (size_t begin = 0, end = 0; begin < order.size(); begin = end) {
    for (end = begin + 1; end < order.size() && end - begin < most; ++end) {
      const ScoreText& before = texts[static_cast<size_t>(order[end - 1])];
      const ScoreText& text = texts[static_cast<size_t>(order[end])];
      if (Common(before, text) < ScoreGroup::kLeastShared) break;
    }
    groups.push_back(
        GroupMaker(texts, absl::MakeConstSpan(order).subspan(begin, end - begin)).Make());
  }
  return groups;
}

}  // namespace based
