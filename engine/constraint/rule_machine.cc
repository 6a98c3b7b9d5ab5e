#include "engine/constraint/rule_machine.h"

#include <algorithm>
#include <queue>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"

namespace based {
namespace {

// What must be known before a state's need is: both ends of a call, or the target of bytes.
struct Dependent {
  int32_t state;
  int32_t target;
  int32_t called_start;  // -1: no call
  bool tail;             // nothing is left to do for the caller
};

// Machines' states under one numbering.
std::vector<int32_t> Offsets(const std::vector<RuleMachine>& machines) {
  std::vector<int32_t> offsets = {0};
  for (const RuleMachine& machine : machines) {
    offsets.push_back(offsets.back() + static_cast<int32_t>(machine.states.size()));
  }
  return offsets;
}

std::vector<std::vector<Dependent>> Dependents(const std::vector<RuleMachine>& machines,
                                               const std::vector<int32_t>& offsets) {
  std::vector<std::vector<Dependent>> dependents(offsets.back());
  for (size_t m = 0; m < machines.size(); ++m) {
    for (size_t s = 0; s < machines[m].states.size(); ++s) {
      const auto state = static_cast<int32_t>(offsets[m] + s);
      for (const RuleMachine::ByteEdge& edge : machines[m].states[s].bytes) {
        dependents[offsets[m] + edge.target].push_back(
            {state, offsets[m] + edge.target, -1, false});
      }
      for (const RuleMachine::CallEdge& edge : machines[m].states[s].calls) {
        const Dependent dependent = {state, offsets[m] + edge.target,
                                     offsets[edge.machine] + machines[edge.machine].start,
                                     machines[m].states[edge.target].final()};
        dependents[dependent.target].push_back(dependent);
        dependents[dependent.called_start].push_back(dependent);
      }
    }
  }
  return dependents;
}

// A state's future, for states whose successors are numbered already.
std::string Signature(const RuleMachine::State& state, const std::vector<int32_t>& merged) {
  std::vector<std::pair<std::string, int32_t>> edges;
  for (const RuleMachine::ByteEdge& edge : state.bytes) {
    edges.emplace_back(std::string(reinterpret_cast<const char*>(&edge.bytes), sizeof(ByteSet)),
                       merged[edge.target]);
  }
  for (const RuleMachine::CallEdge& edge : state.calls) {
    edges.emplace_back(absl::StrCat("call ", edge.machine), merged[edge.target]);
  }
  std::sort(edges.begin(), edges.end());
  std::string signature = state.accepting ? "+" : "-";
  for (const auto& [label, target] : edges) absl::StrAppend(&signature, label, ">", target, ";");
  return signature;
}

// States from `machine.start`, each after its successors as far as loops allow.
std::vector<int32_t> PostOrder(const RuleMachine& machine) {
  std::vector<int32_t> order;
  std::vector<bool> seen(machine.states.size(), false);
  std::vector<std::pair<int32_t, size_t>> path = {{machine.start, 0}};
  seen[machine.start] = true;
  while (!path.empty()) {
    auto& [state, next] = path.back();
    const RuleMachine::State& edges = machine.states[state];
    if (next == edges.bytes.size() + edges.calls.size()) {
      order.push_back(state);
      path.pop_back();
      continue;
    }
    const int32_t target = next < edges.bytes.size()
                               ? edges.bytes[next].target
                               : edges.calls[next - edges.bytes.size()].target;
    ++next;
    if (seen[target]) continue;
    seen[target] = true;
    path.emplace_back(target, 0);
  }
  return order;
}

// Edges to one target as one edge: merging states leaves several.
void JoinEdges(RuleMachine::State& state) {
  std::vector<RuleMachine::ByteEdge> joined;
  for (const RuleMachine::ByteEdge& edge : state.bytes) {
    const auto same = std::find_if(joined.begin(), joined.end(),
                                   [&](const auto& other) { return other.target == edge.target; });
    if (same == joined.end()) {
      joined.push_back(edge);
    } else {
      same->bytes |= edge.bytes;
    }
  }
  state.bytes = std::move(joined);
}

void MergeFutures(RuleMachine& machine) {
  const std::vector<int32_t> order = PostOrder(machine);
  std::vector<int32_t> merged(machine.states.size());
  for (size_t s = 0; s < merged.size(); ++s) merged[s] = static_cast<int32_t>(s);
  absl::flat_hash_map<std::string, int32_t> known;
  for (const int32_t state : order) {
    if (state == machine.start) continue;  // stays without edges into it
    merged[state] =
        known.try_emplace(Signature(machine.states[state], merged), state).first->second;
  }
  std::vector<int32_t> renumbered(machine.states.size(), -1);
  RuleMachine result;
  result.name = std::move(machine.name);
  for (auto state = order.rbegin(); state != order.rend(); ++state) {
    if (merged[*state] != *state) continue;
    renumbered[*state] = static_cast<int32_t>(result.states.size());
    result.states.push_back(std::move(machine.states[*state]));
  }
  for (RuleMachine::State& state : result.states) {
    for (RuleMachine::ByteEdge& edge : state.bytes) edge.target = renumbered[merged[edge.target]];
    for (RuleMachine::CallEdge& edge : state.calls) edge.target = renumbered[merged[edge.target]];
    JoinEdges(state);
  }
  machine = std::move(result);  // the start comes first in reverse post-order
}

}  // namespace

int32_t RuleMachine::AddState() {
  states.emplace_back();
  return static_cast<int32_t>(states.size() - 1);
}

ConstraintBudget::ConstraintBudget(const ConstraintLimits& limits)
    : limits_(limits), deadline_(std::chrono::steady_clock::now() + limits.max_compile_time) {}

absl::Status ConstraintBudget::Check(int64_t states, const std::string& what) {
  if (states > limits_.max_states) {
    return absl::InvalidArgumentError(
        absl::StrCat("constraint: ", what, " makes more than ", limits_.max_states, " states"));
  }
  // Reading the clock for each state would cost more than making it.
  return ++calls_ % 256 == 0 ? CheckTime() : absl::OkStatus();
}

absl::Status ConstraintBudget::CheckTime() const {
  if (std::chrono::steady_clock::now() <= deadline_) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("constraint: not compiled within ", limits_.max_compile_time.count(), " ms"));
}

std::vector<std::vector<int32_t>> NestingNeeds(const std::vector<RuleMachine>& machines) {
  const std::vector<int32_t> offsets = Offsets(machines);
  const std::vector<std::vector<Dependent>> dependents = Dependents(machines, offsets);
  std::vector<int32_t> needs(offsets.back(), kNoWay);
  using Entry = std::pair<int32_t, int32_t>;  // need, state
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue;
  const auto offer = [&](int32_t state, int32_t need) {
    if (need >= needs[state]) return;
    needs[state] = need;
    queue.emplace(need, state);
  };
  for (size_t m = 0; m < machines.size(); ++m) {
    for (size_t s = 0; s < machines[m].states.size(); ++s) {
      if (machines[m].states[s].accepting) offer(static_cast<int32_t>(offsets[m] + s), 0);
    }
  }
  while (!queue.empty()) {
    const auto [need, state] = queue.top();
    queue.pop();
    if (need != needs[state]) continue;
    for (const Dependent& dependent : dependents[state]) {
      if (dependent.called_start < 0) {
        offer(dependent.state, need);
        continue;
      }
      const int32_t after = needs[dependent.target];
      const int32_t inside = needs[dependent.called_start];
      if (after == kNoWay || inside == kNoWay) continue;
      offer(dependent.state, dependent.tail ? inside : std::max(after, inside + 1));
    }
  }
  std::vector<std::vector<int32_t>> result;
  for (size_t m = 0; m < machines.size(); ++m) {
    result.emplace_back(needs.begin() + offsets[m], needs.begin() + offsets[m + 1]);
  }
  return result;
}

void Prune(std::vector<RuleMachine>& machines) {
  const std::vector<std::vector<int32_t>> needs = NestingNeeds(machines);
  for (size_t m = 0; m < machines.size(); ++m) {
    for (RuleMachine::State& state : machines[m].states) {
      std::erase_if(state.bytes, [&](const auto& edge) { return needs[m][edge.target] == kNoWay; });
      std::erase_if(state.calls, [&](const auto& edge) {
        return needs[m][edge.target] == kNoWay ||
               needs[edge.machine][machines[edge.machine].start] == kNoWay;
      });
    }
    MergeFutures(machines[m]);
  }
}

std::vector<int32_t> StrongComponents(const std::vector<std::vector<int32_t>>& successors) {
  // Tarjan's algorithm with its recursion as a list.
  const size_t count = successors.size();
  std::vector<int32_t> component(count, -1);
  std::vector<int32_t> number(count, -1);
  std::vector<int32_t> lowest(count, 0);
  std::vector<int32_t> open;
  int32_t next_number = 0;
  int32_t next_component = 0;
  std::vector<std::pair<int32_t, size_t>> path;
  const auto enter = [&](int32_t vertex) {
    number[vertex] = lowest[vertex] = next_number++;
    open.push_back(vertex);
    path.emplace_back(vertex, 0);
  };
  for (size_t root = 0; root < count; ++root) {
    if (number[root] >= 0) continue;
    enter(static_cast<int32_t>(root));
    while (!path.empty()) {
      const int32_t vertex = path.back().first;
      if (path.back().second < successors[vertex].size()) {
        const int32_t successor = successors[vertex][path.back().second++];
        if (number[successor] < 0) {
          enter(successor);
        } else if (component[successor] < 0) {
          lowest[vertex] = std::min(lowest[vertex], number[successor]);
        }
        continue;
      }
      path.pop_back();
      if (!path.empty()) {
        lowest[path.back().first] = std::min(lowest[path.back().first], lowest[vertex]);
      }
      if (lowest[vertex] != number[vertex]) continue;
      while (component[vertex] < 0) {
        component[open.back()] = next_component;
        open.pop_back();
      }
      ++next_component;
    }
  }
  return component;
}

}  // namespace based
