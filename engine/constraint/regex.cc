#include "engine/constraint/regex.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/constraint/dfa_bytes.h"
#include "engine/constraint/regex_parser.h"
#include "kernels/base/status.h"

namespace based {
namespace {

using Kind = RegexTree::Kind;
using When = CharNfa::When;

// Thompson's construction.
class Construction {
 public:
  Construction(const RegexTree& tree, DfaBudget& budget) : tree_(tree), budget_(budget) {
    for (const RegexTree::Node& node : tree.nodes) {
      set_of_.push_back(node.kind == Kind::kSet ? nfa_.AddSet(node.set) : -1);
    }
  }

  absl::StatusOr<CharNfa> Run(RegexMatch match) {
    nfa_.start = nfa_.AddState();
    int32_t at = nfa_.start;
    if (match == RegexMatch::kSearch) at = Anything(at);
    BASED_ASSIGN_OR_RETURN(nfa_.end, Add(tree_.root, at));
    if (match == RegexMatch::kSearch) nfa_.end = Anything(nfa_.end);
    return std::move(nfa_);
  }

 private:
  void Skip(int32_t from, int32_t to, When when = When::kAlways) {
    nfa_.states[from].skips.push_back({to, when});
  }

  int32_t Anything(int32_t from) {
    const int32_t loop = nfa_.AddState();
    Skip(from, loop);
    nfa_.states[loop].set = nfa_.AddSet(AllCodePoints());
    nfa_.states[loop].target = loop;
    const int32_t to = nfa_.AddState();
    Skip(loop, to);
    return to;
  }

  // Adds what `node` matches behind state `from`, of which nothing else is known to leave; returns
  // the state behind it. Recurses as deep as the expression nests.
  absl::StatusOr<int32_t> Add(int32_t node, int32_t from) {
    BASED_RETURN_IF_ERROR(budget_.Spend(1));
    const RegexTree::Node& data = tree_.nodes[node];
    switch (data.kind) {
      case Kind::kSet: {
        const int32_t reads = nfa_.AddState();
        Skip(from, reads);
        const int32_t to = nfa_.AddState();
        nfa_.states[reads].set = set_of_[node];
        nfa_.states[reads].target = to;
        return to;
      }
      case Kind::kStart:
      case Kind::kEnd: {
        const int32_t to = nfa_.AddState();
        Skip(from, to, data.kind == Kind::kStart ? When::kAtStart : When::kAtEnd);
        return to;
      }
      case Kind::kSequence: {
        int32_t at = from;
        for (const int32_t child : data.children) {
          BASED_ASSIGN_OR_RETURN(at, Add(child, at));
        }
        return at;
      }
      case Kind::kChoice: {
        const int32_t to = nfa_.AddState();
        for (const int32_t child : data.children) {
          BASED_ASSIGN_OR_RETURN(const int32_t end, Add(child, from));
          Skip(end, to);
        }
        return to;
      }
      case Kind::kRepeat:
        return Repeat(data, from);
    }
    return from;
  }

  absl::StatusOr<int32_t> Repeat(const RegexTree::Node& data, int32_t from) {
    const int32_t child = data.children[0];
    int32_t at = from;
    for (int64_t i = 0; i < data.min; ++i) {
      BASED_ASSIGN_OR_RETURN(at, Add(child, at));
    }
    const int32_t to = nfa_.AddState();
    Skip(at, to);
    if (data.max == Grammar::kUnbounded) {
      BASED_ASSIGN_OR_RETURN(const int32_t again, Add(child, to));
      Skip(again, to);
      return to;
    }
    for (int64_t i = data.min; i < data.max; ++i) {
      BASED_ASSIGN_OR_RETURN(at, Add(child, at));
      Skip(at, to);
    }
    return to;
  }

  const RegexTree& tree_;
  DfaBudget& budget_;
  CharNfa nfa_;
  std::vector<int32_t> set_of_;  // of a node
};

}  // namespace

absl::StatusOr<CharDfa> RegexDfa(std::string_view pattern, RegexMatch match,
                                 const RegexLimits& limits, DfaBudget& budget) {
  if (pattern.size() > limits.max_pattern_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("has ", pattern.size(), " bytes, the limit is ", limits.max_pattern_bytes));
  }
  BASED_ASSIGN_OR_RETURN(const RegexTree tree, ParseRegex(pattern, limits.max_repeat));
  BASED_ASSIGN_OR_RETURN(const CharNfa nfa, Construction(tree, budget).Run(match));
  return Determinize(nfa, budget);
}

absl::StatusOr<Grammar> RegexGrammar(std::string_view pattern, const RegexLimits& limits) {
  DfaBudget budget(limits.max_states, limits.max_time);
  absl::StatusOr<CharDfa> dfa = RegexDfa(pattern, RegexMatch::kWhole, limits, budget);
  if (!dfa.ok()) return absl::InvalidArgumentError(absl::StrCat("regex: ", dfa.status().message()));
  if (dfa->empty()) return absl::InvalidArgumentError("regex: no text matches it");
  absl::StatusOr<ByteFsa> fsa = RenderDfa(*dfa, DfaSpelling::kUtf8, budget);
  if (!fsa.ok()) return absl::InvalidArgumentError(absl::StrCat("regex: ", fsa.status().message()));
  Grammar grammar;
  grammar.SetStart(grammar.Fsa(*std::move(fsa)));
  return grammar;
}

}  // namespace based
