#include "engine/constraint/schema_shape.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"

namespace based {
namespace {

using Bound = NumberBounds::Bound;

class Merge {
 public:
  explicit Merge(SchemaDocument& document)
      : document_(document), most_(document.limits().max_count) {}

  absl::StatusOr<SchemaShape> Run(const std::vector<SchemaItem>& items) {
    // Those whose alternatives are chosen come first: others may lead to them again.
    for (const bool done : {true, false}) {
      for (const SchemaItem& item : items) {
        if ((item.done != 0) == done) BASED_RETURN_IF_ERROR(Add(item));
      }
    }
    FindContradictions();
    return std::move(shape_);
  }

 private:
  absl::Status Add(const SchemaItem& item) {
    BASED_RETURN_IF_ERROR(document_.CheckKeywords(item));
    if (item.json->is_boolean()) {
      if (!item.json->get<bool>()) Never(absl::StrCat(item.place, ": false allows no value"));
      return absl::OkStatus();
    }
    if (std::find(item.within.begin(), item.within.end(), item.json) != item.within.end()) {
      return SchemaError(item.place, "refers to itself without end");
    }
    const bool known = std::any_of(shape_.sources.begin(), shape_.sources.end(),
                                   [&](const SchemaItem& s) { return s.json == item.json; });
    if (known) return absl::OkStatus();
    const size_t index = shape_.sources.size();
    shape_.sources.push_back(item);
    shape_.sources.back().done |= SchemaItem::kReferences;
    BASED_RETURN_IF_ERROR(AddKeywords(item));
    FindAlternatives(index);
    if ((item.done & SchemaItem::kReferences) != 0) return absl::OkStatus();
    return AddReferences(item);
  }

  absl::Status AddReferences(const SchemaItem& item) {
    BASED_ASSIGN_OR_RETURN(std::vector<SchemaItem> others, ListKeyword(item, "allOf"));
    if (FindKeyword(item, "$ref") != nullptr) {
      BASED_ASSIGN_OR_RETURN(SchemaItem target, document_.Resolve(item));
      others.push_back(std::move(target));
    }
    for (SchemaItem& other : others) {
      other.within = item.within;
      other.within.push_back(item.json);
      BASED_RETURN_IF_ERROR(Add(other));
    }
    return absl::OkStatus();
  }

  void FindAlternatives(size_t index) {
    if (shape_.alternatives) return;
    const SchemaItem& item = shape_.sources[index];
    for (const auto& [key, done] :
         {std::pair("anyOf", SchemaItem::kAnyOf), std::pair("oneOf", SchemaItem::kOneOf)}) {
      if ((item.done & done) != 0 || FindKeyword(item, key) == nullptr) continue;
      shape_.alternatives = {index, done};
      return;
    }
  }

  absl::Status AddKeywords(const SchemaItem& item) {
    BASED_ASSIGN_OR_RETURN(const uint8_t types, TypesOf(item));
    if ((shape_.types & types) == 0) {
      Never(absl::StrCat(PlaceOf(item.place, "type"), ": none of the types is left"));
    }
    shape_.types &= types;
    shape_.lists_values = shape_.lists_values || FindKeyword(item, "enum") != nullptr ||
                          FindKeyword(item, "const") != nullptr;
    BASED_RETURN_IF_ERROR(AddNumberKeywords(item));
    BASED_RETURN_IF_ERROR(AddStringKeywords(item));
    BASED_RETURN_IF_ERROR(
        AddRange(item, "minItems", "maxItems", &shape_.min_items, &shape_.max_items));
    BASED_ASSIGN_OR_RETURN(const std::vector<std::string> required, RequiredOf(item));
    shape_.required.insert(shape_.required.end(), required.begin(), required.end());
    return absl::OkStatus();
  }

  absl::Status AddRange(const SchemaItem& item, const char* min_key, const char* max_key,
                        int64_t* min, int64_t* max) {
    BASED_ASSIGN_OR_RETURN(const std::optional<int64_t> low, CountKeyword(item, min_key, most_));
    BASED_ASSIGN_OR_RETURN(const std::optional<int64_t> high, CountKeyword(item, max_key, most_));
    if (low) *min = std::max(*min, *low);
    if (high) *max = *max == Grammar::kUnbounded ? *high : std::min(*max, *high);
    return absl::OkStatus();
  }

  absl::Status AddStringKeywords(const SchemaItem& item) {
    BASED_RETURN_IF_ERROR(
        AddRange(item, "minLength", "maxLength", &shape_.min_length, &shape_.max_length));
    BASED_ASSIGN_OR_RETURN(const auto pattern, StringKeyword(item, "pattern"));
    if (pattern) shape_.patterns.push_back({*pattern, PlaceOf(item.place, "pattern")});
    BASED_ASSIGN_OR_RETURN(const auto format, StringKeyword(item, "format"));
    if (format) shape_.formats.push_back({*format, PlaceOf(item.place, "format")});
    return absl::OkStatus();
  }

  absl::StatusOr<std::optional<Decimal>> NumberKeyword(const SchemaItem& item, const char* key) {
    const SchemaJson* const value = FindKeyword(item, key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_number()) {
      return SchemaError(PlaceOf(item.place, key),
                         absl::StrCat("is ", value->type_name(), ", expected a number"));
    }
    return Decimal::Of(*value);
  }

  absl::Status AddNumberKeywords(const SchemaItem& item) {
    BASED_ASSIGN_OR_RETURN(const auto minimum, NumberKeyword(item, "minimum"));
    BASED_ASSIGN_OR_RETURN(const auto above, NumberKeyword(item, "exclusiveMinimum"));
    BASED_ASSIGN_OR_RETURN(const auto maximum, NumberKeyword(item, "maximum"));
    BASED_ASSIGN_OR_RETURN(const auto below, NumberKeyword(item, "exclusiveMaximum"));
    BASED_ASSIGN_OR_RETURN(const auto multiple, NumberKeyword(item, "multipleOf"));
    if (minimum) shape_.number.RaiseLower({*minimum, false});
    if (above) shape_.number.RaiseLower({*above, true});
    if (maximum) shape_.number.DropUpper({*maximum, false});
    if (below) shape_.number.DropUpper({*below, true});
    if (!multiple) return absl::OkStatus();
    if (multiple->negative || multiple->IsZero()) {
      return SchemaError(PlaceOf(item.place, "multipleOf"),
                         absl::StrCat("is ", ToString(*multiple), ", expected more than 0"));
    }
    shape_.number.multiples.push_back(*multiple);
    return absl::OkStatus();
  }

  void Never(std::string reason) {
    if (!shape_.never) shape_.never = std::move(reason);
  }

  // Types for which nothing is left.
  void FindContradictions() {
    const auto drop = [this](uint8_t types, const std::string& what) {
      if ((shape_.types & types) == 0) return;
      shape_.types &= static_cast<uint8_t>(~types);
      if (shape_.types == 0) Never(absl::StrCat(Place(), ": ", what));
    };
    const auto crossed = [](int64_t min, int64_t max) {
      return max != Grammar::kUnbounded && min > max;
    };
    if (crossed(shape_.min_length, shape_.max_length)) {
      drop(kStringType, absl::StrCat("minLength ", shape_.min_length, " is above maxLength ",
                                     shape_.max_length));
    }
    if (crossed(shape_.min_items, shape_.max_items)) {
      drop(kArrayType,
           absl::StrCat("minItems ", shape_.min_items, " is above maxItems ", shape_.max_items));
    }
    const auto& [integer, lower, upper, multiples] = shape_.number;
    if (!lower || !upper || lower->value < upper->value) return;
    if (lower->value == upper->value && !lower->exclusive && !upper->exclusive) return;
    drop(kIntegerType | kFractionType,
         absl::StrCat("minimum ", ToString(lower->value), " is not below maximum ",
                      ToString(upper->value)));
  }

  const std::string& Place() const { return shape_.sources[0].place; }

  SchemaDocument& document_;
  const int64_t most_;
  SchemaShape shape_;
};

}  // namespace

absl::StatusOr<SchemaShape> ShapeOf(const std::vector<SchemaItem>& items,
                                    SchemaDocument& document) {
  return Merge(document).Run(items);
}

}  // namespace based
