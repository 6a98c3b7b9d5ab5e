#include "engine/constraint/grammar.h"

#include <algorithm>
#include <array>
#include <utility>

#include "kernels/base/check.h"

namespace based {
namespace {

constexpr char32_t kLastCodePoint = 0x10FFFF;

// UTF-8 as a small automaton: an edge for every run of lead bytes that take the same continuations.
class CodePointFsa {
 public:
  CodePointFsa() {
    fsa_.states.resize(2);
    fsa_.states[kAccepted].accepting = true;
  }

  // One range; it holds no surrogate.
  void Add(char32_t first, char32_t last) {
    static constexpr std::array<char32_t, 4> kLastOfLength = {0x7F, 0x7FF, 0xFFFF, kLastCodePoint};
    char32_t from = first;
    for (int length = 1; length <= 4; ++length) {
      const char32_t to = std::min(last, kLastOfLength[static_cast<size_t>(length - 1)]);
      if (from > to) continue;
      AddOfLength(kStart, from, to, length, length);
      from = to + 1;
    }
  }

  ByteFsa Take() { return std::move(fsa_); }

 private:
  static constexpr int32_t kStart = 0;
  static constexpr int32_t kAccepted = 1;

  static unsigned Lead(char32_t code_point, int length) {
    static constexpr std::array<unsigned, 5> kMark = {0, 0, 0xC0, 0xE0, 0xF0};
    return kMark[static_cast<size_t>(length)] | static_cast<unsigned>(code_point);
  }

  // Edges from `state` for code points of which `left` bytes of `length` are still to be written;
  // `first` and `last` hold just the bits of those.
  void AddOfLength(int32_t state, char32_t first, char32_t last, int left, int length) {
    const int shift = 6 * (left - 1);
    const char32_t mask = (char32_t{1} << shift) - 1;
    char32_t head = first >> shift;
    const char32_t last_head = last >> shift;
    while (head <= last_head) {
      const char32_t low = head == first >> shift ? first & mask : 0;
      // Heads that take every continuation share an edge.
      char32_t run = head;
      if (low == 0) {
        run = (last & mask) == mask ? last_head : last_head - (head < last_head ? 1 : 0);
      }
      const char32_t high = run == last_head ? last & mask : mask;
      const int32_t target = left == 1 ? kAccepted : Rest(low, high, left - 1, length);
      ByteSet bytes;
      for (char32_t h = head; h <= run; ++h) {
        bytes.set(left == length ? Lead(h, length) : 0x80 | static_cast<unsigned>(h));
      }
      fsa_.states[static_cast<size_t>(state)].edges.push_back({bytes, target});
      head = run + 1;
    }
  }

  // A state from which the last `left` bytes are those of `first`..`last`.
  int32_t Rest(char32_t first, char32_t last, int left, int length) {
    const bool any = first == 0 && last == (char32_t{1} << (6 * left)) - 1;
    int32_t& shared = any_[static_cast<size_t>(left)];
    if (any && shared != 0) return shared;
    const auto state = static_cast<int32_t>(fsa_.states.size());
    fsa_.states.emplace_back();
    if (any) shared = state;
    AddOfLength(state, first, last, left, length);
    return state;
  }

  ByteFsa fsa_;
  std::array<int32_t, 4> any_ = {};  // states that take that many continuation bytes of any value
};

bool MatchesSome(const ByteFsa& fsa) {
  if (fsa.states.empty()) return false;
  std::vector<bool> seen(fsa.states.size(), false);
  std::vector<int32_t> open = {0};
  seen[0] = true;
  while (!open.empty()) {
    const ByteFsa::State& state = fsa.states[open.back()];
    open.pop_back();
    if (state.accepting) return true;
    for (const ByteFsa::Edge& edge : state.edges) {
      if (edge.bytes.none() || seen[edge.target]) continue;
      seen[edge.target] = true;
      open.push_back(edge.target);
    }
  }
  return false;
}

// How many of a node's children must match some text for it to do so; 0 for those that do anyway,
// and more than there are children for those that never do.
size_t ChildrenNeeded(const Grammar::NodeData& data) {
  constexpr size_t kNever = SIZE_MAX;
  switch (data.kind) {
    case Grammar::Kind::kBytes:
      return 0;
    case Grammar::Kind::kByteSet:
      return data.set.any() ? 0 : kNever;
    case Grammar::Kind::kFsa:
      return MatchesSome(data.fsa) ? 0 : kNever;
    case Grammar::Kind::kSequence:
      return data.children.size();
    case Grammar::Kind::kRepeat:
      return data.min == 0 ? 0 : 1;
    case Grammar::Kind::kChoice:
    case Grammar::Kind::kRule:
      return 1;
  }
  return kNever;
}

}  // namespace

Grammar::Node Grammar::Add(NodeData data) {
  for (const Node child : data.children) {
    BASED_CHECK(child >= 0 && static_cast<size_t>(child) < nodes_.size());
  }
  nodes_.push_back(std::move(data));
  return static_cast<Node>(nodes_.size() - 1);
}

Grammar::Node Grammar::Bytes(std::string_view bytes) {
  NodeData data;
  data.kind = Kind::kBytes;
  data.bytes = bytes;
  return Add(std::move(data));
}

Grammar::Node Grammar::OneOf(const ByteSet& bytes) {
  NodeData data;
  data.kind = Kind::kByteSet;
  data.set = bytes;
  return Add(std::move(data));
}

Grammar::Node Grammar::CodePoints(const std::vector<CodePointRange>& ranges) {
  CodePointFsa fsa;
  for (const CodePointRange& range : ranges) {
    const char32_t last = std::min(range.last, kLastCodePoint);
    if (range.first <= std::min<char32_t>(last, 0xD7FF)) {
      fsa.Add(range.first, std::min<char32_t>(last, 0xD7FF));
    }
    if (std::max<char32_t>(range.first, 0xE000) <= last) {
      fsa.Add(std::max<char32_t>(range.first, 0xE000), last);
    }
  }
  return Fsa(fsa.Take());
}

Grammar::Node Grammar::Fsa(ByteFsa fsa) {
  for (const ByteFsa::State& state : fsa.states) {
    for (const ByteFsa::Edge& edge : state.edges) {
      BASED_CHECK(edge.target >= 0 && static_cast<size_t>(edge.target) < fsa.states.size());
    }
  }
  NodeData data;
  data.kind = Kind::kFsa;
  data.fsa = std::move(fsa);
  return Add(std::move(data));
}

Grammar::Node Grammar::Sequence(std::vector<Node> nodes) {
  NodeData data;
  data.kind = Kind::kSequence;
  data.children = std::move(nodes);
  return Add(std::move(data));
}

Grammar::Node Grammar::Choice(std::vector<Node> nodes) {
  NodeData data;
  data.kind = Kind::kChoice;
  data.children = std::move(nodes);
  return Add(std::move(data));
}

Grammar::Node Grammar::Repeat(Node node, int64_t min, int64_t max) {
  BASED_CHECK(min >= 0 && (max == kUnbounded || max >= min));
  NodeData data;
  data.kind = Kind::kRepeat;
  data.children = {node};
  data.min = min;
  data.max = max;
  return Add(std::move(data));
}

Grammar::Rule Grammar::NewRule(std::string name) {
  rules_.push_back({std::move(name), -1});
  return static_cast<Rule>(rules_.size() - 1);
}

void Grammar::Define(Rule rule, Node node) {
  BASED_CHECK(rule >= 0 && static_cast<size_t>(rule) < rules_.size());
  BASED_CHECK(node >= 0 && static_cast<size_t>(node) < nodes_.size());
  rules_[static_cast<size_t>(rule)].node = node;
}

Grammar::Node Grammar::Use(Rule rule) {
  BASED_CHECK(rule >= 0 && static_cast<size_t>(rule) < rules_.size());
  NodeData data;
  data.kind = Kind::kRule;
  data.rule = rule;
  return Add(std::move(data));
}

std::vector<Grammar::Rule> Grammar::RulesWithoutEnd() const {
  std::vector<std::vector<Node>> users(nodes_.size());
  std::vector<std::vector<Node>> uses(rules_.size());
  std::vector<std::vector<Rule>> defines(nodes_.size());
  std::vector<size_t> needed(nodes_.size());
  std::vector<Node> open;
  for (size_t n = 0; n < nodes_.size(); ++n) {
    const auto node = static_cast<Node>(n);
    for (const Node child : nodes_[n].children) users[child].push_back(node);
    if (nodes_[n].kind == Kind::kRule) uses[nodes_[n].rule].push_back(node);
    needed[n] = ChildrenNeeded(nodes_[n]);
    if (needed[n] == 0) open.push_back(node);
  }
  for (size_t r = 0; r < rules_.size(); ++r) {
    if (rules_[r].node >= 0) defines[rules_[r].node].push_back(static_cast<Rule>(r));
  }
  std::vector<bool> ends(rules_.size(), false);
  const auto found = [&](Node node) {
    if (needed[node] > 0 && --needed[node] == 0) open.push_back(node);
  };
  while (!open.empty()) {
    const Node node = open.back();
    open.pop_back();
    for (const Node user : users[node]) found(user);
    for (const Rule rule : defines[node]) {
      ends[rule] = true;
      for (const Node use : uses[rule]) found(use);
    }
  }
  std::vector<Rule> without;
  for (size_t r = 0; r < rules_.size(); ++r) {
    if (!ends[r]) without.push_back(static_cast<Rule>(r));
  }
  return without;
}

}  // namespace based
