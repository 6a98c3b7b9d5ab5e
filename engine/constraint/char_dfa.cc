#include "engine/constraint/char_dfa.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "engine/utf8.h"
#include "kernels/base/status.h"

namespace based {
namespace {

using Interval = CharDfa::Interval;

// Which code points no set tells apart.
struct Columns {
  std::vector<Interval> intervals;
  int32_t count = 0;
  std::vector<std::vector<int32_t>> of_set;
};

Columns ColumnsOf(const std::vector<CodePointSet>& sets) {
  struct Change {
    char32_t at;
    int32_t set;
    bool begins;
  };
  std::vector<Change> changes = {{0, -1, true}};
  for (size_t s = 0; s < sets.size(); ++s) {
    for (const CodePointRange& range : sets[s]) {
      changes.push_back({range.first, static_cast<int32_t>(s), true});
      changes.push_back({range.last + 1, static_cast<int32_t>(s), false});
    }
  }
  std::sort(changes.begin(), changes.end(),
            [](const Change& a, const Change& b) { return a.at < b.at; });
  Columns columns;
  columns.of_set.resize(sets.size());
  std::set<int32_t> active;
  std::map<std::vector<int32_t>, int32_t> known;
  for (size_t i = 0; i < changes.size();) {
    const char32_t at = changes[i].at;
    for (; i < changes.size() && changes[i].at == at; ++i) {
      if (changes[i].set < 0) continue;
      if (changes[i].begins) {
        active.insert(changes[i].set);
      } else {
        active.erase(changes[i].set);
      }
    }
    if (at > kLastCodePoint) break;
    const std::vector<int32_t> members(active.begin(), active.end());
    const auto [found, added] = known.try_emplace(members, columns.count);
    if (added) {
      for (const int32_t set : members) columns.of_set[set].push_back(columns.count);
      ++columns.count;
    }
    columns.intervals.push_back({at, found->second});
  }
  return columns;
}

// Subset construction. A state is known by the NFA states that the last character led to.
class Subsets {
 public:
  Subsets(const CharNfa& nfa, DfaBudget& budget)
      : nfa_(nfa),
        budget_(budget),
        columns_(ColumnsOf(nfa.sets)),
        dfa_(columns_.intervals, columns_.count),
        seen_(nfa.states.size(), 0) {}

  absl::StatusOr<CharDfa> Run() {
    // The start is never found again: conditions on the text's start hold in it alone.
    BASED_RETURN_IF_ERROR(Add({nfa_.start}));
    for (size_t state = 0; state < kernels_.size(); ++state) {
      BASED_RETURN_IF_ERROR(Expand(static_cast<int32_t>(state)));
    }
    return std::move(dfa_);
  }

 private:
  // NFA states reached from `kernel` without reading.
  std::vector<int32_t> Closure(const std::vector<int32_t>& kernel, bool at_start, bool at_end) {
    ++round_;
    std::vector<int32_t> closure;
    const auto reach = [&](int32_t state) {
      if (seen_[state] == round_) return;
      seen_[state] = round_;
      closure.push_back(state);
    };
    for (const int32_t state : kernel) reach(state);
    for (size_t i = 0; i < closure.size(); ++i) {
      for (const CharNfa::Skip& skip : nfa_.states[closure[i]].skips) {
        if (skip.when == CharNfa::When::kAtStart && !at_start) continue;
        if (skip.when == CharNfa::When::kAtEnd && !at_end) continue;
        reach(skip.target);
      }
    }
    return closure;
  }

  absl::Status Add(std::vector<int32_t> kernel) {
    BASED_RETURN_IF_ERROR(budget_.Spend(1, columns_.count));
    const std::vector<int32_t> at_end = Closure(kernel, kernels_.empty(), true);
    dfa_.AddState(std::find(at_end.begin(), at_end.end(), nfa_.end) != at_end.end());
    kernels_.push_back(std::move(kernel));
    return absl::OkStatus();
  }

  absl::Status Expand(int32_t state) {
    std::vector<std::vector<int32_t>> targets(columns_.count);
    for (const int32_t from : Closure(kernels_[state], state == 0, false)) {
      const CharNfa::State& edge = nfa_.states[from];
      if (edge.set < 0) continue;
      for (const int32_t column : columns_.of_set[edge.set]) {
        targets[column].push_back(edge.target);
      }
    }
    for (int32_t column = 0; column < columns_.count; ++column) {
      std::vector<int32_t>& kernel = targets[column];
      if (kernel.empty()) continue;
      std::sort(kernel.begin(), kernel.end());
      kernel.erase(std::unique(kernel.begin(), kernel.end()), kernel.end());
      const auto [found, added] = known_.try_emplace(kernel, dfa_.size());
      const int32_t target = found->second;
      if (added) BASED_RETURN_IF_ERROR(Add(std::move(kernel)));
      dfa_.SetNext(state, column, target);
    }
    return absl::OkStatus();
  }

  const CharNfa& nfa_;
  DfaBudget& budget_;
  const Columns columns_;
  CharDfa dfa_;
  std::vector<std::vector<int32_t>> kernels_;  // of each state
  absl::flat_hash_map<std::vector<int32_t>, int32_t> known_;
  std::vector<int32_t> seen_;  // the round in which a state was reached last
  int32_t round_ = 0;
};

// Intervals that neither of two automata tells apart, and the columns of both for each of them.
struct Refinement {
  std::vector<Interval> intervals;
  std::vector<std::pair<int32_t, int32_t>> columns;
};

Refinement Refine(const std::vector<Interval>& a, const std::vector<Interval>& b) {
  Refinement result;
  std::map<std::pair<int32_t, int32_t>, int32_t> known;
  for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    const std::pair<int32_t, int32_t> pair(a[i].column, b[j].column);
    const auto [found, added] =
        known.try_emplace(pair, static_cast<int32_t>(result.columns.size()));
    if (added) result.columns.push_back(pair);
    result.intervals.push_back({std::max(a[i].first, b[j].first), found->second});
    const char32_t next_a = i + 1 < a.size() ? a[i + 1].first : kLastCodePoint + 1;
    const char32_t next_b = j + 1 < b.size() ? b[j + 1].first : kLastCodePoint + 1;
    if (next_a <= next_b) ++i;
    if (next_b <= next_a) ++j;
  }
  return result;
}

}  // namespace

DfaBudget::DfaBudget(int64_t max_states, std::chrono::milliseconds max_time)
    : max_states_(max_states),
      max_time_(max_time),
      deadline_(std::chrono::steady_clock::now() + max_time) {}

absl::Status DfaBudget::Spend(int64_t states, int64_t row) {
  states_ += states;
  entries_ += states * row;
  if (states_ > max_states_) {
    return absl::InvalidArgumentError(
        absl::StrCat("needs more than the limit of ", max_states_, " automaton states"));
  }
  if (entries_ > max_states_ * kEntriesPerState) {
    return absl::InvalidArgumentError(absl::StrCat("needs more than the limit of ",
                                                   max_states_ * kEntriesPerState,
                                                   " entries of automaton tables"));
  }
  if (std::chrono::steady_clock::now() > deadline_) {
    return absl::InvalidArgumentError(
        absl::StrCat("needs more than the limit of ", max_time_.count(), " ms"));
  }
  return absl::OkStatus();
}

int32_t CharNfa::AddState() {
  states.emplace_back();
  return static_cast<int32_t>(states.size() - 1);
}

int32_t CharNfa::AddSet(CodePointSet set) {
  sets.push_back(std::move(set));
  return static_cast<int32_t>(sets.size() - 1);
}

int32_t CharDfa::AddState(bool accepting) {
  accepting_.push_back(accepting);
  next_.resize(next_.size() + static_cast<size_t>(columns_), kDead);
  return size() - 1;
}

bool CharDfa::Matches(std::string_view text) const {
  int32_t state = empty() ? kDead : 0;
  while (state != kDead && !text.empty()) {
    const char32_t character = FirstCharacter(text);
    text.remove_prefix(ClassifyUtf8(text).size);
    const auto after = std::upper_bound(
        intervals_.begin(), intervals_.end(), character,
        [](char32_t value, const Interval& interval) { return value < interval.first; });
    state = Next(state, std::prev(after)->column);
  }
  return state != kDead && accepting(state);
}

absl::StatusOr<CharDfa> Determinize(const CharNfa& nfa, DfaBudget& budget) {
  BASED_ASSIGN_OR_RETURN(const CharDfa dfa, Subsets(nfa, budget).Run());
  return Minimize(dfa, budget);
}

absl::StatusOr<CharDfa> Intersect(const CharDfa& a, const CharDfa& b, DfaBudget& budget) {
  if (a.empty() || b.empty()) return CharDfa({{0, 0}}, 1);
  const Refinement refined = Refine(a.intervals(), b.intervals());
  const auto columns = static_cast<int32_t>(refined.columns.size());
  CharDfa result(refined.intervals, columns);
  absl::flat_hash_map<std::pair<int32_t, int32_t>, int32_t> known;
  std::vector<std::pair<int32_t, int32_t>> pairs;
  const auto add = [&](std::pair<int32_t, int32_t> pair) {
    const auto [found, added] = known.try_emplace(pair, result.size());
    if (added) {
      pairs.push_back(pair);
      result.AddState(a.accepting(pair.first) && b.accepting(pair.second));
    }
    return found->second;
  };
  add({0, 0});
  for (size_t state = 0; state < pairs.size(); ++state) {
    BASED_RETURN_IF_ERROR(budget.Spend(1, columns));
    for (int32_t column = 0; column < columns; ++column) {
      const int32_t next_a = a.Next(pairs[state].first, refined.columns[column].first);
      const int32_t next_b = b.Next(pairs[state].second, refined.columns[column].second);
      if (next_a == CharDfa::kDead || next_b == CharDfa::kDead) continue;
      result.SetNext(static_cast<int32_t>(state), column, add({next_a, next_b}));
    }
  }
  return Minimize(result, budget);
}

absl::StatusOr<CharDfa> Complement(const CharDfa& dfa, DfaBudget& budget) {
  BASED_RETURN_IF_ERROR(budget.Spend(dfa.size() + 1, dfa.columns()));
  CharDfa result(dfa.intervals(), dfa.columns());
  const int32_t other = dfa.size();  // what was dead matches anything now
  for (int32_t state = 0; state <= other; ++state) {
    result.AddState(state == other || !dfa.accepting(state));
    for (int32_t column = 0; column < dfa.columns(); ++column) {
      const int32_t next = state == other ? CharDfa::kDead : dfa.Next(state, column);
      result.SetNext(state, column, next == CharDfa::kDead ? other : next);
    }
  }
  return Minimize(result, budget);
}

absl::StatusOr<CharDfa> LengthDfa(int64_t min, int64_t max, DfaBudget& budget) {
  const int64_t last = max == Grammar::kUnbounded ? min : max;
  BASED_RETURN_IF_ERROR(budget.Spend(last + 1));
  CharDfa result({{0, 0}}, 1);
  for (int64_t length = 0; length <= last; ++length) {
    const int32_t state = result.AddState(length >= min);
    if (length > 0) result.SetNext(state - 1, 0, state);
  }
  const auto end = static_cast<int32_t>(last);
  if (max == Grammar::kUnbounded) result.SetNext(end, 0, end);
  return result;
}

absl::StatusOr<CharDfa> LiteralsDfa(const std::vector<std::string>& texts, DfaBudget& budget) {
  std::vector<std::u32string> literals;
  std::map<char32_t, int32_t> column_of;
  for (const std::string& text : texts) {
    std::u32string& literal = literals.emplace_back();
    for (std::string_view rest = text; !rest.empty(); rest.remove_prefix(ClassifyUtf8(rest).size)) {
      literal.push_back(FirstCharacter(rest));
      column_of.try_emplace(literal.back(), 0);
    }
  }
  std::vector<Interval> intervals;
  int32_t columns = 1;  // the first is for all characters that occur nowhere
  char32_t next = 0;
  for (auto& [character, column] : column_of) {
    column = columns++;
    if (character > next) intervals.push_back({next, 0});
    intervals.push_back({character, column});
    next = character + 1;
  }
  if (next <= kLastCodePoint) intervals.push_back({next, 0});
  CharDfa trie(std::move(intervals), columns);
  BASED_RETURN_IF_ERROR(budget.Spend(1, columns));
  trie.AddState(false);
  for (const std::u32string& literal : literals) {
    int32_t state = 0;
    for (const char32_t character : literal) {
      const int32_t column = column_of[character];
      int32_t target = trie.Next(state, column);
      if (target == CharDfa::kDead) {
        BASED_RETURN_IF_ERROR(budget.Spend(1, columns));
        target = trie.AddState(false);
        trie.SetNext(state, column, target);
      }
      state = target;
    }
    trie.SetAccepting(state);
  }
  return Minimize(trie, budget);
}

}  // namespace based
