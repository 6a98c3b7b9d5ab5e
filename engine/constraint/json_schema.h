// Constraint "JSON schema": the text is a JSON value that a schema allows.
//
// A subset of JSON schema 2020-12 (and draft 7 where the two agree) is supported exactly; anything
// else is refused by name and place, so that a text is valid whenever it matches:
//   type, enum, const, nullable
//   properties, required, additionalProperties, propertyNames (on strings)
//   items, prefixItems (draft 7: items as a list, additionalItems), minItems, maxItems,
//   uniqueItems: false
//   minLength, maxLength, pattern (regex.h), format (json_formats.h)
//   minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf (number_dfa.h)
//   anyOf, allOf, oneOf (of alternatives that exclude each other), $ref (of a pointer, "#/..."),
//   $defs, definitions
// Without meaning for the text: title, description, default, example(s), $comment, $schema,
// deprecated, readOnly, writeOnly, and $id at the root.
//
// Of the texts of a value that the schema allows, those match that
// - have members in the order of properties, then required ones that properties lacks, then others,
// - are spaced as json_parts.h says and have numbers as number_dfa.h says,
// - escape printable ASCII in names, enum, const and formats only where JSON demands it.
#ifndef BASED_ENGINE_CONSTRAINT_JSON_SCHEMA_H_
#define BASED_ENGINE_CONSTRAINT_JSON_SCHEMA_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/constraint/grammar.h"
#include "engine/constraint/regex.h"

namespace based {

struct JsonSchemaLimits {
  size_t max_schema_bytes = size_t{64} << 10;
  int max_depth = 64;            // nesting of the schema's text
  size_t max_members = 1'000;    // of one object of the schema
  int64_t max_count = 20'000;    // minLength, maxLength, minItems, maxItems
  int64_t max_schemas = 10'000;  // subschemas and combinations of them that apply to one value
  RegexLimits regex;             // of patterns and numbers, all of them together
};

// INVALID_ARGUMENT "schema at #/...: ..." for what is not supported, for limits, and when no value
// is allowed (which place contradicts itself is said then).
absl::StatusOr<Grammar> JsonSchemaGrammar(std::string_view schema_text,
                                          const JsonSchemaLimits& limits);

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_JSON_SCHEMA_H_
