// All subschemas that apply to one value, put together: the inside of json_schema.h.
#ifndef BASED_ENGINE_CONSTRAINT_SCHEMA_SHAPE_H_
#define BASED_ENGINE_CONSTRAINT_SCHEMA_SHAPE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/constraint/grammar.h"
#include "engine/constraint/number_dfa.h"
#include "engine/constraint/schema_document.h"

namespace based {

struct SchemaShape {
  struct Text {
    std::string text;
    std::string place;
  };
  // Alternatives that one of the sources lists.
  struct Alternatives {
    size_t source;
    SchemaItem::Done keyword;
  };

  // Subschemas that are objects, each once; $ref and allOf are followed: done has kReferences.
  std::vector<SchemaItem> sources;
  std::optional<std::string> never;  // why no value is allowed, as far as is known
  uint8_t types = kAllTypes;
  bool lists_values = false;  // enum or const
  NumberBounds number;
  int64_t min_length = 0;
  int64_t max_length = Grammar::kUnbounded;
  std::vector<Text> patterns;
  std::vector<Text> formats;
  int64_t min_items = 0;
  int64_t max_items = Grammar::kUnbounded;
  std::vector<std::string> required;
  std::optional<Alternatives> alternatives;  // the first that are not done
};

// Puts `items` together. INVALID_ARGUMENT for keywords that are not supported or wrong, and for
// references that lead back to where they come from.
absl::StatusOr<SchemaShape> ShapeOf(const std::vector<SchemaItem>& items, SchemaDocument& document);

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_SCHEMA_SHAPE_H_
