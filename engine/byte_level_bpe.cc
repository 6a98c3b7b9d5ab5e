#include "engine/byte_level_bpe.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <queue>
#include <tuple>

namespace based {
namespace {

// Up to here scanning all pairs for the lowest rank beats a heap.
constexpr size_t kShortWord = 48;

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

}  // namespace

ByteLevelBpe::ByteLevelBpe(const BpeModel& model)
    : unknown_id_(model.unknown_id), fuse_unknown_(model.fuse_unknown) {
  byte_ids_.fill(-1);
  for (const auto& [bytes, id] : model.vocabulary) {
    if (bytes.size() == 1) byte_ids_[static_cast<uint8_t>(bytes[0])] = id;
  }
  const size_t size = std::bit_ceil(2 * model.merges.size() + 2);
  slots_.resize(size);
  slot_shift_ = 64 - std::countr_zero(size);
  for (size_t rank = 0; rank < model.merges.size(); ++rank) {
    AddMerge(model.merges[rank], static_cast<uint32_t>(rank));
  }
  AddWholeWords(model);
}

size_t ByteLevelBpe::SlotOf(uint64_t key) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = (key * 0x9E3779B97F4A7C15u) >> slot_shift_;
  while (slots_[slot].key != key && slots_[slot].key != UINT64_MAX) slot = (slot + 1) & mask;
  return slot;
}

// A pair listed twice keeps its last rank, as in Hugging Face's map from pairs to ranks.
void ByteLevelBpe::AddMerge(const BpeModel::Merge& merge, uint32_t rank) {
  const uint64_t key = PairKey(merge.left, merge.right);
  slots_[SlotOf(key)] = {key, {rank, merge.merged}};
}

ByteLevelBpe::Merged ByteLevelBpe::Find(int32_t left, int32_t right) const {
  return slots_[SlotOf(PairKey(left, right))].merged;
}

void ByteLevelBpe::AddWholeWords(const BpeModel& model) {
  std::vector<int32_t> ids;
  for (const auto& [bytes, id] : model.vocabulary) {
    if (bytes.empty()) continue;
    ids.clear();
    MergeWord(bytes, &ids);
    const bool merges_to_itself = ids.size() == 1 && ids[0] == id;
    if (!merges_to_itself && !model.ignore_merges) continue;
    whole_words_.emplace(bytes, id);
    longest_whole_word_ = std::max(longest_whole_word_, bytes.size());
  }
}

void ByteLevelBpe::EncodeWord(std::string_view word, std::vector<int32_t>* ids) const {
  if (word.size() <= longest_whole_word_) {
    if (const auto it = whole_words_.find(word); it != whole_words_.end()) {
      ids->push_back(it->second);
      return;
    }
  }
  MergeWord(word, ids);
}

void ByteLevelBpe::AppendSymbols(std::string_view word, std::vector<int32_t>* symbols) const {
  bool after_unknown = false;
  for (const char byte : word) {
    const int32_t id = byte_ids_[static_cast<uint8_t>(byte)];
    if (id >= 0) {
      symbols->push_back(id);
    } else if (unknown_id_ >= 0 && !(fuse_unknown_ && after_unknown)) {
      symbols->push_back(unknown_id_);
    }
    after_unknown = id < 0;
  }
}

void ByteLevelBpe::MergeWord(std::string_view word, std::vector<int32_t>* ids) const {
  const size_t begin = ids->size();
  AppendSymbols(word, ids);
  const size_t count = ids->size() - begin;
  if (count > kShortWord) {
    MergeLong(ids, begin);
  } else if (count > 1) {
    ids->resize(begin + MergeShort(ids->data() + begin, count));
  }
}

// Merges in place; returns how many symbols are left. count is in [2, kShortWord].
size_t ByteLevelBpe::MergeShort(int32_t* symbols, size_t count) const {
  Merged merges[kShortWord];  // of symbols[i] with symbols[i + 1]
  for (size_t i = 0; i + 1 < count; ++i) merges[i] = Find(symbols[i], symbols[i + 1]);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i) {
      if (merges[i].rank < merges[best].rank) best = i;
    }
    if (merges[best].rank == kNoMerge) break;
    symbols[best] = merges[best].id;
    --count;
    std::copy(symbols + best + 2, symbols + count + 1, symbols + best + 1);
    if (best + 1 < count) std::copy(merges + best + 2, merges + count, merges + best + 1);
    if (best + 1 < count) merges[best] = Find(symbols[best], symbols[best + 1]);
    if (best > 0) merges[best - 1] = Find(symbols[best - 1], symbols[best]);
  }
  return count;
}

// The same over a doubly linked list, the next merge taken from a heap. An entry is stale when its
// symbol was merged away or the pair at its place became another one.
void ByteLevelBpe::MergeLong(std::vector<int32_t>* symbols, size_t begin) const {
  struct Node {
    int32_t id;  // -1: merged into its left neighbour
    int32_t previous;
    int32_t next;
  };
  const int32_t count = static_cast<int32_t>(symbols->size() - begin);
  std::vector<Node> nodes(count);
  for (int32_t i = 0; i < count; ++i) {
    nodes[i] = {(*symbols)[begin + i], i - 1, i + 1 < count ? i + 1 : -1};
  }
  using Entry = std::tuple<uint32_t, int32_t>;  // rank, place: lowest rank, then leftmost
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> heap;
  const auto find = [&](int32_t place) -> Merged {
    if (place < 0 || nodes[place].id < 0 || nodes[place].next < 0) return {kNoMerge, -1};
    return Find(nodes[place].id, nodes[nodes[place].next].id);
  };
  const auto push = [&](int32_t place) {
    if (const Merged merged = find(place); merged.rank != kNoMerge) heap.push({merged.rank, place});
  };
  for (int32_t i = 0; i + 1 < count; ++i) push(i);
  while (!heap.empty()) {
    const auto [rank, place] = heap.top();
    heap.pop();
    const Merged merged = find(place);
    if (merged.rank != rank) continue;
    Node& left = nodes[place];
    Node& right = nodes[left.next];
    left.id = merged.id;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) nodes[left.next].previous = place;
    push(left.previous);
    push(place);
  }
  symbols->resize(begin);
  for (int32_t i = 0; i >= 0; i = nodes[i].next) symbols->push_back(nodes[i].id);
}

}  // namespace based
