// The masks of one constraint, computed when first asked for and kept. Thread-safe.
//
// A mask is the union of parts, one for each reading: what its state allows, and for tokens in
// which its rule ends, what the caller's state allows behind that end, and so on outwards. Parts
// hang together as a tree by these states, so that texts which differ only further out share them;
// whole masks are kept by the parts that they are made of.
#ifndef BASED_ENGINE_CONSTRAINT_MASK_CACHE_H_
#define BASED_ENGINE_CONSTRAINT_MASK_CACHE_H_

#include <cstdint>
#include <memory>
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
  MaskCache(const Automaton* automaton, const TokenTrie* trie, int64_t max_bytes, int32_t max_depth)
      : automaton_(automaton), trie_(trie), max_bytes_(max_bytes), max_depth_(max_depth) {}

  // The tokens that may follow, with that of the end.
  std::shared_ptr<const TokenMask> MaskOf(const Readings& readings);

  int64_t bytes() const;

 private:
  struct Part {
    MaskPart part;
    int64_t id = 0;
    absl::flat_hash_map<int32_t, std::shared_ptr<Part>> callers;  // by their states
  };
  using PartPtr = std::shared_ptr<Part>;

  // What a mask is made of.
  struct Recipe {
    std::vector<PartPtr> parts;
    std::vector<int64_t> key;
    int32_t depth = 0;
    int visited = 0;
    bool usable = true;
  };

  Recipe PartsOf(const Readings& readings);
  void AddPart(const PartPtr& inner, Readings::Reading reading, const Readings& readings,
               Recipe* recipe);
  // The part of `state` behind the ends of `inner`; of the text so far where that is null.
  PartPtr GetPart(const PartPtr& inner, int32_t state);
  std::shared_ptr<const TokenMask> Union(const Recipe& recipe, bool may_end) const;
  std::shared_ptr<const TokenMask> SingleBytes(const Readings& readings) const;
  void Grow(int64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Automaton* const automaton_;
  const TokenTrie* const trie_;
  const int64_t max_bytes_;
  const int32_t max_depth_;

  mutable Mutex mutex_;
  absl::flat_hash_map<int32_t, PartPtr> roots_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::vector<int64_t>, std::shared_ptr<const TokenMask>> masks_
      ABSL_GUARDED_BY(mutex_);
  int64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t next_id_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_MASK_CACHE_H_
