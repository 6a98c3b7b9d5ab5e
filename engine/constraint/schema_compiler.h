// From conjunctions of subschemas to grammar nodes: the inside of json_schema.h.
#ifndef BASED_ENGINE_CONSTRAINT_SCHEMA_COMPILER_H_
#define BASED_ENGINE_CONSTRAINT_SCHEMA_COMPILER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "engine/constraint/char_dfa.h"
#include "engine/constraint/grammar.h"
#include "engine/constraint/json_parts.h"
#include "engine/constraint/schema_document.h"
#include "engine/constraint/schema_shape.h"
#include "engine/constraint/schema_values.h"

namespace based {

class SchemaCompiler {
 public:
  SchemaCompiler(SchemaDocument& document, DfaBudget& budget)
      : document_(document),
        budget_(budget),
        strings_(document.limits(), budget),
        values_(document, strings_),
        parts_(grammar_, budget) {}

  absl::StatusOr<Grammar> Run();

 private:
  using Node = Grammar::Node;
  using Items = std::vector<SchemaItem>;
  // nullopt: no value matches; why_ says why.
  using Result = absl::StatusOr<std::optional<Node>>;

  struct Known {
    bool open = true;  // being compiled
    std::optional<Node> node;
    Grammar::Rule rule = -1;  // where the schema refers to itself
  };
  struct Member {
    Node node;  // name and value
    bool required;
  };
  // Elements of an array: the first ones, then any number of `rest`.
  struct Elements {
    std::vector<Node> first;
    std::optional<Node> rest;
    int64_t min;
    int64_t max;
  };

  // Values that all of `items` allow.
  Result Compile(const Items& items);
  Result Build(const Items& items);
  Result Values(const Items& items, const SchemaShape& shape);
  Result Alternatives(const SchemaShape& shape);
  absl::Status CheckExclusive(const Items& common, const Items& alternatives);
  Result Types(const SchemaShape& shape);

  Result Number(const SchemaShape& shape);
  Result String(const SchemaShape& shape);
  // nullopt: any string of the shape's lengths.
  absl::StatusOr<std::optional<CharDfa>> PatternDfa(const SchemaShape& shape);

  Result Array(const SchemaShape& shape);
  absl::StatusOr<std::optional<Elements>> ElementsOf(const SchemaShape& shape);
  Node ArrayContent(const Elements& elements);

  Result Object(const SchemaShape& shape);
  absl::StatusOr<std::vector<std::string>> MemberNames(const SchemaShape& shape);
  // The node of a member's name and value.
  Result MemberNode(const SchemaShape& shape, const std::string& name);
  Result OtherMember(const SchemaShape& shape, const std::vector<std::string>& names);
  absl::StatusOr<std::optional<CharDfa>> NameRules(const SchemaShape& shape);
  Node ObjectContent(const std::vector<Member>& members, std::optional<Node> other);

  Result Never(std::string why) {
    why_ = std::move(why);
    return std::nullopt;
  }

  SchemaDocument& document_;
  DfaBudget& budget_;
  Grammar grammar_;
  StringRules strings_;
  SchemaValues values_;
  JsonParts parts_;
  absl::flat_hash_map<std::vector<std::pair<const SchemaJson*, int>>, Known> known_;
  absl::flat_hash_map<std::string, std::optional<Node>> string_nodes_;  // by their rules
  int depth_ = 0;
  std::string why_;
};

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_SCHEMA_COMPILER_H_
