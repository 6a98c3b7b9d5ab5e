// What every constraint compiles to: a context-free grammar over bytes, as a graph of nodes.
//
// Front ends (json_schema, regex, choice, ebnf) build one; Automaton::Compile takes it from there.
// A node may be used in several places. Not thread-safe while it is built; plain data afterwards.
#ifndef BASED_ENGINE_CONSTRAINT_GRAMMAR_H_
#define BASED_ENGINE_CONSTRAINT_GRAMMAR_H_

#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace based {

using ByteSet = std::bitset<256>;

// A range of Unicode code points, both ends included.
struct CodePointRange {
  char32_t first = 0;
  char32_t last = 0;
};

// A finite automaton over bytes as a front end hands it over; state 0 is the start. It need not be
// deterministic.
struct ByteFsa {
  struct Edge {
    ByteSet bytes;
    int32_t target = 0;
  };
  struct State {
    std::vector<Edge> edges;
    bool accepting = false;
  };
  std::vector<State> states;
};

class Grammar {
 public:
  using Node = int32_t;
  using Rule = int32_t;
  static constexpr int64_t kUnbounded = -1;

  enum class Kind : uint8_t { kBytes, kByteSet, kFsa, kSequence, kChoice, kRepeat, kRule };
  struct NodeData {
    Kind kind = Kind::kBytes;
    std::string bytes;           // kBytes; empty: the empty text
    ByteSet set;                 // kByteSet
    ByteFsa fsa;                 // kFsa
    std::vector<Node> children;  // kSequence, kChoice (no children: matches nothing), kRepeat (one)
    int64_t min = 0;             // kRepeat
    int64_t max = 0;             // kRepeat; kUnbounded: no limit
    Rule rule = 0;               // kRule
  };
  struct RuleData {
    std::string name;  // for messages
    Node node = -1;    // -1: not defined yet
  };

  Node Bytes(std::string_view bytes);
  Node OneOf(const ByteSet& bytes);
  // The UTF-8 of one code point of these; surrogates are left out.
  Node CodePoints(const std::vector<CodePointRange>& ranges);
  Node Fsa(ByteFsa fsa);
  Node Sequence(std::vector<Node> nodes);
  Node Choice(std::vector<Node> nodes);
  Node Repeat(Node node, int64_t min, int64_t max);
  Node Optional(Node node) { return Repeat(node, 0, 1); }

  // Rules may refer to themselves and to each other.
  Rule NewRule(std::string name);
  void Define(Rule rule, Node node);
  Node Use(Rule rule);
  void SetStart(Node node) { start_ = node; }

  // Rules that match no text, ascending: what they need recurs without end, is not defined or has
  // no bytes. O(size of the grammar).
  std::vector<Rule> RulesWithoutEnd() const;

  const std::vector<NodeData>& nodes() const { return nodes_; }
  const std::vector<RuleData>& rules() const { return rules_; }
  Node start() const { return start_; }

 private:
  Node Add(NodeData data);

  std::vector<NodeData> nodes_;
  std::vector<RuleData> rules_;
  Node start_ = -1;
};

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_GRAMMAR_H_
