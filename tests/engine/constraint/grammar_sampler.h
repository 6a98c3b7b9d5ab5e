// Random members of a grammar's language, by walking its nodes; always ends.
#ifndef BASED_TESTS_ENGINE_CONSTRAINT_GRAMMAR_SAMPLER_H_
#define BASED_TESTS_ENGINE_CONSTRAINT_GRAMMAR_SAMPLER_H_

#include <algorithm>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "engine/constraint/grammar.h"
#include "kernels/base/check.h"

namespace based {

class GrammarSampler {
 public:
  // `grammar` outlives it.
  GrammarSampler(const Grammar& grammar, uint32_t seed)
      : grammar_(grammar),
        random_(seed),
        shortest_(grammar.nodes().size(), kNever),
        distances_(grammar.nodes().size()) {
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t n = 0; n < shortest_.size(); ++n) {
        const int64_t length = Shortest(static_cast<Grammar::Node>(n));
        changed |= length < shortest_[n];
        shortest_[n] = std::min(shortest_[n], length);
      }
    }
  }

  bool empty() const { return shortest_[grammar_.start()] >= kNever; }

  // A member that aims at `length` bytes: no choice makes it longer than that where another does
  // not.
  std::string Sample(int64_t length) {
    BASED_CHECK(!empty());
    out_.clear();
    Write(grammar_.start(), length);
    return out_;
  }

 private:
  static constexpr int64_t kNever = int64_t{1} << 40;

  int64_t Below(int64_t n) { return std::uniform_int_distribution<int64_t>(0, n - 1)(random_); }

  int64_t Shortest(Grammar::Node node) {
    const Grammar::NodeData& data = grammar_.nodes()[node];
    int64_t length = 0;
    switch (data.kind) {
      case Grammar::Kind::kBytes:
        return static_cast<int64_t>(data.bytes.size());
      case Grammar::Kind::kByteSet:
        return data.set.any() ? 1 : kNever;
      case Grammar::Kind::kFsa:
        return Distances(node).empty() ? kNever : Distances(node)[0];
      case Grammar::Kind::kSequence:
        for (const Grammar::Node child : data.children) length += shortest_[child];
        return std::min(length, kNever);
      case Grammar::Kind::kChoice:
        length = kNever;
        for (const Grammar::Node child : data.children) length = std::min(length, shortest_[child]);
        return length;
      case Grammar::Kind::kRepeat:
        return data.min == 0 ? 0 : std::min(kNever, data.min * shortest_[data.children[0]]);
      case Grammar::Kind::kRule: {
        const Grammar::Node body = grammar_.rules()[data.rule].node;
        return body < 0 ? kNever : shortest_[body];
      }
    }
    return kNever;
  }

  // Bytes from each state of an automaton to its nearest end.
  const std::vector<int64_t>& Distances(Grammar::Node node) {
    std::vector<int64_t>& distances = distances_[node];
    const ByteFsa& fsa = grammar_.nodes()[node].fsa;
    if (!distances.empty() || fsa.states.empty()) return distances;
    std::vector<std::vector<int32_t>> predecessors(fsa.states.size());
    std::vector<int32_t> reached;
    distances.assign(fsa.states.size(), kNever);
    for (size_t s = 0; s < fsa.states.size(); ++s) {
      for (const ByteFsa::Edge& edge : fsa.states[s].edges) {
        if (edge.bytes.any()) predecessors[edge.target].push_back(static_cast<int32_t>(s));
      }
      if (!fsa.states[s].accepting) continue;
      distances[s] = 0;
      reached.push_back(static_cast<int32_t>(s));
    }
    for (size_t i = 0; i < reached.size(); ++i) {
      for (const int32_t from : predecessors[reached[i]]) {
        if (distances[from] < kNever) continue;
        distances[from] = distances[reached[i]] + 1;
        reached.push_back(from);
      }
    }
    return distances;
  }

  void WriteOneOf(const ByteSet& set) {
    std::vector<int> bytes;
    for (int byte = 0; byte < 256; ++byte) {
      if (set[static_cast<size_t>(byte)]) bytes.push_back(byte);
    }
    out_.push_back(static_cast<char>(bytes[static_cast<size_t>(Below(std::ssize(bytes)))]));
  }

  void WriteFsa(Grammar::Node node, int64_t length) {
    const ByteFsa& fsa = grammar_.nodes()[node].fsa;
    const std::vector<int64_t>& distances = Distances(node);
    int32_t state = 0;
    for (;;) {
      const bool ends = fsa.states[state].accepting;
      if (ends && (length <= 0 || Below(4) == 0)) return;
      std::vector<const ByteFsa::Edge*> edges;
      for (const ByteFsa::Edge& edge : fsa.states[state].edges) {
        const int64_t rest = distances[edge.target];
        if (edge.bytes.none() || rest >= kNever) continue;
        if (rest < length || rest < distances[state]) edges.push_back(&edge);
      }
      if (edges.empty()) {
        BASED_CHECK(ends);
        return;
      }
      const ByteFsa::Edge& edge = *edges[static_cast<size_t>(Below(std::ssize(edges)))];
      WriteOneOf(edge.bytes);
      --length;
      state = edge.target;
    }
  }

  void WriteRepeat(const Grammar::NodeData& data, int64_t length) {
    const int64_t each = std::max<int64_t>(shortest_[data.children[0]], 1);
    int64_t count = data.min;
    const int64_t spare = std::max<int64_t>(length / each - data.min, 0);
    int64_t most = data.max == Grammar::kUnbounded ? spare : std::min(spare, data.max - data.min);
    if (shortest_[data.children[0]] >= kNever) most = 0;
    if (most > 0) count += Below(std::min<int64_t>(most, 1 + Below(8)) + 1);
    for (int64_t i = 0; i < count; ++i) Write(data.children[0], length / count);
  }

  void Write(Grammar::Node node, int64_t length) {
    const Grammar::NodeData& data = grammar_.nodes()[node];
    switch (data.kind) {
      case Grammar::Kind::kBytes:
        out_ += data.bytes;
        return;
      case Grammar::Kind::kByteSet:
        WriteOneOf(data.set);
        return;
      case Grammar::Kind::kFsa:
        WriteFsa(node, length);
        return;
      case Grammar::Kind::kSequence: {
        int64_t spare = std::max<int64_t>(length - shortest_[node], 0);
        for (const Grammar::Node child : data.children) {
          const int64_t more = Below(spare + 1);
          Write(child, shortest_[child] + more);
          spare -= more / 2;
        }
        return;
      }
      case Grammar::Kind::kChoice: {
        std::vector<Grammar::Node> fitting;
        for (const Grammar::Node child : data.children) {
          if (shortest_[child] >= kNever) continue;
          if (shortest_[child] <= std::max(length, shortest_[node])) fitting.push_back(child);
        }
        Write(fitting[static_cast<size_t>(Below(std::ssize(fitting)))], length - 1);
        return;
      }
      case Grammar::Kind::kRepeat:
        WriteRepeat(data, length);
        return;
      case Grammar::Kind::kRule:
        Write(grammar_.rules()[data.rule].node, length - 1);
        return;
    }
  }

  const Grammar& grammar_;
  std::mt19937 random_;
  std::vector<int64_t> shortest_;  // bytes of the shortest member of each node
  std::vector<std::vector<int64_t>> distances_;
  std::string out_;
};

}  // namespace based

#endif  // BASED_TESTS_ENGINE_CONSTRAINT_GRAMMAR_SAMPLER_H_
