#include "engine/constraint/mask_part.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "engine/constraint/readings.h"

namespace based {
namespace {

// Readings at one node, at most, to be listed one by one.
constexpr size_t kMostListed = 64;
// Of Readings::size, for one part.
constexpr size_t kMostShared = size_t{1} << 18;
constexpr int32_t kNoDepthLimit = int32_t{1} << 30;
// A subtree this small is walked sooner than asked whether it must be.
constexpr int32_t kSmallSubtree = 4;

// What a walk finds.
class Findings {
 public:
  explicit Findings(const TokenTrie& trie) : mask_(trie.mask_words(), 0) {}

  void Mark(absl::Span<const int32_t> tokens) {
    for (const int32_t token : tokens) {
      mask_[static_cast<uint32_t>(token) / 32] |= 1u << (static_cast<uint32_t>(token) % 32);
    }
    marked_ += tokens.size();
  }
  // At the root a state is asked for with its callers beside it.
  void AddEnd(int32_t end) {
    if (end != 0) ends_.push_back(end);
  }
  void AddDepth(int32_t depth) { depth_ = std::max(depth_, depth); }

  MaskPart Result();

 private:
  TokenMask mask_;
  size_t marked_ = 0;  // a token twice counts twice
  std::vector<int32_t> ends_;
  int32_t depth_ = 0;
};

MaskPart Findings::Result() {
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

// The walk with readings listed one by one: the fast one.
class ListedWalk {
 public:
  ListedWalk(const Automaton& automaton, const TokenTrie& trie, int64_t most_work)
      : automaton_(automaton), trie_(trie), work_left_(most_work), findings_(trie) {}

  int64_t work_left() const { return work_left_; }
  // False when there were too many readings or there was too much work.
  bool From(int32_t top, int32_t state);
  void AddEnd(int32_t end) { findings_.AddEnd(end); }
  MaskPart Result() { return findings_.Result(); }

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

  // The readings behind `byte`, for those from `begin`; false where there are none.
  bool Step(size_t begin, uint8_t byte, int32_t node);
  void Arrive(Reading reading, size_t level_begin, int32_t node);
  int32_t Push(int32_t state, int32_t caller);
  void Forget(size_t callers);
  bool RunsBelow(size_t begin, int32_t node);

  const Automaton& automaton_;
  const TokenTrie& trie_;
  int64_t work_left_;
  Findings findings_;
  std::vector<Reading> readings_;
  std::vector<Caller> callers_ = {{Automaton::kNone, -1, 0, -1, -1}};
  std::vector<Level> levels_;
  bool ended_ = false;  // at the node in hand
};

bool ListedWalk::From(int32_t top, int32_t state) {
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
    if (goes_on || ended_) findings_.Mark(trie_.TokensAt(n));
    work_left_ -= 1 + static_cast<int64_t>(readings_.size() - levels_.back().readings);
    if (work_left_ < 0 || readings_.size() - levels_.back().readings > kMostListed) return false;
    if (!goes_on) {
      n = node.end;
    } else if (node.end - n > kSmallSubtree && RunsBelow(levels_.back().readings, n)) {
      n = node.end;
    } else {
      ++n;
    }
  }
  return true;
}

bool ListedWalk::Step(size_t begin, uint8_t byte, int32_t node) {
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

void ListedWalk::Arrive(Reading reading, size_t level_begin, int32_t node) {
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
      if (automaton_.called(reading.state)) findings_.AddEnd(node);
      return;
    }
    reading = {callers_[reading.caller].state, callers_[reading.caller].caller};
  }
}

int32_t ListedWalk::Push(int32_t state, int32_t caller) {
  for (int32_t known = callers_[caller].first_callee; known >= 0;
       known = callers_[known].next_callee) {
    if (callers_[known].state == state) return known;
  }
  const auto id = static_cast<int32_t>(callers_.size());
  const int32_t depth = callers_[caller].depth + 1;
  callers_.push_back({state, caller, depth, -1, callers_[caller].first_callee});
  callers_[caller].first_callee = id;
  findings_.AddDepth(depth);
  return id;
}

void ListedWalk::Forget(size_t callers) {
  while (callers_.size() > callers) {
    callers_[callers_.back().caller].first_callee = callers_.back().next_callee;
    callers_.pop_back();
  }
}

// Where all that is below is a run for every reading, finds what there is to find there.
bool ListedWalk::RunsBelow(size_t begin, int32_t node) {
  bool ends = false;
  for (size_t r = begin; r < readings_.size(); ++r) {
    const Reading& reading = readings_[r];
    if (trie_.nodes()[node].height > automaton_.run_length(reading.state) ||
        !trie_.BytesBelow(node).Within(automaton_.run_bytes(reading.state))) {
      return false;
    }
    if (!automaton_.accepting(reading.state)) continue;
    // Callers go on from each of these nodes; if they are the walk's own, it must see to that.
    if (reading.caller != kOutside) return false;
    ends |= automaton_.called(reading.state);
  }
  if (ends) findings_.AddEnd(~node);
  findings_.Mark(trie_.TokensFrom(node));
  return true;
}

// The walk with readings that share their callers, as the matcher has them: slow, and bounded where
// an ambiguous grammar has more readings than can be listed.
class SharedWalk {
 public:
  SharedWalk(const Automaton& automaton, const TokenTrie& trie, int64_t most_work)
      : automaton_(automaton), trie_(trie), work_left_(most_work), findings_(trie) {}

  int64_t work_left() const { return work_left_; }
  bool From(int32_t top, int32_t state);
  void AddEnd(int32_t end) { findings_.AddEnd(end); }
  MaskPart Result() { return findings_.Result(); }

 private:
  const Automaton& automaton_;
  const TokenTrie& trie_;
  int64_t work_left_;
  Findings findings_;
};

bool SharedWalk::From(int32_t top, int32_t state) {
  Readings readings(&automaton_, kNoDepthLimit, kNoDepthLimit);
  readings.StartFrom(state);
  if (readings.may_end()) findings_.AddEnd(top);
  std::vector<Readings::Position> levels = {readings.position()};
  const std::vector<TokenTrie::Node>& nodes = trie_.nodes();
  const int32_t end = nodes[top].end;
  for (int32_t n = top + 1; n < end;) {
    levels.resize(static_cast<size_t>(nodes[n].depth - nodes[top].depth));
    readings.ReturnTo(levels.back());
    const auto byte = static_cast<char>(nodes[n].byte);
    if (!readings.Read(std::string_view(&byte, 1))) {
      n = nodes[n].end;
      continue;
    }
    findings_.Mark(trie_.TokensAt(n));
    if (readings.may_end()) findings_.AddEnd(n);
    findings_.AddDepth(readings.MostDepth());
    levels.push_back(readings.position());
    // Reading a byte looks at callers too.
    work_left_ -= 1 + static_cast<int64_t>(readings.size());
    if (work_left_ < 0 || readings.size() > kMostShared) return false;
    ++n;
  }
  return true;
}

template <typename Walk>
std::optional<MaskPart> WalkAll(Walk& walk, const Automaton& automaton, const TokenTrie& trie,
                                absl::Span<const int32_t> from, int32_t state) {
  const TokenTrie::Folded first = TokenTrie::FoldAny(automaton.bytes(state));
  for (const int32_t end : from) {
    if (end >= 0) {
      if (!walk.From(end, state)) return std::nullopt;
      continue;
    }
    const int32_t top = ~end;
    if (!trie.BytesBelow(top).Meets(first)) {
      if (automaton.accepting(state)) walk.AddEnd(end);
      continue;
    }
    for (int32_t node = top; node < trie.nodes()[top].end; ++node) {
      if (!walk.From(node, state)) return std::nullopt;
    }
  }
  return walk.Result();
}

}  // namespace

int64_t MaskPart::bytes() const {
  const size_t listed = sparse.capacity() + ends.capacity();
  const size_t words = dense == nullptr ? 0 : dense->size();
  return static_cast<int64_t>(sizeof(MaskPart) + 4 * (listed + words));
}

MaskPart WalkTokens(const Automaton& automaton, const TokenTrie& trie,
                    absl::Span<const int32_t> from, int32_t state, int64_t most_work) {
  ListedWalk listed(automaton, trie, most_work);
  if (auto part = WalkAll(listed, automaton, trie, from, state)) {
    part->work = most_work - listed.work_left();
    return *std::move(part);
  }
  SharedWalk shared(automaton, trie, most_work);
  if (auto part = WalkAll(shared, automaton, trie, from, state)) {
    part->work = 2 * most_work - listed.work_left() - shared.work_left();
    return *std::move(part);
  }
  MaskPart failed;
  failed.complete = false;
  return failed;
}

}  // namespace based
