// A second opinion on grammars: random ones, and what they match by exhaustive derivation.
#ifndef BASED_TESTS_ENGINE_CONSTRAINT_NAIVE_GRAMMAR_H_
#define BASED_TESTS_ENGINE_CONSTRAINT_NAIVE_GRAMMAR_H_

#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "engine/constraint/grammar.h"

namespace based {

// The least table of (node, begin, end) that all nodes' equations hold for, for one text of at most
// 31 bytes. Takes any recursion.
class NaiveTable {
 public:
  NaiveTable(const Grammar& grammar, std::string_view text)
      : grammar_(grammar),
        text_(text),
        ends_(grammar.nodes().size(), std::vector<Ends>(text.size() + 1, 0)) {
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t n = 0; n < ends_.size(); ++n) {
        for (size_t begin = 0; begin <= text.size(); ++begin) {
          const Ends ends = Compute(grammar.nodes()[n], begin);
          changed |= ends != ends_[n][begin];
          ends_[n][begin] = ends;
        }
      }
    }
  }

  bool MatchesAll() const { return ends_[grammar_.start()][0] >> text_.size() & 1; }

 private:
  using Ends = uint32_t;  // bit e: from the begin in question to e

  Ends After(Grammar::Node node, Ends begins) const {
    Ends ends = 0;
    for (size_t b = 0; b <= text_.size(); ++b) {
      if (begins >> b & 1) ends |= ends_[node][b];
    }
    return ends;
  }

  bool Has(const ByteSet& bytes, size_t at) const {
    return at < text_.size() && bytes[static_cast<uint8_t>(text_[at])];
  }

  Ends OfFsa(const ByteFsa& fsa, size_t begin) const {
    Ends ends = 0;
    std::vector<bool> in(fsa.states.size(), false);
    if (!in.empty()) in[0] = true;
    for (size_t at = begin; at <= text_.size(); ++at) {
      std::vector<bool> next(in.size(), false);
      for (size_t s = 0; s < in.size(); ++s) {
        if (!in[s]) continue;
        if (fsa.states[s].accepting) ends |= Ends{1} << at;
        for (const ByteFsa::Edge& edge : fsa.states[s].edges) {
          if (Has(edge.bytes, at)) next[edge.target] = true;
        }
      }
      in = next;
    }
    return ends;
  }

  Ends OfRepeat(const Grammar::NodeData& data, Ends ends) const {
    for (int64_t i = 0; i < data.min; ++i) ends = After(data.children[0], ends);
    for (int64_t i = data.min; data.max == Grammar::kUnbounded || i < data.max; ++i) {
      const Ends more = ends | After(data.children[0], ends);
      if (more == ends) break;
      ends = more;
    }
    return ends;
  }

  Ends Compute(const Grammar::NodeData& data, size_t begin) const {
    const Ends here = Ends{1} << begin;
    switch (data.kind) {
      case Grammar::Kind::kBytes:
        return text_.substr(begin, data.bytes.size()) == data.bytes ? here << data.bytes.size() : 0;
      case Grammar::Kind::kByteSet:
        return Has(data.set, begin) ? here << 1 : 0;
      case Grammar::Kind::kFsa:
        return OfFsa(data.fsa, begin);
      case Grammar::Kind::kSequence: {
        Ends ends = here;
        for (const Grammar::Node child : data.children) ends = After(child, ends);
        return ends;
      }
      case Grammar::Kind::kChoice: {
        Ends ends = 0;
        for (const Grammar::Node child : data.children) ends |= ends_[child][begin];
        return ends;
      }
      case Grammar::Kind::kRepeat:
        return OfRepeat(data, here);
      case Grammar::Kind::kRule: {
        const Grammar::Node node = grammar_.rules()[data.rule].node;
        return node < 0 ? 0 : ends_[node][begin];
      }
    }
    return 0;
  }

  const Grammar& grammar_;
  const std::string_view text_;
  std::vector<std::vector<Ends>> ends_;
};

inline bool NaivelyMatches(const Grammar& grammar, std::string_view text) {
  return NaiveTable(grammar, text).MatchesAll();
}

// A small grammar over the bytes a, b and c, with rules that recurse in any way.
class RandomGrammar {
 public:
  explicit RandomGrammar(uint32_t seed) : random_(seed) {}

  Grammar Make() {
    Grammar grammar;
    const int rules = 1 + Below(4);
    for (int r = 0; r < rules; ++r) grammar.NewRule("r" + std::to_string(r));
    for (int r = 0; r < rules; ++r) {
      std::vector<Grammar::Node> alternatives;
      for (int i = 1 + Below(3); i > 0; --i) alternatives.push_back(Part(grammar, 3));
      // Most rules get a way out.
      if (Below(4) > 0) alternatives.push_back(Leaf(grammar));
      grammar.Define(r, grammar.Choice(alternatives));
    }
    grammar.SetStart(grammar.Use(0));
    return grammar;
  }

 private:
  int Below(int n) { return std::uniform_int_distribution<int>(0, n - 1)(random_); }

  ByteSet Bytes() {
    ByteSet set;
    for (int i = 1 + Below(2); i > 0; --i) set.set(static_cast<size_t>('a' + Below(3)));
    return set;
  }

  Grammar::Node Leaf(Grammar& grammar) {
    switch (Below(4)) {
      case 0:
        return grammar.OneOf(Bytes());
      case 1:
        return Fsa(grammar);
      default: {
        std::string text;
        for (int i = Below(4); i > 0; --i) text.push_back(static_cast<char>('a' + Below(3)));
        return grammar.Bytes(text);
      }
    }
  }

  Grammar::Node Fsa(Grammar& grammar) {
    ByteFsa fsa;
    const int states = 1 + Below(3);
    fsa.states.resize(static_cast<size_t>(states));
    for (ByteFsa::State& state : fsa.states) {
      state.accepting = Below(2) == 0;
      for (int i = Below(3); i > 0; --i) state.edges.push_back({Bytes(), Below(states)});
    }
    return grammar.Fsa(fsa);
  }

  Grammar::Node Part(Grammar& grammar, int depth) {
    const int kind = depth == 0 ? Below(2) : Below(6);
    switch (kind) {
      case 0:
        return Leaf(grammar);
      case 1:
        return grammar.Use(Below(static_cast<int>(grammar.rules().size())));
      case 2: {
        const int min = Below(3);
        const int64_t max = Below(2) == 0 ? Grammar::kUnbounded : min + Below(3);
        return grammar.Repeat(Part(grammar, depth - 1), min, max);
      }
      case 3: {
        std::vector<Grammar::Node> parts;
        for (int i = Below(3); i > 0; --i) parts.push_back(Part(grammar, depth - 1));
        return grammar.Choice(parts);
      }
      default: {
        std::vector<Grammar::Node> parts;
        for (int i = 1 + Below(3); i > 0; --i) parts.push_back(Part(grammar, depth - 1));
        return grammar.Sequence(parts);
      }
    }
  }

  std::mt19937 random_;
};

}  // namespace based

#endif  // BASED_TESTS_ENGINE_CONSTRAINT_NAIVE_GRAMMAR_H_
