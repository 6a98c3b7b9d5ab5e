// Long repeats as repeats of blocks: X{1000} takes a thousand copies of X, and as 31 blocks of 32
// it takes some sixty. The states of a block are shared, and their masks with them.
#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/constraint/rule_machine.h"

namespace based {
namespace {

using Node = Grammar::Node;

// Up to this many copies are made as they are: blocks cost a second reading of what is repeated
// (within a block, or behind the last).
constexpr int64_t kMostCopies = 256;

class Splitter {
 public:
  explicit Splitter(const Grammar& grammar) : grammar_(grammar) {}

  Grammar Run() {
    for (const Grammar::RuleData& rule : grammar_.rules()) result_.NewRule(rule.name);
    for (const Grammar::NodeData& data : grammar_.nodes()) copies_.push_back(Copy(data));
    for (size_t r = 0; r < grammar_.rules().size(); ++r) {
      const Node node = grammar_.rules()[r].node;
      if (node >= 0) result_.Define(static_cast<Grammar::Rule>(r), copies_[node]);
    }
    if (grammar_.start() >= 0) result_.SetStart(copies_[grammar_.start()]);
    return std::move(result_);
  }

 private:
  Node Copy(const Grammar::NodeData& data) {
    std::vector<Node> children;
    for (const Node child : data.children) children.push_back(copies_[child]);
    switch (data.kind) {
      case Grammar::Kind::kBytes:
        return result_.Bytes(data.bytes);
      case Grammar::Kind::kByteSet:
        return result_.OneOf(data.set);
      case Grammar::Kind::kFsa:
        return result_.Fsa(data.fsa);
      case Grammar::Kind::kSequence:
        return result_.Sequence(std::move(children));
      case Grammar::Kind::kChoice:
        return result_.Choice(std::move(children));
      case Grammar::Kind::kRule:
        return result_.Use(data.rule);
      case Grammar::Kind::kRepeat:
        return CopyRepeat(children[0], data.min, data.max);
    }
    return -1;
  }

  Node CopyRepeat(Node child, int64_t min, int64_t max) {
    if (std::max(min, max) <= kMostCopies) return result_.Repeat(child, min, max);
    const auto size = static_cast<int64_t>(std::sqrt(static_cast<double>(std::max(min, max))));
    const Node block = result_.Repeat(child, size, size);
    const Node rest = max == Grammar::kUnbounded ? result_.Repeat(child, 0, Grammar::kUnbounded)
                                                 : AtMost(child, block, size, max - min);
    return result_.Sequence({Exactly(child, block, size, min), rest});
  }

  Node Exactly(Node child, Node block, int64_t size, int64_t count) {
    return result_.Sequence({result_.Repeat(child, count % size, count % size),
                             result_.Repeat(block, count / size, count / size)});
  }

  // Fewer than all blocks and less than one more, or all blocks and what is left.
  Node AtMost(Node child, Node block, int64_t size, int64_t count) {
    const int64_t blocks = count / size;
    const Node most = result_.Sequence(
        {result_.Repeat(block, blocks, blocks), result_.Repeat(child, 0, count % size)});
    if (blocks == 0) return most;
    return result_.Choice({result_.Sequence({result_.Repeat(block, 0, blocks - 1),
                                             result_.Repeat(child, 0, size - 1)}),
                           most});
  }

  const Grammar& grammar_;
  Grammar result_;
  std::vector<Node> copies_;
};

}  // namespace

Grammar SplitRepeats(const Grammar& grammar) { return Splitter(grammar).Run(); }

}  // namespace based
