// Arrays and objects of a JSON schema.
#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "engine/constraint/schema_compiler.h"
#include "kernels/base/status.h"

namespace based {

SchemaCompiler::Result SchemaCompiler::Array(const SchemaShape& shape) {
  BASED_ASSIGN_OR_RETURN(const std::optional<Elements> elements, ElementsOf(shape));
  if (!elements) return std::nullopt;
  if (elements->max == 0) return grammar_.Bytes("[]");
  return parts_.Bracketed('[', ArrayContent(*elements), ']', elements->min == 0);
}

absl::StatusOr<std::optional<SchemaCompiler::Elements>> SchemaCompiler::ElementsOf(
    const SchemaShape& shape) {
  std::vector<ElementSchemas> schemas;
  size_t most_first = 0;
  for (const SchemaItem& source : shape.sources) {
    BASED_ASSIGN_OR_RETURN(ElementSchemas one, based::ElementsOf(source));
    most_first = std::max(most_first, one.first.size());
    schemas.push_back(std::move(one));
  }
  Elements elements = {{}, std::nullopt, shape.min_items, shape.max_items};
  const auto limit = [&elements](size_t count) {
    const auto most = static_cast<int64_t>(count);
    if (elements.max == Grammar::kUnbounded || elements.max > most) elements.max = most;
  };
  for (size_t i = 0; i <= most_first; ++i) {
    if (elements.max != Grammar::kUnbounded && static_cast<int64_t>(i) >= elements.max) break;
    Items items;
    for (const ElementSchemas& one : schemas) {
      if (i < one.first.size()) {
        items.push_back(one.first[i]);
      } else if (one.others) {
        items.push_back(*one.others);
      }
    }
    BASED_ASSIGN_OR_RETURN(const std::optional<Node> node, Compile(items));
    if (!node) {
      limit(i);
    } else if (i < most_first) {
      elements.first.push_back(*node);
    } else {
      elements.rest = node;
    }
  }
  if (elements.max != Grammar::kUnbounded && elements.min > elements.max) {
    why_ = absl::StrCat(shape.sources[0].place, ": at least ", elements.min,
                        " elements are required and at most ", elements.max, " can be");
    return std::nullopt;
  }
  return elements;
}

SchemaCompiler::Node SchemaCompiler::ArrayContent(const Elements& elements) {
  const auto count = static_cast<int64_t>(elements.first.size());
  const int64_t min = std::max<int64_t>(elements.min, 1);
  const auto behind_comma = [this](Node node) { return grammar_.Sequence({parts_.Comma(), node}); };
  // From the end: what follows the first `i` elements.
  Node tail = grammar_.Bytes("");
  if (elements.rest && (elements.max == Grammar::kUnbounded || elements.max > count)) {
    const int64_t written = std::max<int64_t>(count, 1);
    const int64_t max = elements.max == Grammar::kUnbounded ? elements.max : elements.max - written;
    tail = grammar_.Repeat(behind_comma(*elements.rest), std::max<int64_t>(min - written, 0), max);
  }
  for (int64_t i = count - 1; i >= 1; --i) {
    const Node more = grammar_.Sequence({behind_comma(elements.first[i]), tail});
    tail = i < min ? more : grammar_.Optional(more);
  }
  return grammar_.Sequence({count > 0 ? elements.first[0] : *elements.rest, tail});
}

SchemaCompiler::Result SchemaCompiler::Object(const SchemaShape& shape) {
  BASED_ASSIGN_OR_RETURN(const std::vector<std::string> names, MemberNames(shape));
  const absl::flat_hash_set<std::string> required(shape.required.begin(), shape.required.end());
  std::vector<Member> members;
  bool maybe_empty = true;
  for (const std::string& name : names) {
    const bool needed = required.contains(name);
    BASED_ASSIGN_OR_RETURN(const std::optional<Node> node, MemberNode(shape, name));
    if (!node && needed) {
      return Never(absl::StrCat(shape.sources[0].place, ": the required member '", name,
                                "' has no value; ", why_));
    }
    if (node) members.push_back({*node, needed});
    maybe_empty = maybe_empty && !needed;
  }
  BASED_ASSIGN_OR_RETURN(const std::optional<Node> other, OtherMember(shape, names));
  if (members.empty() && !other) return grammar_.Bytes("{}");
  return parts_.Bracketed('{', ObjectContent(members, other), '}', maybe_empty);
}

absl::StatusOr<std::vector<std::string>> SchemaCompiler::MemberNames(const SchemaShape& shape) {
  std::vector<std::string> names;
  absl::flat_hash_set<std::string> known;
  for (const SchemaItem& source : shape.sources) {
    const SchemaJson* const properties = FindKeyword(source, "properties");
    if (properties == nullptr) continue;
    if (!properties->is_object()) {
      return SchemaError(PlaceOf(source.place, "properties"), "is not an object");
    }
    for (const auto& [name, schema] : properties->items()) {
      if (known.insert(name).second) names.push_back(name);
    }
  }
  for (const std::string& name : shape.required) {
    if (known.insert(name).second) names.push_back(name);
  }
  return names;
}

SchemaCompiler::Result SchemaCompiler::MemberNode(const SchemaShape& shape,
                                                  const std::string& name) {
  Items items;
  for (const SchemaItem& source : shape.sources) {
    BASED_ASSIGN_OR_RETURN(const std::optional<SchemaItem> schema, MemberSchema(source, name));
    if (schema) items.push_back(*schema);
    const std::optional<SchemaItem> rules = SubschemaKeyword(source, "propertyNames");
    if (!rules) continue;
    BASED_ASSIGN_OR_RETURN(const bool allowed, values_.Allows(*rules, name));
    if (!allowed) {
      return Never(absl::StrCat(rules->place, ": does not allow the name '", name, "'"));
    }
  }
  BASED_ASSIGN_OR_RETURN(const std::optional<Node> value, Compile(items));
  if (!value) return std::nullopt;
  BASED_ASSIGN_OR_RETURN(const Node written, parts_.Literal(name));
  return grammar_.Sequence({written, parts_.Colon(), *value});
}

SchemaCompiler::Result SchemaCompiler::OtherMember(const SchemaShape& shape,
                                                   const std::vector<std::string>& names) {
  Items items;
  for (const SchemaItem& source : shape.sources) {
    const std::optional<SchemaItem> schema = SubschemaKeyword(source, "additionalProperties");
    if (schema) items.push_back(*schema);
  }
  BASED_ASSIGN_OR_RETURN(const std::optional<Node> value, Compile(items));
  if (!value) return std::nullopt;
  BASED_ASSIGN_OR_RETURN(std::optional<CharDfa> rules, NameRules(shape));
  if (!names.empty()) {
    BASED_ASSIGN_OR_RETURN(const CharDfa known, LiteralsDfa(names, budget_));
    BASED_ASSIGN_OR_RETURN(CharDfa unknown, Complement(known, budget_));
    if (rules) {
      BASED_ASSIGN_OR_RETURN(unknown, Intersect(*rules, unknown, budget_));
    }
    rules = std::move(unknown);
  }
  if (rules && rules->empty()) return std::nullopt;
  absl::StatusOr<Node> name =
      rules ? parts_.String(*rules, true) : parts_.String(0, Grammar::kUnbounded);
  if (!name.ok()) return name.status();
  return grammar_.Sequence({*name, parts_.Colon(), *value});
}

absl::StatusOr<std::optional<CharDfa>> SchemaCompiler::NameRules(const SchemaShape& shape) {
  Items items;
  for (const SchemaItem& source : shape.sources) {
    const std::optional<SchemaItem> schema = SubschemaKeyword(source, "propertyNames");
    if (schema) items.push_back(*schema);
  }
  if (items.empty()) return std::nullopt;
  BASED_ASSIGN_OR_RETURN(const SchemaShape names, ShapeOf(items, document_));
  if (names.never || (names.types & kStringType) == 0) return LiteralsDfa({}, budget_);
  if (names.alternatives || names.lists_values) {
    return SchemaError(items[0].place,
                       "enum, const, anyOf and oneOf are not supported in propertyNames");
  }
  BASED_ASSIGN_OR_RETURN(std::optional<CharDfa> dfa, PatternDfa(names));
  if (dfa) return dfa;
  return LengthDfa(names.min_length, names.max_length, budget_);
}

SchemaCompiler::Node SchemaCompiler::ObjectContent(const std::vector<Member>& members,
                                                   std::optional<Node> other) {
  const auto behind_comma = [this](Node node) { return grammar_.Sequence({parts_.Comma(), node}); };
  // From the end: what follows when something (written) or nothing (first) stands before. Both are
  // few nodes for each member, however many may be left out.
  Node written = grammar_.Bytes("");
  std::optional<Node> first;  // of texts that are not empty
  if (other) {
    written = grammar_.Repeat(behind_comma(*other), 0, Grammar::kUnbounded);
    first = grammar_.Sequence({*other, written});
  }
  for (auto member = members.rbegin(); member != members.rend(); ++member) {
    const Node with = grammar_.Sequence({member->node, written});
    first = member->required || !first ? with : grammar_.Choice({with, *first});
    const Node next = behind_comma(member->node);
    written = grammar_.Sequence({member->required ? next : grammar_.Optional(next), written});
  }
  return *first;
}

}  // namespace based
