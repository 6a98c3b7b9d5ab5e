// Finite automata over Unicode code points: what regular expressions, string lengths and number
// ranges become before they are rendered as bytes.
#ifndef BASED_ENGINE_CONSTRAINT_CHAR_DFA_H_
#define BASED_ENGINE_CONSTRAINT_CHAR_DFA_H_

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/constraint/code_point_set.h"

namespace based {

// What one compilation may spend on automata, all of them together.
class DfaBudget {
 public:
  DfaBudget(int64_t max_states, std::chrono::milliseconds max_time);

  // INVALID_ARGUMENT that names the limit when `states` more states, each with a table row of
  // `row` entries, are too many or the time is over.
  absl::Status Spend(int64_t states, int64_t row = 1);

 private:
  // Entries of tables for each state allowed, on average.
  static constexpr int64_t kEntriesPerState = 64;

  const int64_t max_states_;
  const std::chrono::milliseconds max_time_;
  const std::chrono::steady_clock::time_point deadline_;
  int64_t states_ = 0;
  int64_t entries_ = 0;
};

// Nondeterministic, with steps that read nothing; some are there only at the text's start or end.
struct CharNfa {
  enum class When : uint8_t { kAlways, kAtStart, kAtEnd };
  struct Skip {
    int32_t target;
    When when;
  };
  struct State {
    int32_t set = -1;  // index into sets: reads one of these and goes to `target`; -1: reads none
    int32_t target = -1;
    std::vector<Skip> skips;
  };

  int32_t AddState();
  int32_t AddSet(CodePointSet set);

  std::vector<CodePointSet> sets;
  std::vector<State> states;
  int32_t start = 0;
  int32_t end = 0;
};

// Deterministic; state 0 is the start, kDead is the state from which nothing matches. Operations
// return minimal automata without states that lead nowhere.
class CharDfa {
 public:
  static constexpr int32_t kDead = -1;
  // Code points from `first` up to the next one's behave alike.
  struct Interval {
    char32_t first;
    int32_t column;
  };

  // Where columns are given by `intervals` (the first begins at 0) and the table has a row of
  // `columns` targets for each state.
  CharDfa(std::vector<Interval> intervals, int32_t columns)
      : intervals_(std::move(intervals)), columns_(columns) {}

  int32_t AddState(bool accepting);
  void SetAccepting(int32_t state) { accepting_[state] = true; }
  void SetNext(int32_t state, int32_t column, int32_t target) {
    next_[static_cast<size_t>(state) * columns_ + column] = target;
  }

  int32_t size() const { return static_cast<int32_t>(accepting_.size()); }
  int32_t columns() const { return columns_; }
  const std::vector<Interval>& intervals() const { return intervals_; }
  bool accepting(int32_t state) const { return accepting_[state]; }
  int32_t Next(int32_t state, int32_t column) const {
    return next_[static_cast<size_t>(state) * columns_ + column];
  }

  bool empty() const { return size() == 0; }  // matches nothing
  // Whether the UTF-8 `text` matches.
  bool Matches(std::string_view text) const;

 private:
  std::vector<Interval> intervals_;
  int32_t columns_;
  std::vector<int32_t> next_;  // [state][column]
  std::vector<bool> accepting_;
};

// All are INVALID_ARGUMENT when the budget is spent.
absl::StatusOr<CharDfa> Determinize(const CharNfa& nfa, DfaBudget& budget);
absl::StatusOr<CharDfa> Minimize(const CharDfa& dfa, DfaBudget& budget);
absl::StatusOr<CharDfa> Intersect(const CharDfa& a, const CharDfa& b, DfaBudget& budget);
absl::StatusOr<CharDfa> Complement(const CharDfa& dfa, DfaBudget& budget);
// Texts of `min` to `max` code points; Grammar::kUnbounded: no upper limit.
absl::StatusOr<CharDfa> LengthDfa(int64_t min, int64_t max, DfaBudget& budget);
// Exactly these texts (valid UTF-8).
absl::StatusOr<CharDfa> LiteralsDfa(const std::vector<std::string>& texts, DfaBudget& budget);

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_CHAR_DFA_H_
