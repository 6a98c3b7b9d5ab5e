#include "engine/constraint/mask_part.h"

#include <algorithm>
#include <utility>

namespace based {
namespace {

// Readings at one node, at most: beyond, the part is given up.
constexpr size_t kMostReadings = 1'024;
// A subtree this small is walked sooner than asked whether it must be.
constexpr int32_t kSmallSubtree = 4;

class Walk {
 public:
  Walk(const Automaton& automaton, const TokenTrie& trie, int64_t most_work)
      : automaton_(automaton), trie_(trie), work_left_(most_work), mask_(trie.mask_words(), 0) {}

  MaskPart Run(absl::Span<const int32_t> from, int32_t state) {
    for (const int32_t node : from) {
      if (!From(node, state)) {
        MaskPart failed;
        failed.complete = false;
        return failed;
      }
    }
    return Result();
  }

 private:
  // As in class Readings, but each with one caller: the walk forgets them as it goes back.
  struct Reading {
    int32_t state;
    int32_t caller;
    bool operator==(const Reading&) const = default;
  };
  struct Caller {
    int32_t state;
    int32_t caller;
    int32_t depth;
    int32_t first_callee;  // the last made of those that have this one as their caller, or -1
    int32_t next_callee;   // the one made before this for the same caller, or -1
  };
  static constexpr int32_t kOutside = 0;

  // Where a level of the tree begins in the two stacks.
  struct Level {
    size_t readings;
    size_t callers;
  };

  bool From(int32_t top, int32_t state);
  // The readings behind `byte`, for those from `begin`; false where there are none.
  bool Step(size_t begin, uint8_t byte, int32_t node);
  void Arrive(Reading reading, size_t level_begin, int32_t node);
  int32_t Push(int32_t state, int32_t caller);
  void Forget(size_t callers);
  bool TakesAllBelow(size_t begin, int32_t node) const;
  void Mark(absl::Span<const int32_t> tokens) {
    for (const int32_t token : tokens) {
      mask_[static_cast<uint32_t>(token) / 32] |= 1u << (static_cast<uint32_t>(token) % 32);
    }
    marked_ += tokens.size();
  }
  MaskPart Result();

  const Automaton& automaton_;
  const TokenTrie& trie_;
  int64_t work_left_;
  TokenMask mask_;
  size_t marked_ = 0;
  std::vector<Reading> readings_;
  std::vector<Caller> callers_ = {{Automaton::kNone, -1, 0, -1, -1}};
  std::vector<Level> levels_;
  std::vector<int32_t> ends_;
  bool ended_ = false;  // at the node in hand
  int32_t depth_ = 0;
};

bool Walk::From(int32_t top, int32_t state) {
  readings_.clear();
  Forget(1);
  Arrive({state, kOutside}, 0, top);
  levels_ = {{0, 1}};
  const std::vector<TokenTrie::Node>& nodes = trie_.nodes();
  const int32_t end = nodes[top].end;
  for (int32_t n = top + 1; n < end;) {
    const TokenTrie::Node& node = nodes[n];
    // The parent's level is the last that stays.
    const auto level = static_cast<size_t>(node.depth - nodes[top].depth);
    if (levels_.size() > level) {
      readings_.resize(levels_[level].readings);
      Forget(levels_[level].callers);
      levels_.resize(level);
    }
    const size_t begin = levels_.back().readings;
    levels_.push_back({readings_.size(), callers_.size()});
    const bool goes_on = Step(begin, node.byte, n);
    if (goes_on || ended_) Mark(trie_.TokensAt(n));
    work_left_ -= 1 + static_cast<int64_t>(readings_.size() - levels_.back().readings);
    if (work_left_ < 0 || readings_.size() - levels_.back().readings > kMostReadings) return false;
    if (!goes_on) {
      n = node.end;
    } else if (node.end - n > kSmallSubtree && TakesAllBelow(levels_.back().readings, n)) {
      Mark(trie_.TokensFrom(n));
      n = node.end;
    } else {
      ++n;
    }
  }
  return true;
}

bool Walk::Step(size_t begin, uint8_t byte, int32_t node) {
  const size_t level_begin = readings_.size();
  ended_ = false;
  for (size_t r = begin; r < level_begin; ++r) {
    const Reading reading = readings_[r];
    const int32_t code = automaton_.Next(reading.state, byte);
    if (code == Automaton::kNone) continue;
    if (code >= 0) {
      Arrive({code, reading.caller}, level_begin, node);
      continue;
    }
    for (const Automaton::Move& move : automaton_.MovesOf(code)) {
      int32_t caller = reading.caller;
      for (const int32_t state : automaton_.PushesOf(move)) caller = Push(state, caller);
      Arrive({move.target, caller}, level_begin, node);
    }
  }
  return readings_.size() > level_begin;
}

void Walk::Arrive(Reading reading, size_t level_begin, int32_t node) {
  // A rule that ends lets its caller go on; each has one, so this is a chain.
  for (;;) {
    const auto begin = readings_.begin() + static_cast<std::ptrdiff_t>(level_begin);
    if (!automaton_.final(reading.state)) {
      if (begin != readings_.end() &&
          std::find(begin, readings_.end(), reading) != readings_.end()) {
        return;
      }
      readings_.push_back(reading);
    }
    if (!automaton_.accepting(reading.state)) return;
    if (reading.caller == kOutside) {
      ended_ = true;
      // At the root a state is asked for with its callers beside it.
      if (node != 0 && automaton_.called(reading.state)) ends_.push_back(node);
      return;
    }
    reading = {callers_[reading.caller].state, callers_[reading.caller].caller};
  }
}

int32_t Walk::Push(int32_t state, int32_t caller) {
  for (int32_t known = callers_[caller].first_callee; known >= 0;
       known = callers_[known].next_callee) {
    if (callers_[known].state == state) return known;
  }
  const auto id = static_cast<int32_t>(callers_.size());
  const int32_t depth = callers_[caller].depth + 1;
  callers_.push_back({state, caller, depth, -1, callers_[caller].first_callee});
  callers_[caller].first_callee = id;
  depth_ = std::max(depth_, depth);
  return id;
}

void Walk::Forget(size_t callers) {
  while (callers_.size() > callers) {
    callers_[callers_.back().caller].first_callee = callers_.back().next_callee;
    callers_.pop_back();
  }
}

bool Walk::TakesAllBelow(size_t begin, int32_t node) const {
  if (readings_.size() != begin + 1) return false;
  const Reading& reading = readings_[begin];
  if (!automaton_.loops(reading.state) ||
      !trie_.BytesBelow(node).Within(automaton_.loop(reading.state))) {
    return false;
  }
  // Where the rule may end on the way, its caller may go on from there too.
  return !automaton_.accepting(reading.state) ||
         (reading.caller == kOutside && !automaton_.called(reading.state));
}

MaskPart Walk::Result() {
  MaskPart part;
  std::sort(ends_.begin(), ends_.end());
  part.ends.assign(ends_.begin(), std::unique(ends_.begin(), ends_.end()));
  part.depth = depth_;
  if (marked_ > mask_.size()) {
    part.dense = std::make_shared<const TokenMask>(std::move(mask_));
    return part;
  }
  for (size_t word = 0; word < mask_.size() && marked_ > 0; ++word) {
    for (uint32_t bits = mask_[word]; bits != 0; bits &= bits - 1) {
      part.sparse.push_back(static_cast<int32_t>(word * 32) + __builtin_ctz(bits));
    }
  }
  return part;
}

}  // namespace

int64_t MaskPart::bytes() const {
  const size_t listed = sparse.capacity() + ends.capacity();
  const size_t words = dense == nullptr ? 0 : dense->size();
  return static_cast<int64_t>(sizeof(MaskPart) + 4 * (listed + words));
}

MaskPart WalkTokens(const Automaton& automaton, const TokenTrie& trie,
                    absl::Span<const int32_t> from, int32_t state, int64_t most_work) {
  return Walk(automaton, trie, most_work).Run(from, state);
}

}  // namespace based
