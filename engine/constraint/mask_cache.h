// The masks of one constraint, computed when first asked for and kept. Thread-safe.
//
// A mask is the union of parts: what each reading's state allows, and for tokens in which its rule
// ends, what the caller's state allows behind that end, and so on outwards. A part is known by its
// state and the nodes of the token tree that it starts from, so that texts which differ only
// further out share it; whole masks are kept by the parts that they are made of.
#ifndef BASED_ENGINE_CONSTRAINT_MASK_CACHE_H_
#define BASED_ENGINE_CONSTRAINT_MASK_CACHE_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "engine/constraint/automaton.h"
#include "engine/constraint/mask_part.h"
#include "engine/constraint/readings.h"
#include "engine/constraint/token_trie.h"
#include "kernels/base/mutex.h"

namespace based {

class MaskCache {
 public:
  // Both outlive this. Keeps `max_bytes`, except for the masks that others still hold.
  MaskCache(const Automaton* automaton, const TokenTrie* trie, int64_t max_bytes,
            int32_t max_depth);

  // The tokens that may follow, with that of the end.
  std::shared_ptr<const TokenMask> MaskOf(const Readings& readings);

  int64_t bytes() const;

 private:
  struct Part {
    MaskPart part;
    int64_t id = 0;
    int64_t ends_id = kNoEnds;  // equal for equal ends
  };
  using PartPtr = std::shared_ptr<const Part>;
  static constexpr int64_t kRoot = 0;  // the root of the token tree as the only end
  static constexpr int64_t kNoEnds = -1;

  // What a mask is made of.
  struct Recipe {
    std::vector<PartPtr> parts;
    std::vector<int64_t> key;
    int32_t depth = 0;
    bool usable = true;
  };

  Recipe PartsOf(const Readings& readings);
  // The part of `state` behind the ends of `inner`; of the text so far where that is null.
  PartPtr GetPart(const Part* inner, int32_t state);
  std::shared_ptr<const TokenMask> Union(const Recipe& recipe, bool may_end) const;
  std::shared_ptr<const TokenMask> SingleBytes(const Readings& readings) const;
  void Grow(int64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Automaton* const automaton_;
  const TokenTrie* const trie_;
  const int64_t max_bytes_;
  const int32_t max_depth_;
  // Readings looked at for one part, and for all parts of a mask but the last. It counts whether or
  // not the parts were there, so that a mask does not depend on what was asked before.
  const int64_t most_work_;

  mutable Mutex mutex_;
  // By the ends that they start from and the state.
  absl::flat_hash_map<std::pair<int64_t, int32_t>, PartPtr> parts_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::vector<int32_t>, int64_t> ends_ids_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::vector<int64_t>, std::shared_ptr<const TokenMask>> masks_
      ABSL_GUARDED_BY(mutex_);
  int64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t next_id_ ABSL_GUARDED_BY(mutex_) = kRoot + 1;
};

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_MASK_CACHE_H_
