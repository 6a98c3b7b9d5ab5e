// Hopcroft's algorithm: the smallest automaton for the same texts.
#include <algorithm>
#include <map>
#include <utility>

#include "engine/constraint/char_dfa.h"
#include "kernels/base/status.h"

namespace based {
namespace {

// A partition of the states, the dead one included, that is refined until states of one block
// have the same future.
class Partition {
 public:
  explicit Partition(const CharDfa& dfa)
      : dfa_(dfa), count_(dfa.size() + 1), block_of_(count_), place_(count_) {
    for (int32_t state = 0; state < count_; ++state) order_.push_back(state);
    std::stable_partition(order_.begin(), order_.end(), [&](int32_t s) { return Accepting(s); });
    const auto split =
        std::find_if(order_.begin(), order_.end(), [&](int32_t s) { return !Accepting(s); });
    const auto first = static_cast<int32_t>(split - order_.begin());
    if (first > 0) blocks_.push_back({0, first, first});
    blocks_.push_back({first, count_, count_});
    for (size_t block = 0; block < blocks_.size(); ++block) {
      for (int32_t i = blocks_[block].begin; i < blocks_[block].end; ++i) {
        block_of_[order_[i]] = static_cast<int32_t>(block);
        place_[order_[i]] = i;
      }
    }
    FindPredecessors();
  }

  absl::Status Refine(DfaBudget& budget) {
    const int32_t columns = dfa_.columns();
    std::vector<std::pair<int32_t, int32_t>> work;  // block, column
    std::vector<std::vector<bool>> waiting;
    const auto add = [&](int32_t block, int32_t column) {
      if (waiting.size() <= static_cast<size_t>(block)) {
        waiting.resize(block + 1, std::vector<bool>(columns, false));
      }
      if (waiting[block][column]) return;
      waiting[block][column] = true;
      work.emplace_back(block, column);
    };
    for (size_t block = 0; block < blocks_.size(); ++block) {
      for (int32_t column = 0; column < columns; ++column) add(static_cast<int32_t>(block), column);
    }
    while (!work.empty()) {
      const auto [splitter, column] = work.back();
      work.pop_back();
      waiting[splitter][column] = false;
      BASED_RETURN_IF_ERROR(budget.Spend(0));
      for (const int32_t touched : Mark(splitter, column)) {
        const int32_t fresh = Split(touched);
        if (fresh < 0) continue;
        for (int32_t c = 0; c < columns; ++c) {
          const bool had = waiting.size() > static_cast<size_t>(touched) && waiting[touched][c];
          const bool smaller = Size(fresh) < Size(touched);
          add(had || smaller ? fresh : touched, c);
        }
      }
    }
    return absl::OkStatus();
  }

  int32_t BlockOf(int32_t state) const { return block_of_[state]; }
  int32_t dead_block() const { return block_of_[count_ - 1]; }
  int32_t block_count() const { return static_cast<int32_t>(blocks_.size()); }

 private:
  struct Block {
    int32_t begin;
    int32_t end;
    int32_t marked;  // states from here on lead into the splitter
  };

  bool Accepting(int32_t state) const { return state < dfa_.size() && dfa_.accepting(state); }
  int32_t Target(int32_t state, int32_t column) const {
    const int32_t next = state < dfa_.size() ? dfa_.Next(state, column) : CharDfa::kDead;
    return next == CharDfa::kDead ? count_ - 1 : next;
  }
  int32_t Size(int32_t block) const { return blocks_[block].end - blocks_[block].begin; }

  void FindPredecessors() {
    const auto columns = static_cast<size_t>(dfa_.columns());
    first_predecessor_.assign(columns * count_ + 1, 0);
    const auto slot = [&](int32_t column, int32_t target) {
      return static_cast<size_t>(column) * count_ + target;
    };
    for (int32_t column = 0; column < dfa_.columns(); ++column) {
      for (int32_t s = 0; s < count_; ++s)
        ++first_predecessor_[slot(column, Target(s, column)) + 1];
    }
    for (size_t i = 1; i < first_predecessor_.size(); ++i) {
      first_predecessor_[i] += first_predecessor_[i - 1];
    }
    predecessors_.resize(columns * count_);
    std::vector<int32_t> filled(columns * count_, 0);
    for (int32_t column = 0; column < dfa_.columns(); ++column) {
      for (int32_t s = 0; s < count_; ++s) {
        const size_t at = slot(column, Target(s, column));
        predecessors_[first_predecessor_[at] + filled[at]++] = s;
      }
    }
  }

  // Moves the states that lead into `splitter` to the ends of their blocks; returns those blocks.
  std::vector<int32_t> Mark(int32_t splitter, int32_t column) {
    std::vector<int32_t> leading;
    for (int32_t i = blocks_[splitter].begin; i < blocks_[splitter].end; ++i) {
      const size_t at = static_cast<size_t>(column) * count_ + order_[i];
      for (int64_t p = first_predecessor_[at]; p < first_predecessor_[at + 1]; ++p) {
        leading.push_back(predecessors_[p]);
      }
    }
    std::vector<int32_t> touched;
    for (const int32_t state : leading) {
      Block& block = blocks_[block_of_[state]];
      if (block.marked == block.end) touched.push_back(block_of_[state]);
      const int32_t place = --block.marked;
      const int32_t other = order_[place];
      std::swap(order_[place_[state]], order_[place]);
      std::swap(place_[state], place_[other]);
    }
    return touched;
  }

  // Makes the marked states of `block` one of their own; -1 when those are all.
  int32_t Split(int32_t block) {
    const Block old = blocks_[block];
    blocks_[block].marked = old.end;
    if (old.marked == old.begin) return -1;
    const auto fresh = static_cast<int32_t>(blocks_.size());
    blocks_.push_back({old.marked, old.end, old.end});
    blocks_[block].end = blocks_[block].marked = old.marked;
    for (int32_t i = old.marked; i < old.end; ++i) block_of_[order_[i]] = fresh;
    return fresh;
  }

  const CharDfa& dfa_;
  const int32_t count_;
  std::vector<int32_t> order_;     // states, those of a block together
  std::vector<int32_t> block_of_;  // of a state
  std::vector<int32_t> place_;     // of a state in order_
  std::vector<Block> blocks_;
  std::vector<int64_t> first_predecessor_;  // [column][target]
  std::vector<int32_t> predecessors_;
};

// Columns that are equal in every state become one.
CharDfa MergeColumns(const CharDfa& dfa) {
  std::map<std::vector<int32_t>, int32_t> known;
  std::vector<int32_t> merged;
  std::vector<int32_t> kept;
  for (int32_t column = 0; column < dfa.columns(); ++column) {
    std::vector<int32_t> targets;
    for (int32_t state = 0; state < dfa.size(); ++state) {
      targets.push_back(dfa.Next(state, column));
    }
    const auto [found, added] =
        known.try_emplace(std::move(targets), static_cast<int32_t>(kept.size()));
    if (added) kept.push_back(column);
    merged.push_back(found->second);
  }
  std::vector<CharDfa::Interval> intervals;
  for (const CharDfa::Interval& interval : dfa.intervals()) {
    const int32_t column = merged[interval.column];
    if (intervals.empty() || intervals.back().column != column) {
      intervals.push_back({interval.first, column});
    }
  }
  CharDfa result(std::move(intervals), static_cast<int32_t>(kept.size()));
  for (int32_t state = 0; state < dfa.size(); ++state) {
    result.AddState(dfa.accepting(state));
    for (size_t column = 0; column < kept.size(); ++column) {
      result.SetNext(state, static_cast<int32_t>(column), dfa.Next(state, kept[column]));
    }
  }
  return result;
}

}  // namespace

absl::StatusOr<CharDfa> Minimize(const CharDfa& dfa, DfaBudget& budget) {
  CharDfa result(dfa.intervals(), dfa.columns());
  if (dfa.empty()) return result;
  Partition partition(dfa);
  BASED_RETURN_IF_ERROR(partition.Refine(budget));
  if (partition.BlockOf(0) == partition.dead_block()) return result;
  // Blocks are numbered in the order in which they are reached.
  std::vector<int32_t> number(partition.block_count(), CharDfa::kDead);
  std::vector<int32_t> reached;
  const auto reach = [&](int32_t state) {
    if (state == CharDfa::kDead) return CharDfa::kDead;
    const int32_t block = partition.BlockOf(state);
    if (block == partition.dead_block()) return CharDfa::kDead;
    if (number[block] == CharDfa::kDead) {
      number[block] = result.AddState(dfa.accepting(state));
      reached.push_back(state);
    }
    return number[block];
  };
  reach(0);
  for (size_t i = 0; i < reached.size(); ++i) {
    const int32_t from = reached[i];
    for (int32_t column = 0; column < dfa.columns(); ++column) {
      result.SetNext(static_cast<int32_t>(i), column, reach(dfa.Next(from, column)));
    }
  }
  return MergeColumns(result);
}

}  // namespace based
