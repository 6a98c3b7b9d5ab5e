// A grammar ready to run: a pushdown automaton over bytes as flat tables. Immutable.
//
// A reading of a text is the state in the innermost open rule and, for each open rule around it,
// the state where its caller goes on. Calls are resolved when the tables are made: for a state and
// a byte they list where each reading is after it.
#ifndef BASED_ENGINE_CONSTRAINT_AUTOMATON_H_
#define BASED_ENGINE_CONSTRAINT_AUTOMATON_H_

#include <array>
#include <cstdint>
#include <limits>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/constraint/constraint_limits.h"
#include "engine/constraint/grammar.h"
#include "engine/constraint/token_trie.h"

namespace based {

class Automaton {
 public:
  // One way to read a byte: remember these callers' states (outermost first), then be in `target`.
  struct Move {
    int32_t target;
    int32_t first_push;
    int32_t push_count;
  };
  static constexpr int32_t kNone = -1;
  static constexpr int32_t kEndless = std::numeric_limits<int32_t>::max();

  // Texts with bytes outside `spellable` do not match. INVALID_ARGUMENT when nothing matches, when
  // a rule is not defined or when a limit is exceeded.
  static absl::StatusOr<Automaton> Compile(const Grammar& grammar, const ByteSet& spellable,
                                           const ConstraintLimits& limits);

  int32_t start() const { return 0; }
  bool may_be_empty() const { return may_be_empty_; }
  int32_t size() const { return static_cast<int32_t>(accepting_.size()); }

  // The state's rule may end here, and then it must.
  bool accepting(int32_t state) const { return accepting_[state] != 0; }
  bool final(int32_t state) const { return bytes_[state].none(); }
  // Bytes that can follow in this rule and those it calls.
  const ByteSet& bytes(int32_t state) const { return bytes_[state]; }
  // Whether the state's rule is called: its end is not the end of the text alone then.
  bool called(int32_t state) const { return called_[state] != 0; }
  // Any of these bytes, run_length times or fewer, lead this state to a single one whose rule may
  // end just where this state's may: what the inside of a text or a list of digits looks like.
  const TokenTrie::Folded& run_bytes(int32_t state) const { return run_sets_[run_set_[state]]; }
  int32_t run_length(int32_t state) const { return run_length_[state]; }
  // Callers to be remembered, at least, on the way to the end of the state's rule.
  int32_t nesting_need(int32_t state) const { return need_[state]; }
  int64_t table_bytes() const;
  // The most of all states' needs.
  int32_t most_nesting_need() const { return most_need_; }

  // What a byte does: kNone, a state that replaces this one (not negative), or for MovesOf.
  int32_t Next(int32_t state, uint8_t byte) const {
    return next_[static_cast<size_t>(state) * class_count_ + class_of_[byte]];
  }
  absl::Span<const Move> MovesOf(int32_t next) const {
    const size_t list = static_cast<size_t>(-2 - next);
    return absl::MakeConstSpan(moves_.data() + lists_[list], lists_[list + 1] - lists_[list]);
  }
  absl::Span<const int32_t> PushesOf(const Move& move) const {
    return absl::MakeConstSpan(pushes_.data() + move.first_push, move.push_count);
  }

 private:
  friend class AutomatonTables;

  bool may_be_empty_ = false;
  size_t class_count_ = 1;
  std::array<uint8_t, 256> class_of_ = {};  // bytes that no edge tells apart
  std::vector<int32_t> next_;               // [state][class]
  std::vector<uint8_t> accepting_;
  std::vector<ByteSet> bytes_;
  std::vector<uint8_t> called_;
  std::vector<TokenTrie::Folded> run_sets_;
  std::vector<int32_t> run_set_;     // index of run_sets_
  std::vector<int32_t> run_length_;  // kEndless where it goes round
  std::vector<int32_t> need_;
  std::vector<Move> moves_;
  std::vector<size_t> lists_ = {0};
  std::vector<int32_t> pushes_;
  int32_t most_need_ = 0;
};

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_AUTOMATON_H_
