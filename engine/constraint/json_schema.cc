#include "engine/constraint/json_schema.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/constraint/schema_compiler.h"
#include "kernels/base/status.h"

namespace based {
namespace {

constexpr int kMostNesting = 200;  // of subschemas within each other; compiling recurses

}  // namespace

absl::StatusOr<Grammar> SchemaCompiler::Run() {
  BASED_ASSIGN_OR_RETURN(const std::optional<Node> node, Compile({document_.root()}));
  if (!node) return SchemaError("#", absl::StrCat("no value is allowed; ", why_));
  const Grammar::Rule start = grammar_.NewRule("#");
  grammar_.Define(start, *node);
  grammar_.SetStart(grammar_.Use(start));
  const std::vector<Grammar::Rule> endless = grammar_.RulesWithoutEnd();
  if (std::find(endless.begin(), endless.end(), start) != endless.end()) {
    return SchemaError(grammar_.rules()[endless[0]].name, "every value it allows is without end");
  }
  return std::move(grammar_);
}

SchemaCompiler::Result SchemaCompiler::Compile(const Items& items) {
  if (items.empty()) {
    BASED_ASSIGN_OR_RETURN(const Node any, parts_.Any());
    return any;
  }
  std::vector<std::pair<const SchemaJson*, int>> key;
  for (const SchemaItem& item : items) key.emplace_back(item.json, item.done);
  std::sort(key.begin(), key.end());
  key.erase(std::unique(key.begin(), key.end()), key.end());
  key.emplace_back(nullptr, strings_.ignores_formats() ? 1 : 0);
  const auto [found, added] = known_.try_emplace(key);
  if (!added) {
    Known& known = found->second;
    if (!known.open) return known.node;
    if (known.rule < 0) known.rule = grammar_.NewRule(items[0].place);
    return grammar_.Use(known.rule);
  }
  if (static_cast<int64_t>(known_.size()) > document_.limits().max_schemas) {
    return SchemaError(items[0].place,
                       absl::StrCat("more than ", document_.limits().max_schemas,
                                    " combinations of subschemas would apply to a value"));
  }
  if (++depth_ > kMostNesting) {
    return SchemaError(items[0].place, absl::StrCat("more than ", kMostNesting,
                                                    " subschemas apply within each other"));
  }
  BASED_ASSIGN_OR_RETURN(std::optional<Node> node, Build(items));
  --depth_;
  Known& known = known_[key];
  known.open = false;
  if (known.rule >= 0) {
    grammar_.Define(known.rule, node ? *node : grammar_.Choice({}));
    if (node) node = grammar_.Use(known.rule);
  }
  known.node = node;
  return node;
}

SchemaCompiler::Result SchemaCompiler::Build(const Items& items) {
  BASED_RETURN_IF_ERROR(budget_.Spend(0));
  BASED_ASSIGN_OR_RETURN(const SchemaShape shape, ShapeOf(items, document_));
  if (shape.never) return Never(*shape.never);
  if (shape.lists_values) return Values(items, shape);
  if (shape.alternatives) return Alternatives(shape);
  if (std::none_of(shape.sources.begin(), shape.sources.end(), Constrains)) return Compile({});
  return Types(shape);
}

SchemaCompiler::Result SchemaCompiler::Values(const Items& items, const SchemaShape& shape) {
  std::vector<const SchemaJson*> candidates;
  std::string place;
  for (const SchemaItem& source : shape.sources) {
    const SchemaJson* const list = FindKeyword(source, "enum");
    const SchemaJson* const constant = FindKeyword(source, "const");
    if (list != nullptr && (!list->is_array() || list->empty())) {
      return SchemaError(PlaceOf(source.place, "enum"), "is not a list of one or more values");
    }
    if (!candidates.empty() || (list == nullptr && constant == nullptr)) continue;
    place = PlaceOf(source.place, constant != nullptr ? "const" : "enum");
    if (constant != nullptr) {
      candidates.push_back(constant);
    } else {
      for (const SchemaJson& value : *list) candidates.push_back(&value);
    }
  }
  std::vector<Node> nodes;
  for (const SchemaJson* const value : candidates) {
    bool allowed = true;
    for (size_t i = 0; i < items.size() && allowed; ++i) {
      BASED_ASSIGN_OR_RETURN(allowed, values_.Allows(items[i], *value));
    }
    if (!allowed) continue;
    BASED_ASSIGN_OR_RETURN(const Node node, parts_.Value(*value));
    nodes.push_back(node);
  }
  if (nodes.empty()) return Never(absl::StrCat(place, ": none of the values is allowed"));
  return grammar_.Choice(std::move(nodes));
}

SchemaCompiler::Result SchemaCompiler::Alternatives(const SchemaShape& shape) {
  const auto [index, keyword] = *shape.alternatives;
  Items items = shape.sources;
  items[index].done |= keyword;
  const SchemaItem& source = items[index];
  const char* const name = keyword == SchemaItem::kAnyOf ? "anyOf" : "oneOf";
  BASED_ASSIGN_OR_RETURN(Items alternatives, ListKeyword(source, name));
  if (alternatives.empty()) {
    return SchemaError(PlaceOf(source.place, name), "is not a list of one or more schemas");
  }
  for (SchemaItem& alternative : alternatives) {
    alternative.within = source.within;
    alternative.within.push_back(source.json);
  }
  std::vector<Node> nodes;
  for (const SchemaItem& alternative : alternatives) {
    Items all = items;
    all.push_back(alternative);
    BASED_ASSIGN_OR_RETURN(const std::optional<Node> node, Compile(all));
    if (node) nodes.push_back(*node);
  }
  if (keyword == SchemaItem::kOneOf) {
    BASED_RETURN_IF_ERROR(CheckExclusive(items, alternatives));
  }
  if (nodes.empty()) return std::nullopt;
  return grammar_.Choice(std::move(nodes));
}

absl::Status SchemaCompiler::CheckExclusive(const Items& common, const Items& alternatives) {
  // Texts of a format are only some of its values: two formats may meet outside of them.
  const bool ignored = strings_.ignores_formats();
  strings_.set_ignores_formats(true);
  for (size_t i = 0; i < alternatives.size(); ++i) {
    for (size_t j = i + 1; j < alternatives.size(); ++j) {
      Items both = common;
      both.push_back(alternatives[i]);
      both.push_back(alternatives[j]);
      BASED_ASSIGN_OR_RETURN(const std::optional<Node> node, Compile(both));
      if (!node) continue;
      return SchemaError(alternatives[i].place,
                         absl::StrCat("oneOf: a value may be allowed here and at ",
                                      alternatives[j].place, " (use anyOf)"));
    }
  }
  strings_.set_ignores_formats(ignored);
  return absl::OkStatus();
}

SchemaCompiler::Result SchemaCompiler::Types(const SchemaShape& shape) {
  std::vector<Node> nodes;
  const auto add = [&](uint8_t types, Result (SchemaCompiler::*make)(const SchemaShape&)) {
    if ((shape.types & types) == 0) return absl::OkStatus();
    const Result node = (this->*make)(shape);
    if (node.ok() && *node) nodes.push_back(**node);
    return node.status();
  };
  BASED_RETURN_IF_ERROR(add(kObjectType, &SchemaCompiler::Object));
  BASED_RETURN_IF_ERROR(add(kArrayType, &SchemaCompiler::Array));
  BASED_RETURN_IF_ERROR(add(kStringType, &SchemaCompiler::String));
  BASED_RETURN_IF_ERROR(add(kIntegerType | kFractionType, &SchemaCompiler::Number));
  if ((shape.types & kBooleanType) != 0) {
    nodes.push_back(grammar_.Choice({grammar_.Bytes("true"), grammar_.Bytes("false")}));
  }
  if ((shape.types & kNullType) != 0) nodes.push_back(grammar_.Bytes("null"));
  if (nodes.empty()) return std::nullopt;
  return grammar_.Choice(std::move(nodes));
}

SchemaCompiler::Result SchemaCompiler::Number(const SchemaShape& shape) {
  constexpr size_t kExactDigits = 15;
  NumberBounds bounds = shape.number;
  bounds.integer = (shape.types & kFractionType) == 0;
  absl::StatusOr<Node> node = parts_.Number(bounds);
  const std::string& place = shape.sources[0].place;
  if (!node.ok()) return SchemaError(place, std::string(node.status().message()));
  if (!grammar_.nodes()[*node].children.empty() || !grammar_.nodes()[*node].fsa.states.empty()) {
    return *node;
  }
  const auto exact = [](const std::optional<NumberBounds::Bound>& bound) {
    return !bound || bound->value.integer.size() <= kExactDigits;
  };
  // There may be numbers beyond the limits of digits, which matters where formats are ignored.
  const bool exactly_none = bounds.integer && exact(bounds.lower) && exact(bounds.upper);
  if (strings_.ignores_formats() && !exactly_none) return *node;
  return Never(absl::StrCat(place, ": no number is in its bounds"));
}

absl::StatusOr<std::optional<CharDfa>> SchemaCompiler::PatternDfa(const SchemaShape& shape) {
  std::optional<CharDfa> all;
  const auto narrow = [&](const CharDfa& dfa, const std::string& place) -> absl::Status {
    if (!all) {
      all = dfa;
      return absl::OkStatus();
    }
    absl::StatusOr<CharDfa> both = Intersect(*all, dfa, budget_);
    if (!both.ok()) return SchemaError(place, std::string(both.status().message()));
    all = *std::move(both);
    return absl::OkStatus();
  };
  for (const SchemaShape::Text& pattern : shape.patterns) {
    BASED_ASSIGN_OR_RETURN(const CharDfa* const dfa, strings_.Pattern(pattern.text, pattern.place));
    BASED_RETURN_IF_ERROR(narrow(*dfa, pattern.place));
  }
  for (const SchemaShape::Text& format : shape.formats) {
    BASED_ASSIGN_OR_RETURN(const CharDfa* const dfa, strings_.Format(format.text, format.place));
    BASED_RETURN_IF_ERROR(narrow(*dfa, format.place));
  }
  const bool any_length = shape.min_length == 0 && shape.max_length == Grammar::kUnbounded;
  if (!all || any_length) return all;
  BASED_ASSIGN_OR_RETURN(const CharDfa lengths,
                         LengthDfa(shape.min_length, shape.max_length, budget_));
  BASED_RETURN_IF_ERROR(narrow(lengths, shape.sources[0].place));
  return all;
}

SchemaCompiler::Result SchemaCompiler::String(const SchemaShape& shape) {
  // Many members of a schema have the same rules.
  SchemaJson rules = {shape.min_length, shape.max_length, strings_.ignores_formats()};
  for (const SchemaShape::Text& pattern : shape.patterns) rules.push_back(pattern.text);
  rules.push_back(nullptr);
  for (const SchemaShape::Text& format : shape.formats) rules.push_back(format.text);
  const auto [found, added] = string_nodes_.try_emplace(rules.dump());
  std::optional<Node>& node = found->second;
  const std::string& place = shape.sources[0].place;
  if (added) {
    BASED_ASSIGN_OR_RETURN(const std::optional<CharDfa> dfa, PatternDfa(shape));
    if (!dfa || !dfa->empty()) {
      const absl::StatusOr<Node> made = dfa ? parts_.String(*dfa, shape.formats.empty())
                                            : parts_.String(shape.min_length, shape.max_length);
      if (!made.ok()) return SchemaError(place, std::string(made.status().message()));
      node = *made;
    }
  }
  if (!node) return Never(absl::StrCat(place, ": no string matches all its rules"));
  return node;
}

absl::StatusOr<Grammar> JsonSchemaGrammar(std::string_view schema_text,
                                          const JsonSchemaLimits& limits) {
  BASED_ASSIGN_OR_RETURN(SchemaDocument document, SchemaDocument::Parse(schema_text, limits));
  DfaBudget budget(limits.regex.max_states, limits.regex.max_time);
  absl::StatusOr<Grammar> grammar = SchemaCompiler(document, budget).Run();
  const absl::string_view message = grammar.status().message();
  if (!grammar.ok() && message.substr(0, 6) != "schema") {
    return SchemaError("#", std::string(message));
  }
  return grammar;
}

}  // namespace based
