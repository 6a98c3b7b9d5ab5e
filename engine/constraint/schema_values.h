// Whether a schema allows a value that stands in it (enum, const): the inside of json_schema.h.
#ifndef BASED_ENGINE_CONSTRAINT_SCHEMA_VALUES_H_
#define BASED_ENGINE_CONSTRAINT_SCHEMA_VALUES_H_

#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "engine/constraint/char_dfa.h"
#include "engine/constraint/schema_document.h"

namespace based {

// The automata of patterns and formats, each made once.
class StringRules {
 public:
  StringRules(const JsonSchemaLimits& limits, DfaBudget& budget)
      : limits_(limits), budget_(budget) {}

  // Strings in which `pattern` occurs. INVALID_ARGUMENT names `place`.
  absl::StatusOr<const CharDfa*> Pattern(const std::string& pattern, const std::string& place);
  // Strings of a format; any string while formats are ignored.
  absl::StatusOr<const CharDfa*> Format(const std::string& format, const std::string& place);

  bool ignores_formats() const { return ignores_formats_; }
  void set_ignores_formats(bool ignores) { ignores_formats_ = ignores; }

 private:
  const JsonSchemaLimits& limits_;
  bool ignores_formats_ = false;
  DfaBudget& budget_;
  absl::flat_hash_map<std::string, std::unique_ptr<const CharDfa>> patterns_;
  absl::flat_hash_map<std::string, std::unique_ptr<const CharDfa>> formats_;
};

class SchemaValues {
 public:
  SchemaValues(SchemaDocument& document, StringRules& strings)
      : document_(document), strings_(strings) {}

  // INVALID_ARGUMENT for what the compiler would refuse too.
  absl::StatusOr<bool> Allows(const SchemaItem& schema, const SchemaJson& value);

 private:
  absl::StatusOr<bool> AllowsHere(const SchemaItem& schema, const SchemaJson& value);
  absl::StatusOr<bool> AllowsApplied(const SchemaItem& schema, const SchemaJson& value);
  absl::StatusOr<bool> AllowsString(const SchemaItem& schema, const std::string& text);
  absl::StatusOr<bool> AllowsNumber(const SchemaItem& schema, const SchemaJson& value);
  absl::StatusOr<bool> AllowsArray(const SchemaItem& schema, const SchemaJson& value);
  absl::StatusOr<bool> AllowsObject(const SchemaItem& schema, const SchemaJson& value);

  SchemaDocument& document_;
  StringRules& strings_;
  int depth_ = 0;
};

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_SCHEMA_VALUES_H_
