#include "engine/constraint/schema_values.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/constraint/json_formats.h"
#include "engine/constraint/schema_shape.h"
#include "kernels/base/status.h"

namespace based {
namespace {

constexpr int kMostNesting = 200;  // of schemas within each other for one value; checking recurses

uint8_t TypeOf(const SchemaJson& value) {
  switch (value.type()) {
    case SchemaJson::value_t::null:
      return kNullType;
    case SchemaJson::value_t::boolean:
      return kBooleanType;
    case SchemaJson::value_t::string:
      return kStringType;
    case SchemaJson::value_t::array:
      return kArrayType;
    case SchemaJson::value_t::object:
      return kObjectType;
    default:
      return Decimal::Of(value).IsInteger() ? kIntegerType : kFractionType;
  }
}

bool Equal(const SchemaJson& a, const SchemaJson& b) {
  if (a.is_number() && b.is_number()) return Decimal::Of(a) == Decimal::Of(b);
  if (a.type() != b.type()) return false;
  if (!a.is_structured()) return a == b;
  if (a.size() != b.size()) return false;
  if (a.is_array()) return std::equal(a.begin(), a.end(), b.begin(), Equal);
  for (const auto& [key, member] : a.items()) {
    const auto other = b.find(key);
    if (other == b.end() || !Equal(member, *other)) return false;
  }
  return true;
}

bool IsMultiple(const Decimal& value, const Decimal& multiple) {
  const size_t places = std::max(value.fraction.size(), multiple.fraction.size());
  const std::optional<int64_t> units = value.Scaled(places);
  const std::optional<int64_t> modulus = multiple.Scaled(places);
  return units && modulus && *units % *modulus == 0;
}

bool Within(const Decimal& value, const NumberBounds& bounds) {
  const auto& [integer, lower, upper, multiples] = bounds;
  if (lower && (value < lower->value || (lower->exclusive && value == lower->value))) return false;
  if (upper && (value > upper->value || (upper->exclusive && value == upper->value))) return false;
  return std::all_of(multiples.begin(), multiples.end(),
                     [&](const Decimal& multiple) { return IsMultiple(value, multiple); });
}

}  // namespace

absl::StatusOr<const CharDfa*> StringRules::Pattern(const std::string& pattern,
                                                    const std::string& place) {
  std::unique_ptr<const CharDfa>& known = patterns_[pattern];
  if (known == nullptr) {
    absl::StatusOr<CharDfa> dfa = RegexDfa(pattern, RegexMatch::kSearch, limits_.regex, budget_);
    if (!dfa.ok()) return SchemaError(place, std::string(dfa.status().message()));
    known = std::make_unique<const CharDfa>(*std::move(dfa));
  }
  return known.get();
}

absl::StatusOr<const CharDfa*> StringRules::Format(const std::string& format,
                                                   const std::string& place) {
  if (ignores_formats_) return Pattern("", place);
  std::unique_ptr<const CharDfa>& known = formats_[format];
  if (known != nullptr) return known.get();
  const std::vector<std::string> patterns = FormatPatterns(format);
  if (patterns.empty()) {
    return SchemaError(place, absl::StrCat("format '", format, "' is not supported"));
  }
  std::optional<CharDfa> all;
  for (const std::string& pattern : patterns) {
    absl::StatusOr<CharDfa> dfa = RegexDfa(pattern, RegexMatch::kWhole, limits_.regex, budget_);
    if (dfa.ok() && all) dfa = Intersect(*all, *dfa, budget_);
    if (!dfa.ok()) return SchemaError(place, std::string(dfa.status().message()));
    all = *std::move(dfa);
  }
  known = std::make_unique<const CharDfa>(*std::move(all));
  return known.get();
}

absl::StatusOr<bool> SchemaValues::Allows(const SchemaItem& schema, const SchemaJson& value) {
  if (depth_ >= kMostNesting) {
    return SchemaError(schema.place, "takes too many schemas within each other for a value");
  }
  ++depth_;
  BASED_RETURN_IF_ERROR(document_.CheckKeywords(schema));
  absl::StatusOr<bool> allowed = true;
  if (schema.json->is_boolean()) {
    allowed = schema.json->get<bool>();
  } else {
    allowed = AllowsHere(schema, value);
    if (allowed.ok() && *allowed) allowed = AllowsApplied(schema, value);
  }
  --depth_;
  return allowed;
}

absl::StatusOr<bool> SchemaValues::AllowsHere(const SchemaItem& schema, const SchemaJson& value) {
  BASED_ASSIGN_OR_RETURN(const uint8_t types, TypesOf(schema));
  if ((types & TypeOf(value)) == 0) return false;
  if (const SchemaJson* const constant = FindKeyword(schema, "const")) {
    if (!Equal(*constant, value)) return false;
  }
  if (const SchemaJson* const list = FindKeyword(schema, "enum")) {
    const auto equal = [&value](const SchemaJson& other) { return Equal(other, value); };
    if (!std::any_of(list->begin(), list->end(), equal)) return false;
  }
  if (value.is_string()) return AllowsString(schema, value.get_ref<const std::string&>());
  if (value.is_number()) return AllowsNumber(schema, value);
  if (value.is_array()) return AllowsArray(schema, value);
  if (value.is_object()) return AllowsObject(schema, value);
  return true;
}

absl::StatusOr<bool> SchemaValues::AllowsApplied(const SchemaItem& schema,
                                                 const SchemaJson& value) {
  if (FindKeyword(schema, "$ref") != nullptr) {
    BASED_ASSIGN_OR_RETURN(const SchemaItem target, document_.Resolve(schema));
    BASED_ASSIGN_OR_RETURN(const bool allowed, Allows(target, value));
    if (!allowed) return false;
  }
  for (const char* const key : {"allOf", "anyOf", "oneOf"}) {
    if (FindKeyword(schema, key) == nullptr) continue;
    BASED_ASSIGN_OR_RETURN(const std::vector<SchemaItem> all, ListKeyword(schema, key));
    size_t count = 0;
    for (const SchemaItem& one : all) {
      BASED_ASSIGN_OR_RETURN(const bool allowed, Allows(one, value));
      count += allowed ? 1 : 0;
    }
    const std::string_view name = key;
    if (name == "allOf" ? count < all.size() : name == "anyOf" ? count == 0 : count != 1) {
      return false;
    }
  }
  return true;
}

absl::StatusOr<bool> SchemaValues::AllowsString(const SchemaItem& schema, const std::string& text) {
  const int64_t most = document_.limits().max_count;
  BASED_ASSIGN_OR_RETURN(const auto min, CountKeyword(schema, "minLength", most));
  BASED_ASSIGN_OR_RETURN(const auto max, CountKeyword(schema, "maxLength", most));
  const int64_t length = std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; });
  if ((min && length < *min) || (max && length > *max)) return false;
  BASED_ASSIGN_OR_RETURN(const auto pattern, StringKeyword(schema, "pattern"));
  if (pattern) {
    BASED_ASSIGN_OR_RETURN(const CharDfa* const dfa,
                           strings_.Pattern(*pattern, PlaceOf(schema.place, "pattern")));
    if (!dfa->Matches(text)) return false;
  }
  BASED_ASSIGN_OR_RETURN(const auto format, StringKeyword(schema, "format"));
  if (format) {
    BASED_ASSIGN_OR_RETURN(const CharDfa* const dfa,
                           strings_.Format(*format, PlaceOf(schema.place, "format")));
    if (!dfa->Matches(text)) return false;
  }
  return true;
}

absl::StatusOr<bool> SchemaValues::AllowsNumber(const SchemaItem& schema, const SchemaJson& value) {
  // The schema alone, without those it refers to.
  SchemaItem own = schema;
  own.done = SchemaItem::kReferences;
  own.within.clear();
  BASED_ASSIGN_OR_RETURN(const SchemaShape shape, ShapeOf({own}, document_));
  return Within(Decimal::Of(value), shape.number);
}

absl::StatusOr<bool> SchemaValues::AllowsArray(const SchemaItem& schema, const SchemaJson& value) {
  const int64_t most = document_.limits().max_count;
  BASED_ASSIGN_OR_RETURN(const auto min, CountKeyword(schema, "minItems", most));
  BASED_ASSIGN_OR_RETURN(const auto max, CountKeyword(schema, "maxItems", most));
  const auto size = static_cast<int64_t>(value.size());
  if ((min && size < *min) || (max && size > *max)) return false;
  BASED_ASSIGN_OR_RETURN(const ElementSchemas elements, ElementsOf(schema));
  for (size_t i = 0; i < value.size(); ++i) {
    const SchemaItem* const item = i < elements.first.size() ? &elements.first[i]
                                   : elements.others         ? &*elements.others
                                                             : nullptr;
    if (item == nullptr) continue;
    BASED_ASSIGN_OR_RETURN(const bool allowed, Allows(*item, value[i]));
    if (!allowed) return false;
  }
  return true;
}

absl::StatusOr<bool> SchemaValues::AllowsObject(const SchemaItem& schema, const SchemaJson& value) {
  BASED_ASSIGN_OR_RETURN(const std::vector<std::string> required, RequiredOf(schema));
  for (const std::string& name : required) {
    if (!value.contains(name)) return false;
  }
  const std::optional<SchemaItem> names = SubschemaKeyword(schema, "propertyNames");
  for (const auto& [key, member] : value.items()) {
    BASED_ASSIGN_OR_RETURN(const std::optional<SchemaItem> item, MemberSchema(schema, key));
    if (item) {
      BASED_ASSIGN_OR_RETURN(const bool allowed, Allows(*item, member));
      if (!allowed) return false;
    }
    if (names) {
      BASED_ASSIGN_OR_RETURN(const bool allowed, Allows(*names, key));
      if (!allowed) return false;
    }
  }
  return true;
}

}  // namespace based
