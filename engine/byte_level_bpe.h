// Byte-pair encoding of one word over bytes: symbols start as single bytes, and the adjacent pair
// whose merge has the lowest rank (the leftmost of equals) is merged until none is left.
#ifndef BASED_ENGINE_BYTE_LEVEL_BPE_H_
#define BASED_ENGINE_BYTE_LEVEL_BPE_H_

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace based {

// Look-up by std::string_view (absl's own hash of strings knows its own string_view only).
struct BytesHash {
  using is_transparent = void;
  size_t operator()(std::string_view bytes) const { return std::hash<std::string_view>()(bytes); }
};

// What a tokenizer file says about its model, with all ids checked.
struct BpeModel {
  struct Merge {
    int32_t left;
    int32_t right;
    int32_t merged;
  };
  std::vector<std::pair<std::string, int32_t>> vocabulary;  // bytes of each token, its id
  std::vector<Merge> merges;                                // the index is the rank
  int32_t unknown_id = -1;     // stands for bytes that have no token; -1: they are dropped
  bool fuse_unknown = false;   // a run of such bytes gives one unknown_id
  bool ignore_merges = false;  // a word that is a token as a whole is never split
};

// Immutable; safe from many threads.
class ByteLevelBpe {
 public:
  explicit ByteLevelBpe(const BpeModel& model);

  // Appends the ids of `word`. O(n) for words that are a single token, O(n log n) otherwise.
  void EncodeWord(std::string_view word, std::vector<int32_t>* ids) const;

 private:
  struct Merged {
    uint32_t rank;  // kNoMerge when the pair does not merge
    int32_t id;
  };
  static constexpr uint32_t kNoMerge = UINT32_MAX;

  void AddMerge(const BpeModel::Merge& merge, uint32_t rank);
  void AddWholeWords(const BpeModel& model);
  Merged Find(int32_t left, int32_t right) const;
  size_t SlotOf(uint64_t key) const;
  void AppendSymbols(std::string_view word, std::vector<int32_t>* symbols) const;
  void MergeWord(std::string_view word, std::vector<int32_t>* ids) const;
  size_t MergeShort(int32_t* symbols, size_t count) const;
  void MergeLong(std::vector<int32_t>* symbols, size_t begin) const;

  // Open addressing, at most half full: one cache line per look-up is what the inner loop costs.
  struct Slot {
    uint64_t key = UINT64_MAX;  // left << 32 | right; ids are not negative, so this is no key
    Merged merged = {kNoMerge, -1};
  };
  std::vector<Slot> slots_;
  int slot_shift_ = 0;  // 64 - log2(slots_.size())

  std::array<int32_t, 256> byte_ids_;  // -1: the vocabulary lacks the byte
  int32_t unknown_id_;
  bool fuse_unknown_;
  // Words that encode to a single id, found at load, so that most words cost one look-up.
  absl::flat_hash_map<std::string, int32_t, BytesHash, std::equal_to<>> whole_words_;
  size_t longest_whole_word_ = 0;
};

}  // namespace based

#endif  // BASED_ENGINE_BYTE_LEVEL_BPE_H_
