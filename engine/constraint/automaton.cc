#include "engine/constraint/automaton.h"

#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "engine/constraint/rule_machine.h"
#include "kernels/base/check.h"
#include "kernels/base/status.h"

namespace based {

// Fills the tables of one automaton from its machines.
class AutomatonTables {
 public:
  AutomatonTables(const std::vector<RuleMachine>& machines, ConstraintBudget& budget)
      : machines_(machines), budget_(budget) {}

  absl::StatusOr<Automaton> Run() {
    Number();
    MakeClasses();
    BASED_RETURN_IF_ERROR(ReserveTables());
    BASED_RETURN_IF_ERROR(ResolveStarts());
    for (size_t m = 0; m < machines_.size(); ++m) {
      for (size_t s = 0; s < machines_[m].states.size(); ++s) {
        BASED_RETURN_IF_ERROR(FillState(m, s));
      }
    }
    FindRuns();
    return std::move(result_);
  }

 private:
  // A way to read a byte without ending a rule: `pushes` remembered, then an edge of `state`.
  struct Way {
    const RuleMachine::State* state;
    int32_t offset;  // of the numbers of its machine's states
    std::vector<int32_t> pushes;
  };
  struct Step {
    int32_t target;
    std::vector<int32_t> pushes;
    bool operator==(const Step&) const = default;
    template <typename H>
    friend H AbslHashValue(H hash, const Step& step) {
      return H::combine(std::move(hash), step.target, step.pushes);
    }
  };

  void Number();
  void MakeClasses();
  absl::Status ReserveTables();
  absl::Status ResolveStarts();
  absl::Status AddWays(const RuleMachine& machine, int32_t offset, size_t state,
                       std::vector<Way>* ways);
  absl::Status FillState(size_t machine, size_t state);
  std::pair<int32_t, ByteSet> MainStep(int32_t state) const;
  void FindRuns();
  int32_t Encode(std::vector<Step>& steps);

  const std::vector<RuleMachine>& machines_;
  ConstraintBudget& budget_;
  Automaton result_;
  std::vector<int32_t> offsets_;
  std::vector<ByteSet> classes_;
  std::vector<uint8_t> representatives_;      // a byte of each class
  std::vector<std::vector<Way>> start_ways_;  // of each machine
  int64_t way_count_ = 0;
  absl::flat_hash_map<std::vector<Step>, int32_t> encoded_;
};

void AutomatonTables::Number() {
  int32_t next = 0;
  const std::vector<std::vector<int32_t>> needs = NestingNeeds(machines_);
  std::vector<uint8_t> called(machines_.size(), 0);
  for (const RuleMachine& machine : machines_) {
    for (const RuleMachine::State& state : machine.states) {
      for (const RuleMachine::CallEdge& edge : state.calls) called[edge.machine] = 1;
    }
  }
  for (size_t m = 0; m < machines_.size(); ++m) {
    offsets_.push_back(next);
    next += static_cast<int32_t>(machines_[m].states.size());
    for (size_t s = 0; s < machines_[m].states.size(); ++s) {
      result_.accepting_.push_back(machines_[m].states[s].accepting ? 1 : 0);
      result_.need_.push_back(needs[m][s]);
      result_.called_.push_back(called[m]);
      if (needs[m][s] != kNoWay) result_.most_need_ = std::max(result_.most_need_, needs[m][s]);
    }
  }
}

void AutomatonTables::MakeClasses() {
  std::vector<ByteSet> classes = {ByteSet().set()};
  absl::flat_hash_map<ByteSet, bool> done;
  for (const RuleMachine& machine : machines_) {
    for (const RuleMachine::State& state : machine.states) {
      for (const RuleMachine::ByteEdge& edge : state.bytes) {
        if (!done.try_emplace(edge.bytes, true).second) continue;
        const size_t before = classes.size();
        for (size_t i = 0; i < before; ++i) {
          const ByteSet inside = classes[i] & edge.bytes;
          if (inside.none() || inside == classes[i]) continue;
          classes.push_back(classes[i] & ~edge.bytes);
          classes[i] = inside;
        }
      }
    }
  }
  result_.class_count_ = classes.size();
  for (size_t c = 0; c < classes.size(); ++c) {
    size_t first = 256;
    for (size_t byte = 256; byte-- > 0;) {
      if (!classes[c][byte]) continue;
      result_.class_of_[byte] = static_cast<uint8_t>(c);
      first = byte;
    }
    representatives_.push_back(static_cast<uint8_t>(first));
  }
  classes_ = std::move(classes);
}

absl::Status AutomatonTables::ReserveTables() {
  const size_t states = result_.accepting_.size();
  const auto bytes = static_cast<int64_t>(states * (result_.class_count_ * sizeof(int32_t) + 64));
  if (bytes > budget_.limits().max_table_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("constraint: the tables take ", bytes, " bytes, at most ",
                     budget_.limits().max_table_bytes, " are allowed"));
  }
  result_.next_.assign(states * result_.class_count_, Automaton::kNone);
  result_.bytes_.resize(states);
  return absl::OkStatus();
}

absl::Status AutomatonTables::AddWays(const RuleMachine& machine, int32_t offset, size_t state,
                                      std::vector<Way>* ways) {
  const RuleMachine::State& edges = machine.states[state];
  if (!edges.bytes.empty()) ways->push_back({&edges, offset, {}});
  for (const RuleMachine::CallEdge& call : edges.calls) {
    // A caller with nothing left to do is not remembered: it ends when what it called ends.
    const bool tail = machine.states[call.target].final();
    for (const Way& inner : start_ways_[call.machine]) {
      Way way = {inner.state, inner.offset, {}};
      if (!tail) way.pushes.push_back(offset + call.target);
      way.pushes.insert(way.pushes.end(), inner.pushes.begin(), inner.pushes.end());
      ways->push_back(std::move(way));
      BASED_RETURN_IF_ERROR(budget_.Check(++way_count_ / 16, "calls at the start of rules"));
    }
  }
  return absl::OkStatus();
}

absl::Status AutomatonTables::ResolveStarts() {
  std::vector<std::vector<int32_t>> first(machines_.size());
  for (size_t m = 0; m < machines_.size(); ++m) {
    for (const RuleMachine::CallEdge& edge : machines_[m].states[machines_[m].start].calls) {
      first[m].push_back(edge.machine);
    }
  }
  // Without left recursion each machine is a component of its own, numbered after those it calls.
  const std::vector<int32_t> component = StrongComponents(first);
  std::vector<size_t> order(machines_.size());
  for (size_t m = 0; m < machines_.size(); ++m) order[component[m]] = m;
  start_ways_.resize(machines_.size());
  for (const size_t m : order) {
    BASED_RETURN_IF_ERROR(AddWays(machines_[m], offsets_[m], machines_[m].start, &start_ways_[m]));
  }
  return absl::OkStatus();
}

absl::Status AutomatonTables::FillState(size_t machine, size_t state) {
  std::vector<Way> ways;
  BASED_RETURN_IF_ERROR(AddWays(machines_[machine], offsets_[machine], state, &ways));
  const int32_t id = offsets_[machine] + static_cast<int32_t>(state);
  std::vector<std::vector<Step>> steps(result_.class_count_);
  for (const Way& way : ways) {
    for (const RuleMachine::ByteEdge& edge : way.state->bytes) {
      result_.bytes_[id] |= edge.bytes;
      for (size_t c = 0; c < steps.size(); ++c) {
        if (edge.bytes[representatives_[c]]) {
          steps[c].push_back({way.offset + edge.target, way.pushes});
        }
      }
    }
  }
  for (size_t c = 0; c < steps.size(); ++c) {
    if (steps[c].empty()) continue;
    result_.next_[static_cast<size_t>(id) * result_.class_count_ + c] = Encode(steps[c]);
  }
  return absl::OkStatus();
}

// The single state that most bytes of `state` lead to, and these bytes; kNone where there is none.
std::pair<int32_t, ByteSet> AutomatonTables::MainStep(int32_t state) const {
  std::map<int32_t, ByteSet> bytes_to;
  for (size_t c = 0; c < classes_.size(); ++c) {
    const int32_t code = result_.next_[static_cast<size_t>(state) * result_.class_count_ + c];
    if (code >= 0) bytes_to[code] |= classes_[c];
  }
  std::pair<int32_t, ByteSet> main = {Automaton::kNone, ByteSet()};
  for (const auto& [target, bytes] : bytes_to) {
    if (bytes.count() > main.second.count()) main = {target, bytes};
  }
  return main;
}

void AutomatonTables::FindRuns() {
  const auto states = static_cast<size_t>(result_.size());
  std::vector<int32_t> next(states, Automaton::kNone);  // where a run goes on
  std::map<std::pair<uint64_t, uint64_t>, int32_t> set_ids;
  for (size_t s = 0; s < states; ++s) {
    const auto [target, bytes] = MainStep(static_cast<int32_t>(s));
    const TokenTrie::Folded folded = TokenTrie::FoldWhole(bytes);
    const auto [at, added] = set_ids.try_emplace({folded.low, folded.high},
                                                 static_cast<int32_t>(result_.run_sets_.size()));
    if (added) result_.run_sets_.push_back(folded);
    result_.run_set_.push_back(at->second);
    if (target >= 0 && result_.accepting_[target] == result_.accepting_[s]) next[s] = target;
  }
  // The last step of a run may lead to a state of other bytes.
  const auto goes_on = [&](int32_t state) {
    return next[state] >= 0 && result_.run_set_[next[state]] == result_.run_set_[state];
  };
  constexpr int32_t kUnknown = -1;
  std::vector<int32_t>& lengths = result_.run_length_;
  lengths.assign(states, kUnknown);
  std::vector<int32_t> path;
  std::vector<bool> on_path(states, false);
  for (size_t s = 0; s < states; ++s) {
    auto at = static_cast<int32_t>(s);
    for (; lengths[at] == kUnknown && !on_path[at] && goes_on(at); at = next[at]) {
      path.push_back(at);
      on_path[at] = true;
    }
    if (lengths[at] == kUnknown && !on_path[at]) lengths[at] = next[at] < 0 ? 0 : 1;
    int32_t length = on_path[at] ? Automaton::kEndless : lengths[at];
    for (; !path.empty(); path.pop_back()) {
      if (length != Automaton::kEndless) ++length;
      lengths[path.back()] = length;
      on_path[path.back()] = false;
    }
  }
}

int32_t AutomatonTables::Encode(std::vector<Step>& steps) {
  if (steps.size() == 1 && steps[0].pushes.empty()) return steps[0].target;
  const auto less = [](const Step& a, const Step& b) {
    return std::tie(a.target, a.pushes) < std::tie(b.target, b.pushes);
  };
  std::sort(steps.begin(), steps.end(), less);
  steps.erase(std::unique(steps.begin(), steps.end()), steps.end());
  if (steps.size() == 1 && steps[0].pushes.empty()) return steps[0].target;
  const auto code = static_cast<int32_t>(-1 - static_cast<int64_t>(result_.lists_.size()));
  const auto [at, added] = encoded_.try_emplace(steps, code);
  if (!added) return at->second;
  for (const Step& step : steps) {
    result_.moves_.push_back({step.target, static_cast<int32_t>(result_.pushes_.size()),
                              static_cast<int32_t>(step.pushes.size())});
    result_.pushes_.insert(result_.pushes_.end(), step.pushes.begin(), step.pushes.end());
  }
  result_.lists_.push_back(result_.moves_.size());
  return code;
}

int64_t Automaton::table_bytes() const {
  return static_cast<int64_t>(sizeof(*this) + next_.size() * sizeof(next_[0]) +
                              accepting_.size() * (2 + sizeof(ByteSet) + 3 * sizeof(int32_t)) +
                              moves_.size() * sizeof(Move) +
                              (lists_.size() + pushes_.size()) * sizeof(size_t));
}

absl::StatusOr<Automaton> Automaton::Compile(const Grammar& grammar, const ByteSet& spellable,
                                             const ConstraintLimits& limits) {
  ConstraintBudget budget(limits);
  BASED_ASSIGN_OR_RETURN(const RuleMachines made, MakeMachines(grammar, spellable, budget));
  const RuleMachine& whole = made.machines[0];
  if (!made.may_be_empty && whole.states[whole.start].bytes.empty() &&
      whole.states[whole.start].calls.empty()) {
    return absl::InvalidArgumentError("constraint: no text can match it");
  }
  BASED_ASSIGN_OR_RETURN(Automaton result, AutomatonTables(made.machines, budget).Run());
  BASED_CHECK(whole.start == result.start());
  result.may_be_empty_ = made.may_be_empty;
  const int32_t need = result.nesting_need(result.start());
  if (need != kNoWay && need > limits.max_depth) {
    return absl::InvalidArgumentError(absl::StrCat("constraint: every text nests ", need,
                                                   " rules, at most ", limits.max_depth,
                                                   " are allowed"));
  }
  return result;
}

}  // namespace based
