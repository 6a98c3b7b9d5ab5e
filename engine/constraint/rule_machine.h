// The rules of a grammar as finite automata whose edges are bytes or calls of rules, and the steps
// that make them fit to run: the inside of Automaton::Compile.
//
// After MakeMachines and RemoveLeftRecursion no machine has epsilon edges or accepts the empty
// text, no machine can call itself again before a byte is read, and the start of none has edges
// into it: whatever is called reads at least one byte.
#ifndef BASED_ENGINE_CONSTRAINT_RULE_MACHINE_H_
#define BASED_ENGINE_CONSTRAINT_RULE_MACHINE_H_

#include <chrono>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/constraint/constraint_limits.h"
#include "engine/constraint/grammar.h"

namespace based {

struct RuleMachine {
  struct ByteEdge {
    ByteSet bytes;
    int32_t target;
  };
  struct CallEdge {
    int32_t machine;
    int32_t target;  // where the caller goes on
  };
  struct State {
    std::vector<ByteEdge> bytes;
    std::vector<CallEdge> calls;
    std::vector<int32_t> epsilon;  // only while a machine is made
    bool accepting = false;

    bool final() const { return accepting && bytes.empty() && calls.empty(); }
  };

  int32_t AddState();

  std::string name;  // for messages
  std::vector<State> states;
  int32_t start = 0;
};

// Counts what a compilation spends and refuses more.
class ConstraintBudget {
 public:
  explicit ConstraintBudget(const ConstraintLimits& limits);

  // INVALID_ARGUMENT when `states` (of `what`) are more than the limit or the time is over.
  absl::Status Check(int64_t states, const std::string& what);
  absl::Status CheckTime() const;
  const ConstraintLimits& limits() const { return limits_; }

 private:
  ConstraintLimits limits_;
  std::chrono::steady_clock::time_point deadline_;
  int64_t calls_ = 0;
};

struct RuleMachines {
  std::vector<RuleMachine> machines;  // the first is the whole text's
  bool may_be_empty = false;          // the text
};

// The same grammar with long repeats made of shared blocks.
Grammar SplitRepeats(const Grammar& grammar);

// One machine for each rule that is recursive or large and used twice, and likewise for each node;
// the others are part of their users' machines. Bytes outside `spellable` are left out.
absl::StatusOr<RuleMachines> MakeMachines(const Grammar& grammar, const ByteSet& spellable,
                                          ConstraintBudget& budget);

// `machine` without epsilon edges; deterministic for bytes and for calls unless that takes far more
// states. Does not accept the empty text; its start has no edges into it. `states` counts those of
// all machines.
absl::StatusOr<RuleMachine> Determinize(const RuleMachine& machine, int64_t* states,
                                        ConstraintBudget& budget);

// Machines that can call themselves before a byte is read become loops (left-corner transform).
absl::Status RemoveLeftRecursion(std::vector<RuleMachine>& machines, int64_t* states,
                                 ConstraintBudget& budget);

// For each state of each machine, how many callers must be remembered at the same time, at least,
// on the way to the end of its machine; kNoWay where the end cannot be reached.
inline constexpr int32_t kNoWay = std::numeric_limits<int32_t>::max();
std::vector<std::vector<int32_t>> NestingNeeds(const std::vector<RuleMachine>& machines);

// Drops edges and states that lead to no end and merges states with the same future (all of them
// where there are no loops).
void Prune(std::vector<RuleMachine>& machines);

// The strongly connected components of a directed graph given as lists of successors: the component
// of each vertex, numbered so that successors in other components have lower numbers.
std::vector<int32_t> StrongComponents(const std::vector<std::vector<int32_t>>& successors);

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_RULE_MACHINE_H_
