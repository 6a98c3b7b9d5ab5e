// The text of a JSON schema, read and checked as far as single keywords go: the inside of
// json_schema.h.
#ifndef BASED_ENGINE_CONSTRAINT_SCHEMA_DOCUMENT_H_
#define BASED_ENGINE_CONSTRAINT_SCHEMA_DOCUMENT_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/constraint/json_schema.h"

namespace based {

using SchemaJson = nlohmann::ordered_json;

// INVALID_ARGUMENT "schema at PLACE: REASON". Places are JSON pointers with a # in front.
absl::Status SchemaError(const std::string& place, const std::string& reason);
// The place of a member.
std::string PlaceOf(const std::string& place, std::string_view key);
std::string PlaceOf(const std::string& place, size_t index);

// A subschema of the document.
struct SchemaItem {
  enum Done : uint8_t { kReferences = 1, kAnyOf = 2, kOneOf = 4 };

  const SchemaJson* json = nullptr;
  std::string place;
  uint8_t done = 0;  // keywords that others in the same conjunction stand for
  // Subschemas for the same value that led here, by $ref, allOf, anyOf or oneOf.
  std::vector<const SchemaJson*> within;
};

class SchemaDocument {
 public:
  // INVALID_ARGUMENT when the text is too long, not JSON, nests too deep, names a member twice or
  // gives an object too many members.
  static absl::StatusOr<SchemaDocument> Parse(std::string_view text,
                                              const JsonSchemaLimits& limits);

  SchemaItem root() const { return {&json_, "#", 0, {}}; }

  // What `item`'s $ref points to. INVALID_ARGUMENT unless it is a pointer into this document.
  absl::StatusOr<SchemaItem> Resolve(const SchemaItem& item) const;

  // INVALID_ARGUMENT when `item` is neither boolean nor an object of known keywords.
  absl::Status CheckKeywords(const SchemaItem& item);

  const JsonSchemaLimits& limits() const { return limits_; }

 private:
  SchemaDocument(SchemaJson json, const JsonSchemaLimits& limits)
      : json_(std::move(json)), limits_(limits) {}

  SchemaJson json_;
  JsonSchemaLimits limits_;
  absl::flat_hash_set<const SchemaJson*> checked_;
};

// The member `key` of a schema that is an object; null when absent.
const SchemaJson* FindKeyword(const SchemaItem& item, const std::string& key);

// Whether the schema says anything of a value itself, apart from $ref, allOf, anyOf and oneOf.
bool Constrains(const SchemaItem& item);

// Keywords of a type of their own; nullopt when absent. INVALID_ARGUMENT when they have another.
absl::StatusOr<std::optional<int64_t>> CountKeyword(const SchemaItem& item, const char* key,
                                                    int64_t limit);
absl::StatusOr<std::optional<std::string>> StringKeyword(const SchemaItem& item, const char* key);
// Subschemas in an array (anyOf, ...) or the one of a keyword that holds one.
absl::StatusOr<std::vector<SchemaItem>> ListKeyword(const SchemaItem& item, const char* key);
std::optional<SchemaItem> SubschemaKeyword(const SchemaItem& item, const std::string& key);
// Names of `required`.
absl::StatusOr<std::vector<std::string>> RequiredOf(const SchemaItem& item);
// The subschema that `item` has for a member `name`: of properties, or additionalProperties.
absl::StatusOr<std::optional<SchemaItem>> MemberSchema(const SchemaItem& item,
                                                       const std::string& name);
// Subschemas of the first elements, and that of all others.
struct ElementSchemas {
  std::vector<SchemaItem> first;
  std::optional<SchemaItem> others;
};
absl::StatusOr<ElementSchemas> ElementsOf(const SchemaItem& item);

// Types of JSON values as bits; a number that is none is kInteger and kFraction.
enum SchemaType : uint8_t {
  kNullType = 1,
  kBooleanType = 2,
  kIntegerType = 4,
  kFractionType = 8,
  kStringType = 16,
  kArrayType = 32,
  kObjectType = 64,
  kAllTypes = 127
};
absl::StatusOr<uint8_t> TypesOf(const SchemaItem& item);

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_SCHEMA_DOCUMENT_H_
