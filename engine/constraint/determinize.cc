// Subset construction over bytes and calls, and the left-corner transform that needs it.
#include <algorithm>
#include <map>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "engine/constraint/rule_machine.h"
#include "kernels/base/status.h"

namespace based {
namespace {

// A deterministic machine may have this many states for each of the given one's; beyond, the
// matcher follows several states at once instead.
constexpr int64_t kMostGrowth = 8;
constexpr int64_t kFreeStates = 2'048;
// States that a machine may have to be followed in several at once.
constexpr int64_t kMostFollowed = 4'096;

using StateSet = std::vector<int32_t>;  // sorted

class Determinizer {
 public:
  Determinizer(const RuleMachine& machine, ConstraintBudget& budget)
      : machine_(machine), budget_(budget), seen_(machine.states.size(), 0) {}

  // Empty when the result would have more than `most` states.
  absl::StatusOr<RuleMachine> Run(int64_t most, int64_t states_before) {
    result_.start = StateOf({machine_.start});
    for (size_t state = 0; state < sets_.size(); ++state) {
      BASED_RETURN_IF_ERROR(
          budget_.Check(states_before + static_cast<int64_t>(sets_.size()), machine_.name));
      if (static_cast<int64_t>(sets_.size()) > most) return RuleMachine();
      const StateSet set = sets_[state];
      for (const auto& [bytes, targets] : BytePartition(set)) {
        const int32_t target = StateOf(targets);
        result_.states[state].bytes.push_back({bytes, target});
      }
      for (const auto& [called, targets] : Calls(set)) {
        const int32_t target = StateOf(targets);
        result_.states[state].calls.push_back({called, target});
      }
    }
    return std::move(result_);
  }

  // The same states without epsilon edges.
  RuleMachine WithoutEpsilon() {
    RuleMachine result;
    result.start = machine_.start;
    for (size_t s = 0; s < machine_.states.size(); ++s) {
      RuleMachine::State& state = result.states.emplace_back();
      for (const int32_t member : Closure({static_cast<int32_t>(s)})) {
        const RuleMachine::State& from = machine_.states[member];
        state.bytes.insert(state.bytes.end(), from.bytes.begin(), from.bytes.end());
        state.calls.insert(state.calls.end(), from.calls.begin(), from.calls.end());
        state.accepting |= from.accepting;
      }
    }
    return result;
  }

 private:
  StateSet Closure(const StateSet& set) {
    ++stamp_;
    StateSet closure;
    const auto add = [&](int32_t state) {
      if (seen_[state] == stamp_) return;
      seen_[state] = stamp_;
      closure.push_back(state);
    };
    for (const int32_t state : set) add(state);
    for (size_t i = 0; i < closure.size(); ++i) {
      for (const int32_t next : machine_.states[closure[i]].epsilon) add(next);
    }
    std::sort(closure.begin(), closure.end());
    return closure;
  }

  // The state for what `targets` reach; states of a closure that only pass on do not count, so that
  // equal futures get one state.
  int32_t StateOf(const StateSet& targets) {
    StateSet set = Closure(targets);
    bool accepting = false;
    std::erase_if(set, [&](int32_t member) {
      const RuleMachine::State& state = machine_.states[member];
      accepting |= state.accepting;
      return state.bytes.empty() && state.calls.empty() && !state.accepting;
    });
    const auto [at, added] = ids_.try_emplace(set, static_cast<int32_t>(sets_.size()));
    if (added) {
      sets_.push_back(std::move(set));
      result_.states[result_.AddState()].accepting = accepting;
    }
    return at->second;
  }

  std::vector<std::pair<ByteSet, StateSet>> BytePartition(const StateSet& set) const {
    std::vector<std::pair<ByteSet, StateSet>> parts;
    for (const int32_t member : set) {
      for (const RuleMachine::ByteEdge& edge : machine_.states[member].bytes) {
        ByteSet rest = edge.bytes;
        const size_t before = parts.size();
        for (size_t i = 0; i < before && rest.any(); ++i) {
          const ByteSet both = parts[i].first & rest;
          if (both.none()) continue;
          rest &= ~both;
          if (both != parts[i].first) {
            parts.emplace_back(parts[i].first & ~both, parts[i].second);
            parts[i].first = both;
          }
          parts[i].second.push_back(edge.target);
        }
        if (rest.any()) parts.emplace_back(rest, StateSet{edge.target});
      }
    }
    return parts;
  }

  std::map<int32_t, StateSet> Calls(const StateSet& set) const {
    std::map<int32_t, StateSet> calls;
    for (const int32_t member : set) {
      for (const RuleMachine::CallEdge& edge : machine_.states[member].calls) {
        calls[edge.machine].push_back(edge.target);
      }
    }
    return calls;
  }

  const RuleMachine& machine_;
  ConstraintBudget& budget_;
  std::vector<int32_t> seen_;
  int32_t stamp_ = 0;
  RuleMachine result_;
  std::vector<StateSet> sets_;
  absl::flat_hash_map<StateSet, int32_t> ids_;
};

// Gives `machine` a start without edges into it that does not accept.
void MakeFreshStart(RuleMachine& machine) {
  const int32_t old = machine.start;
  machine.start = machine.AddState();
  machine.states[machine.start] = machine.states[old];
  machine.states[machine.start].accepting = false;
}

// Copies the states of `from` behind those of `to`; returns where they begin.
int32_t Append(const RuleMachine& from, RuleMachine& to) {
  const auto offset = static_cast<int32_t>(to.states.size());
  for (RuleMachine::State state : from.states) {
    for (RuleMachine::ByteEdge& edge : state.bytes) edge.target += offset;
    for (RuleMachine::CallEdge& edge : state.calls) edge.target += offset;
    state.accepting = false;
    to.states.push_back(std::move(state));
  }
  return offset;
}

// What `goal` matches, for machines `group` that call each other first: begin with any of them
// that reads a byte (or calls outside the group) first; whenever one is complete, go on in
// whichever had called it first; the end is where `goal` is complete.
RuleMachine LeftCorner(const std::vector<RuleMachine>& machines, const std::vector<int32_t>& group,
                       int32_t goal) {
  RuleMachine result;
  result.name = machines[goal].name;
  result.start = result.AddState();
  std::map<int32_t, int32_t> offsets;
  for (const int32_t member : group) offsets[member] = Append(machines[member], result);
  for (const int32_t member : group) {
    const RuleMachine::State& start = machines[member].states[machines[member].start];
    const int32_t offset = offsets[member];
    for (const RuleMachine::ByteEdge& edge : start.bytes) {
      result.states[result.start].bytes.push_back({edge.bytes, edge.target + offset});
    }
    for (const RuleMachine::CallEdge& edge : start.calls) {
      const auto called = offsets.find(edge.machine);
      if (called == offsets.end()) {
        result.states[result.start].calls.push_back({edge.machine, edge.target + offset});
        continue;
      }
      const RuleMachine& machine = machines[edge.machine];
      for (size_t s = 0; s < machine.states.size(); ++s) {
        if (!machine.states[s].accepting) continue;
        result.states[called->second + s].epsilon.push_back(edge.target + offset);
      }
    }
  }
  for (size_t s = 0; s < machines[goal].states.size(); ++s) {
    result.states[offsets[goal] + s].accepting = machines[goal].states[s].accepting;
  }
  return result;
}

}  // namespace

absl::StatusOr<RuleMachine> Determinize(const RuleMachine& machine, int64_t* states,
                                        ConstraintBudget& budget) {
  Determinizer determinizer(machine, budget);
  const auto given = static_cast<int64_t>(machine.states.size());
  BASED_ASSIGN_OR_RETURN(RuleMachine result,
                         determinizer.Run(kFreeStates + kMostGrowth * given, *states));
  if (result.states.empty()) {
    if (given > kMostFollowed) {
      return absl::InvalidArgumentError("constraint: " + machine.name +
                                        " is too ambiguous: it makes too many states");
    }
    result = Determinizer(machine, budget).WithoutEpsilon();
  }
  result.name = machine.name;
  MakeFreshStart(result);
  *states += static_cast<int64_t>(result.states.size());
  BASED_RETURN_IF_ERROR(budget.Check(*states, machine.name));
  return result;
}

absl::Status RemoveLeftRecursion(std::vector<RuleMachine>& machines, int64_t* states,
                                 ConstraintBudget& budget) {
  std::vector<std::vector<int32_t>> first(machines.size());
  for (size_t m = 0; m < machines.size(); ++m) {
    for (const RuleMachine::CallEdge& edge : machines[m].states[machines[m].start].calls) {
      first[m].push_back(edge.machine);
    }
  }
  const std::vector<int32_t> component = StrongComponents(first);
  std::map<int32_t, std::vector<int32_t>> groups;
  for (size_t m = 0; m < machines.size(); ++m) {
    groups[component[m]].push_back(static_cast<int32_t>(m));
  }
  for (const auto& [unused, group] : groups) {
    const int32_t only = group[0];
    if (group.size() == 1 &&
        std::find(first[only].begin(), first[only].end(), only) == first[only].end()) {
      continue;
    }
    int64_t size = 0;
    for (const int32_t member : group) size += static_cast<int64_t>(machines[member].states.size());
    BASED_RETURN_IF_ERROR(budget.Check(*states + size * static_cast<int64_t>(group.size()),
                                       machines[only].name + " (left recursion)"));
    std::vector<RuleMachine> replaced;
    for (const int32_t member : group) {
      BASED_ASSIGN_OR_RETURN(RuleMachine machine,
                             Determinize(LeftCorner(machines, group, member), states, budget));
      replaced.push_back(std::move(machine));
    }
    for (size_t i = 0; i < group.size(); ++i) machines[group[i]] = std::move(replaced[i]);
  }
  return absl::OkStatus();
}

}  // namespace based
