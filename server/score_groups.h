// The pairs of a Score call as requests to the engine, by what their texts begin with: that is
// computed once for the pairs of a group.
#ifndef BASED_SERVER_SCORE_GROUPS_H_
#define BASED_SERVER_SCORE_GROUPS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/request.h"

namespace based {

// A text and where in it the scored part begins: at least one token before it, and at least one in
// it.
struct ScoreText {
  std::vector<int32_t> ids;
  int64_t scored_from = 1;
};

struct ScoreGroup {
  static constexpr size_t kMostPairs = 32;
  // Fewer tokens cost no more to compute again than the copy of a state.
  static constexpr int64_t kLeastShared = 8;

  struct Pair {
    int index = 0;             // into the call's pairs
    int32_t continuation = 0;  // of the request; its text begins with the pair's
    int64_t begin = 0;         // of the scored part, a position in the text
    int64_t end = 0;
  };
  // Of the request's: its text is the first `shared` tokens of its parent's and tokens of its own.
  struct Continuation {
    int32_t parent = 0;
    int64_t shared = 0;
    int64_t scored_from = 0;  // position from which the engine scores its own tokens
  };

  Request request;
  std::vector<Pair> pairs;                  // at least one
  std::vector<Continuation> continuations;  // the first is nobody's child

  // The scores of the pair's tokens, given what was heard of each continuation.
  std::vector<TokenLogprob> TokensOf(const Pair& pair,
                                     const std::vector<std::vector<TokenLogprob>>& heard) const;
};

// Groups of at most kMostPairs, of one pair each where there is but one slot. Text i is that of
// pair i.
std::vector<ScoreGroup> GroupTexts(std::vector<ScoreText> texts, int32_t slots);

}  // namespace based

#endif  // BASED_SERVER_SCORE_GROUPS_H_
