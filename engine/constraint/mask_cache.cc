#include "engine/constraint/mask_cache.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/container/inlined_vector.h"

namespace based {
namespace {

// Readings looked at for one part, at most, and for all parts of a mask but the last, for each node
// of the token tree: four times what tests/bench/constraint_bench.cc needs. 1 ns to 10 ns each.
constexpr int64_t kMostReadingsOfANode = 16;
// What small vocabularies may need besides.
constexpr int64_t kLeastWork = 1'000'000;
// Parts of less work than this are not counted.
constexpr int64_t kLittleWork = 1'000;
// Parts and callers of them looked at for one mask, at most.
constexpr size_t kMostVisits = 65'536;
// Stands in a key for a text that may end; parts have smaller numbers from 0 on.
constexpr int64_t kMayEnd = -1;

void SetBit(int32_t token, TokenMask* mask) {
  (*mask)[static_cast<uint32_t>(token) / 32] |= 1u << (static_cast<uint32_t>(token) % 32);
}

// A set that is mostly of one or two.
class VisitedPairs {
 public:
  size_t size() const { return few_.size() + many_.size(); }

  // Whether it is new.
  bool Add(int64_t part, int32_t caller) {
    const std::pair<int64_t, int32_t> pair = {part, caller};
    if (std::find(few_.begin(), few_.end(), pair) != few_.end()) return false;
    if (few_.size() == kFew) return many_.insert(pair).second;
    few_.push_back(pair);
    return true;
  }

 private:
  static constexpr size_t kFew = 16;
  absl::InlinedVector<std::pair<int64_t, int32_t>, kFew> few_;
  absl::flat_hash_set<std::pair<int64_t, int32_t>> many_;
};

}  // namespace

MaskCache::MaskCache(const Automaton* automaton, const TokenTrie* trie, int64_t max_bytes,
                     int32_t max_depth)
    : automaton_(automaton),
      trie_(trie),
      max_bytes_(max_bytes),
      max_depth_(max_depth),
      most_work_(std::max(kLeastWork,
                          kMostReadingsOfANode * static_cast<int64_t>(trie->nodes().size()))) {}

int64_t MaskCache::bytes() const {
  MutexLock lock(mutex_);
  return bytes_;
}

std::shared_ptr<const TokenMask> MaskCache::MaskOf(const Readings& readings) {
  const Recipe recipe = PartsOf(readings);
  // Parts know nothing of the limit of depth, nor of callers too many to visit. One byte is always
  // enough to go on, and the readings themselves say which.
  if (!recipe.usable || readings.MostDepth() + recipe.depth > max_depth_) {
    return SingleBytes(readings);
  }
  {
    MutexLock lock(mutex_);
    const auto known = masks_.find(recipe.key);
    if (known != masks_.end()) return known->second;
  }
  std::shared_ptr<const TokenMask> mask = Union(recipe, readings.may_end());
  MutexLock lock(mutex_);
  Grow(static_cast<int64_t>(4 * mask->size() + 8 * recipe.key.size() + 64));
  return masks_.try_emplace(recipe.key, std::move(mask)).first->second;
}

MaskCache::Recipe MaskCache::PartsOf(const Readings& readings) {
  Recipe recipe;
  struct Visit {
    PartPtr inner;
    Readings::Reading reading;
  };
  std::vector<Visit> open;
  for (const Readings::Reading& reading : readings.open()) open.push_back({nullptr, reading});
  VisitedPairs visited;
  absl::flat_hash_set<int64_t> counted;
  int64_t work = 0;
  while (!open.empty()) {
    const Visit visit = std::move(open.back());
    open.pop_back();
    const PartPtr part = GetPart(visit.inner.get(), visit.reading.state);
    if (part->part.work > kLittleWork && counted.insert(part->id).second) work += part->part.work;
    recipe.usable = part->part.complete && visited.size() < kMostVisits && work <= most_work_;
    if (!recipe.usable) return recipe;
    const int32_t caller = visit.reading.caller;
    if (!visited.Add(part->id, caller)) continue;
    recipe.depth = std::max(recipe.depth, part->part.depth);
    if (!part->part.empty()) recipe.parts.push_back(part);
    if (part->part.ends.empty() || caller == Readings::kOutside) continue;
    for (const int32_t outer : readings.CallersOf(caller)) {
      open.push_back({part, {readings.StateOf(caller), outer}});
    }
  }
  std::sort(recipe.parts.begin(), recipe.parts.end(),
            [](const PartPtr& a, const PartPtr& b) { return a->id < b->id; });
  recipe.parts.erase(std::unique(recipe.parts.begin(), recipe.parts.end()), recipe.parts.end());
  if (readings.may_end()) recipe.key.push_back(kMayEnd);
  for (const PartPtr& part : recipe.parts) recipe.key.push_back(part->id);
  recipe.depth += automaton_->most_nesting_need();
  return recipe;
}

MaskCache::PartPtr MaskCache::GetPart(const Part* inner, int32_t state) {
  const std::pair<int64_t, int32_t> key = {inner == nullptr ? kRoot : inner->ends_id, state};
  {
    MutexLock lock(mutex_);
    const auto found = parts_.find(key);
    if (found != parts_.end()) return found->second;
  }
  auto part = std::make_shared<Part>();
  const int32_t root = 0;
  part->part = WalkTokens(
      *automaton_, *trie_,
      inner == nullptr ? absl::MakeConstSpan(&root, 1) : absl::MakeConstSpan(inner->part.ends),
      state, most_work_);
  MutexLock lock(mutex_);
  Grow(part->part.bytes() + static_cast<int64_t>(sizeof(Part) + 4 * part->part.ends.size()));
  part->id = next_id_++;
  if (!part->part.ends.empty()) {
    part->ends_id = ends_ids_.try_emplace(part->part.ends, part->id).first->second;
  }
  return parts_.try_emplace(key, std::move(part)).first->second;
}

void MaskCache::Grow(int64_t bytes) {
  bytes_ += bytes;
  if (bytes_ <= max_bytes_) return;
  parts_.clear();
  ends_ids_.clear();
  masks_.clear();
  bytes_ = bytes;
}

std::shared_ptr<const TokenMask> MaskCache::Union(const Recipe& recipe, bool may_end) const {
  const bool eos = may_end && trie_->eos_token_id() != TokenTrie::kNoToken;
  if (recipe.parts.size() == 1 && recipe.parts[0]->part.dense != nullptr && !eos) {
    return recipe.parts[0]->part.dense;
  }
  auto mask = std::make_shared<TokenMask>(trie_->mask_words(), 0);
  if (eos) SetBit(trie_->eos_token_id(), mask.get());
  for (const PartPtr& part : recipe.parts) {
    for (const int32_t token : part->part.sparse) SetBit(token, mask.get());
    if (part->part.dense == nullptr) continue;
    const TokenMask& dense = *part->part.dense;
    for (size_t word = 0; word < dense.size(); ++word) (*mask)[word] |= dense[word];
  }
  return mask;
}

std::shared_ptr<const TokenMask> MaskCache::SingleBytes(const Readings& readings) const {
  auto mask = std::make_shared<TokenMask>(trie_->mask_words(), 0);
  if (readings.may_end() && trie_->eos_token_id() != TokenTrie::kNoToken) {
    SetBit(trie_->eos_token_id(), mask.get());
  }
  const ByteSet bytes = readings.NextBytes();
  for (size_t byte = 0; byte < bytes.size(); ++byte) {
    if (!bytes[byte]) continue;
    const char text = static_cast<char>(byte);
    if (!Readings(readings).Read(std::string_view(&text, 1))) continue;
    for (const int32_t token : trie_->TokensOfByte(static_cast<uint8_t>(byte))) {
      SetBit(token, mask.get());
    }
  }
  return mask;
}

}  // namespace based
