// What one state of an automaton contributes to a mask, whoever called its rule: the walk of the
// token tree that masks are made of.
#ifndef BASED_ENGINE_CONSTRAINT_MASK_PART_H_
#define BASED_ENGINE_CONSTRAINT_MASK_PART_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "engine/constraint/automaton.h"
#include "engine/constraint/token_trie.h"

namespace based {

// Bit id % 32 of word id / 32.
using TokenMask = std::vector<uint32_t>;

struct MaskPart {
  // Tokens that can follow without the rule ending before their last byte: as a mask where they are
  // many, else as a list.
  std::shared_ptr<const TokenMask> dense;
  std::vector<int32_t> sparse;
  // Where in the token tree the rule may have ended: what its caller says of the nodes below is a
  // part of its own. Ascending; n for node n, ~n for it and all nodes below it.
  std::vector<int32_t> ends;
  // Callers remembered on the way, at most.
  int32_t depth = 0;
  // Readings looked at on the way.
  int64_t work = 0;
  // False when the walk took more than its limit; the part is not to be used then.
  bool complete = true;

  bool empty() const { return dense == nullptr && sparse.empty(); }
  int64_t bytes() const;
};

// Walks the tokens below each of the nodes `from` (as in MaskPart::ends), where `state` is the only
// reading. The root stands for the text so far: an end there is not listed. `most_work` bounds the
// number of readings looked at.
MaskPart WalkTokens(const Automaton& automaton, const TokenTrie& trie,
                    absl::Span<const int32_t> from, int32_t state, int64_t most_work);

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_MASK_PART_H_
