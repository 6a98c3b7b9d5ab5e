// From a grammar's nodes to automata: which nodes become machines of their own, and Thompson's
// construction for each.
#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "engine/constraint/rule_machine.h"
#include "kernels/base/status.h"

namespace based {
namespace {

using Node = Grammar::Node;
using Kind = Grammar::Kind;

// A part that is used twice becomes a machine from this many states on: states of one machine are
// shared by all who call it, and so are their masks.
constexpr int64_t kSharedWeight = 12;
// Nesting of nodes within one machine: construction recurses.
constexpr int32_t kMostNesting = 200;
constexpr int64_t kMostWeight = int64_t{1} << 40;

template <typename T>
void AppendRaw(const T& value, std::string* out) {
  const size_t at = out->size();
  out->resize(at + sizeof(T));
  std::memcpy(out->data() + at, &value, sizeof(T));
}

// Everything that a node's meaning depends on, given its children's canonical nodes.
std::string ContentOf(const Grammar::NodeData& data, const std::vector<Node>& canonical) {
  std::string content;
  AppendRaw(data.kind, &content);
  AppendRaw(data.min, &content);
  AppendRaw(data.max, &content);
  AppendRaw(data.rule, &content);
  AppendRaw(data.set, &content);
  AppendRaw(data.bytes.size(), &content);
  content += data.bytes;
  for (const Node child : data.children) AppendRaw(canonical[child], &content);
  for (const ByteFsa::State& state : data.fsa.states) {
    AppendRaw(state.accepting, &content);
    AppendRaw(state.edges.size(), &content);
    for (const ByteFsa::Edge& edge : state.edges) {
      AppendRaw(edge.bytes, &content);
      AppendRaw(edge.target, &content);
    }
  }
  return content;
}

// How the nodes hang together: equal ones found, uses and sizes counted, machines chosen.
class Shape {
 public:
  explicit Shape(const Grammar& grammar) : grammar_(grammar) {}

  absl::Status Analyze(ConstraintBudget& budget);

  Node canonical(Node node) const { return canonical_[node]; }
  bool nullable(Node node) const { return nullable_[node]; }
  // -1: part of its users' machines.
  int32_t machine(Node node) const { return machine_[node]; }
  const std::vector<Node>& machine_nodes() const { return machine_nodes_; }
  Node body(Node rule_node) const {
    return canonical_[grammar_.rules()[grammar_.nodes()[rule_node].rule].node];
  }

 private:
  void FindEqual();
  absl::Status Reach();
  void FindNullable(ConstraintBudget& budget);
  void ChooseMachines();
  int64_t Weigh(Node node, int32_t* nesting) const;
  bool ComputeNullable(Node node) const;

  const Grammar& grammar_;
  std::vector<Node> canonical_;
  std::vector<std::vector<int32_t>> successors_;  // of canonical nodes that are reached
  std::vector<int32_t> component_;
  std::vector<Node> order_;  // reached nodes, children (and, without recursion, bodies) first
  std::vector<int64_t> uses_;
  std::vector<bool> nullable_;
  std::vector<int32_t> machine_;
  std::vector<int64_t> weight_;
  std::vector<int32_t> nesting_;
  std::vector<Node> machine_nodes_;
};

void Shape::FindEqual() {
  absl::flat_hash_map<std::string, Node> known;
  for (size_t n = 0; n < grammar_.nodes().size(); ++n) {
    const Grammar::NodeData& data = grammar_.nodes()[n];
    const bool wraps = data.kind == Kind::kSequence || data.kind == Kind::kChoice;
    canonical_.push_back(wraps && data.children.size() == 1
                             ? canonical_[data.children[0]]
                             : known.try_emplace(ContentOf(data, canonical_), n).first->second);
  }
}

absl::Status Shape::Reach() {
  successors_.resize(grammar_.nodes().size());
  uses_.resize(grammar_.nodes().size(), 0);
  std::vector<Node> open = {canonical_[grammar_.start()]};
  uses_[open[0]] = 1;
  while (!open.empty()) {
    const Node node = open.back();
    open.pop_back();
    order_.push_back(node);
    const Grammar::NodeData& data = grammar_.nodes()[node];
    if (data.kind == Kind::kRule) {
      if (grammar_.rules()[data.rule].node < 0) {
        return absl::InvalidArgumentError(
            absl::StrCat("constraint: rule ", grammar_.rules()[data.rule].name, " is not defined"));
      }
      successors_[node] = {body(node)};
    }
    for (const Node child : data.children) successors_[node].push_back(canonical_[child]);
    const bool repeats = data.kind == Kind::kRepeat && (data.min > 1 || data.max > 1);
    for (const Node next : successors_[node]) {
      if (uses_[next] == 0) open.push_back(next);
      uses_[next] += repeats ? 2 : 1;
    }
  }
  component_ = StrongComponents(successors_);
  std::sort(order_.begin(), order_.end(), [&](Node a, Node b) {
    return std::pair(component_[a], a) < std::pair(component_[b], b);
  });
  return absl::OkStatus();
}

bool Shape::ComputeNullable(Node node) const {
  const Grammar::NodeData& data = grammar_.nodes()[node];
  const auto is_nullable = [&](Node child) { return bool{nullable_[canonical_[child]]}; };
  switch (data.kind) {
    case Kind::kBytes:
      return data.bytes.empty();
    case Kind::kByteSet:
      return false;
    case Kind::kFsa:
      return !data.fsa.states.empty() && data.fsa.states[0].accepting;
    case Kind::kSequence:
      return std::all_of(data.children.begin(), data.children.end(), is_nullable);
    case Kind::kChoice:
      return std::any_of(data.children.begin(), data.children.end(), is_nullable);
    case Kind::kRepeat:
      return data.min == 0 || is_nullable(data.children[0]);
    case Kind::kRule:
      return nullable_[body(node)];
  }
  return false;
}

void Shape::FindNullable(ConstraintBudget& budget) {
  nullable_.resize(grammar_.nodes().size(), false);
  // One round is enough where nothing recurses; rules that become nullable late need more.
  for (bool changed = true; changed && budget.CheckTime().ok();) {
    changed = false;
    for (const Node node : order_) {
      if (nullable_[node] || !ComputeNullable(node)) continue;
      nullable_[node] = true;
      changed = true;
    }
  }
}

// States of `node` in its user's machine, and how deep construction recurses.
int64_t Shape::Weigh(Node node, int32_t* nesting) const {
  const Grammar::NodeData& data = grammar_.nodes()[node];
  int64_t weight = 1;
  *nesting = 1;
  for (const int32_t child : successors_[node]) {
    weight = std::min(weight + weight_[child], kMostWeight);
    *nesting = std::max(*nesting, nesting_[child] + 1);
  }
  switch (data.kind) {
    case Kind::kBytes:
      return static_cast<int64_t>(data.bytes.size());
    case Kind::kFsa:
      return static_cast<int64_t>(data.fsa.states.size());
    case Kind::kRepeat: {
      const int64_t copies = std::max<int64_t>({data.min, data.max, 1});
      return weight > kMostWeight / copies ? kMostWeight : weight * copies;
    }
    default:
      return weight;
  }
}

void Shape::ChooseMachines() {
  machine_.resize(grammar_.nodes().size(), -1);
  weight_.resize(grammar_.nodes().size(), 1);
  nesting_.resize(grammar_.nodes().size(), 1);
  const Node start = canonical_[grammar_.start()];
  machine_nodes_ = {start};
  machine_[start] = 0;
  for (const Node node : order_) {
    const bool rule = grammar_.nodes()[node].kind == Kind::kRule;
    const bool recursive = rule && component_[node] == component_[body(node)];
    int32_t nesting = 1;
    const int64_t weight = recursive ? 1 : Weigh(node, &nesting);
    if (recursive || nesting >= kMostNesting || (uses_[node] > 1 && weight >= kSharedWeight)) {
      if (machine_[node] < 0) {
        machine_[node] = static_cast<int32_t>(machine_nodes_.size());
        machine_nodes_.push_back(node);
      }
      continue;
    }
    weight_[node] = weight;
    nesting_[node] = nesting;
  }
}

absl::Status Shape::Analyze(ConstraintBudget& budget) {
  FindEqual();
  BASED_RETURN_IF_ERROR(Reach());
  FindNullable(budget);
  BASED_RETURN_IF_ERROR(budget.CheckTime());
  ChooseMachines();
  return absl::OkStatus();
}

// Thompson's construction of one machine.
class Construction {
 public:
  Construction(const Grammar& grammar, const Shape& shape, const ByteSet& spellable,
               ConstraintBudget& budget)
      : grammar_(grammar), shape_(shape), spellable_(spellable), budget_(budget) {}

  absl::StatusOr<RuleMachine> Run(Node node, std::string name) {
    machine_.name = std::move(name);
    machine_.start = machine_.AddState();
    const int32_t end = Body(node, machine_.start);
    BASED_RETURN_IF_ERROR(status_);
    machine_.states[end].accepting = true;
    return std::move(machine_);
  }

 private:
  int32_t NewState() {
    if (status_.ok()) {
      status_ = budget_.Check(static_cast<int64_t>(machine_.states.size()), machine_.name);
    }
    return machine_.AddState();
  }
  void Epsilon(int32_t from, int32_t to) { machine_.states[from].epsilon.push_back(to); }
  int32_t Read(const ByteSet& bytes, int32_t from) {
    const int32_t to = NewState();
    const ByteSet readable = bytes & spellable_;
    if (readable.any()) machine_.states[from].bytes.push_back({readable, to});
    return to;
  }

  // Adds what `node` matches behind state `from`; returns the state behind it.
  int32_t Add(Node node, int32_t from) {
    const int32_t called = shape_.machine(node);
    if (!status_.ok()) return from;
    if (called < 0) return Body(node, from);
    const int32_t to = NewState();
    machine_.states[from].calls.push_back({called, to});
    if (shape_.nullable(node)) Epsilon(from, to);  // machines never accept the empty text
    return to;
  }

  int32_t Body(Node node, int32_t from);
  int32_t Fsa(const ByteFsa& fsa, int32_t from);
  int32_t Repeat(const Grammar::NodeData& data, int32_t from);

  const Grammar& grammar_;
  const Shape& shape_;
  const ByteSet& spellable_;
  ConstraintBudget& budget_;
  RuleMachine machine_;
  absl::Status status_;
};

int32_t Construction::Fsa(const ByteFsa& fsa, int32_t from) {
  const int32_t end = NewState();
  const auto offset = static_cast<int32_t>(machine_.states.size());
  for (const ByteFsa::State& state : fsa.states) {
    const int32_t copy = NewState();
    if (!status_.ok()) return end;
    for (const ByteFsa::Edge& edge : state.edges) {
      const ByteSet readable = edge.bytes & spellable_;
      if (readable.any()) machine_.states[copy].bytes.push_back({readable, offset + edge.target});
    }
    if (state.accepting) Epsilon(copy, end);
  }
  if (!fsa.states.empty()) Epsilon(from, offset);
  return end;
}

int32_t Construction::Repeat(const Grammar::NodeData& data, int32_t from) {
  const Node child = shape_.canonical(data.children[0]);
  int32_t at = from;
  for (int64_t i = 0; i < data.min && status_.ok(); ++i) at = Add(child, at);
  const int32_t end = NewState();
  if (data.max == Grammar::kUnbounded) {
    // A loop of its own: other edges leave `at`.
    Epsilon(at, end);
    Epsilon(Add(child, end), end);
    return end;
  }
  for (int64_t i = data.min; i < data.max && status_.ok(); ++i) {
    Epsilon(at, end);
    at = Add(child, at);
  }
  Epsilon(at, end);
  return end;
}

int32_t Construction::Body(Node node, int32_t from) {
  const Grammar::NodeData& data = grammar_.nodes()[node];
  switch (data.kind) {
    case Kind::kBytes: {
      int32_t at = from;
      for (const char byte : data.bytes) at = Read(ByteSet().set(static_cast<uint8_t>(byte)), at);
      return at;
    }
    case Kind::kByteSet:
      return Read(data.set, from);
    case Kind::kFsa:
      return Fsa(data.fsa, from);
    case Kind::kSequence: {
      int32_t at = from;
      for (const Node child : data.children) at = Add(shape_.canonical(child), at);
      return at;
    }
    case Kind::kChoice: {
      const int32_t end = NewState();
      for (const Node child : data.children) Epsilon(Add(shape_.canonical(child), from), end);
      return end;
    }
    case Kind::kRepeat:
      return Repeat(data, from);
    case Kind::kRule:
      return Add(shape_.body(node), from);
  }
  return from;
}

std::string NameOf(const Grammar& grammar, Node node) {
  const Grammar::NodeData& data = grammar.nodes()[node];
  if (data.kind == Kind::kRule) return "rule " + grammar.rules()[data.rule].name;
  return "the grammar";
}

}  // namespace

absl::StatusOr<RuleMachines> MakeMachines(const Grammar& given_grammar, const ByteSet& spellable,
                                          ConstraintBudget& budget) {
  const Grammar grammar = SplitRepeats(given_grammar);
  if (grammar.start() < 0) return absl::InvalidArgumentError("constraint: the grammar is empty");
  Shape shape(grammar);
  BASED_RETURN_IF_ERROR(shape.Analyze(budget));
  const auto machines = static_cast<int64_t>(shape.machine_nodes().size());
  if (machines > budget.limits().max_machines) {
    return absl::InvalidArgumentError(
        absl::StrCat("constraint: ", machines,
                     " rules that recurse or are used more than once, at "
                     "most ",
                     budget.limits().max_machines, " are allowed"));
  }
  RuleMachines result;
  result.may_be_empty = shape.nullable(shape.machine_nodes()[0]);
  int64_t states = 0;
  for (const Node node : shape.machine_nodes()) {
    Construction construction(grammar, shape, spellable, budget);
    BASED_ASSIGN_OR_RETURN(const RuleMachine given, construction.Run(node, NameOf(grammar, node)));
    BASED_ASSIGN_OR_RETURN(RuleMachine machine, Determinize(given, &states, budget));
    result.machines.push_back(std::move(machine));
  }
  BASED_RETURN_IF_ERROR(RemoveLeftRecursion(result.machines, &states, budget));
  Prune(result.machines);
  return result;
}

}  // namespace based
