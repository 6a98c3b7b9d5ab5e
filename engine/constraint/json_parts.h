// JSON's building blocks as grammar nodes: one place for spaces, strings and numbers.
//
// Spaces: after { [ and , and before } and ] either nothing, one space, or a line end and up to 32
// spaces; after : nothing or one space; none elsewhere, and none in {} and [].
#ifndef BASED_ENGINE_CONSTRAINT_JSON_PARTS_H_
#define BASED_ENGINE_CONSTRAINT_JSON_PARTS_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "engine/constraint/char_dfa.h"
#include "engine/constraint/grammar.h"
#include "engine/constraint/number_dfa.h"

namespace based {

inline constexpr int kMostIndent = 32;  // spaces behind a line end

// Makes nodes of `grammar`, the common ones once. INVALID_ARGUMENT when `budget` is spent.
class JsonParts {
 public:
  using Json = nlohmann::ordered_json;
  using Node = Grammar::Node;

  JsonParts(Grammar& grammar, DfaBudget& budget) : grammar_(grammar), budget_(budget) {}

  Node Open(char bracket);   // with the spaces behind it
  Node Close(char bracket);  // with those before it
  Node Comma();
  Node Colon();

  // A string whose text is in `dfa`, with its quotes.
  absl::StatusOr<Node> String(const CharDfa& dfa, bool any_escape);
  // Any string of `min` to `max` code points; Grammar::kUnbounded: no limit.
  absl::StatusOr<Node> String(int64_t min, int64_t max);
  // This one; characters are escaped where they must be, and where they are not ASCII may be.
  absl::StatusOr<Node> Literal(std::string_view text);
  absl::StatusOr<Node> Number(const NumberBounds& bounds);
  // `value` itself, members in the order they have.
  absl::StatusOr<Node> Value(const Json& value);
  // Any JSON value.
  absl::StatusOr<Node> Any();
  // Any array; any object.
  absl::StatusOr<Node> AnyArray();
  absl::StatusOr<Node> AnyObject();

  // `first` (comma `more`)*; with at least `min` and at most `max` of `more`.
  Node List(Node first, Node more, int64_t min, int64_t max);
  // The brackets around `content`, or with nothing at all between them when `maybe_empty`.
  Node Bracketed(char open, Node content, char close, bool maybe_empty);

 private:
  Node Space();
  absl::StatusOr<Node> Character();

  Grammar& grammar_;
  DfaBudget& budget_;
  Node space_ = -1;
  Node character_ = -1;
  absl::flat_hash_map<std::string, Node> numbers_;  // by their bounds
  Node string_ = -1;
  Grammar::Rule any_ = -1;
};

// Any JSON value (RFC 8259), with the spaces above and numbers of bounded length (number_dfa.h).
absl::StatusOr<Grammar> JsonGrammar();

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_JSON_PARTS_H_
