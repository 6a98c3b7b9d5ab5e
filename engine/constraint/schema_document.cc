#include "engine/constraint/schema_document.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"

namespace based {
namespace {

constexpr std::string_view kKeywords[] = {
    // Ignored.
    "title", "description", "default", "example", "examples", "$comment", "$schema", "deprecated",
    "readOnly", "writeOnly",
    // Places to point to.
    "$defs", "definitions",
    // Heeded.
    "type", "enum", "const", "nullable", "properties", "required", "additionalProperties",
    "propertyNames", "items", "prefixItems", "additionalItems", "minItems", "maxItems",
    "uniqueItems", "minLength", "maxLength", "pattern", "format", "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
    // Applied to the same value.
    "anyOf", "oneOf", "allOf", "$ref"};

constexpr std::pair<std::string_view, uint8_t> kTypes[] = {
    {"null", kNullType},
    {"boolean", kBooleanType},
    {"integer", kIntegerType},
    {"string", kStringType},
    {"array", kArrayType},
    {"object", kObjectType},
    {"number", kIntegerType | kFractionType}};

std::string EscapedKey(std::string_view key) {
  std::string escaped;
  for (const char c : key) {
    if (c == '~') {
      escaped += "~0";
    } else if (c == '/') {
      escaped += "~1";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

absl::Status WrongType(const SchemaJson& value, const std::string& place,
                       const std::string& expected) {
  return SchemaError(place, absl::StrCat("is ", value.type_name(), ", expected ", expected));
}

// Watches a document while it is read.
class Watch {
 public:
  explicit Watch(const JsonSchemaLimits& limits) : limits_(limits) {}

  // False: nothing more is kept.
  bool operator()(int depth, SchemaJson::parse_event_t event, SchemaJson& parsed) {
    using Event = SchemaJson::parse_event_t;
    if (!status_.ok()) return false;
    if (depth > limits_.max_depth) {
      status_ = SchemaError("#", absl::StrCat("nests deeper than ", limits_.max_depth, " levels"));
    }
    if (event == Event::object_start) names_.emplace_back();
    if (event == Event::object_end) names_.pop_back();
    if (event == Event::key) Name(parsed.get_ref<const std::string&>());
    return status_.ok();
  }

  const absl::Status& status() const { return status_; }

 private:
  void Name(const std::string& name) {
    if (!names_.back().insert(name).second) {
      status_ = SchemaError("#", absl::StrCat("an object has the member '", name, "' twice"));
    } else if (names_.back().size() > limits_.max_members) {
      status_ = SchemaError(
          "#", absl::StrCat("an object has more than ", limits_.max_members, " members"));
    }
  }

  const JsonSchemaLimits& limits_;
  absl::Status status_;
  std::vector<std::set<std::string>> names_;  // of the open objects
};

// One part of a JSON pointer in a URI: %XX, then ~1 and ~0. False when it is none.
bool UnescapePart(std::string_view part, std::string* key) {
  std::string text;
  for (size_t i = 0; i < part.size(); ++i) {
    if (part[i] != '%') {
      text += part[i];
      continue;
    }
    unsigned value = 0;
    if (part.size() - i < 3) return false;
    const char* const end = part.data() + i + 3;
    if (std::from_chars(part.data() + i + 1, end, value, 16).ptr != end) return false;
    text += static_cast<char>(value);
    i += 2;
  }
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '~') {
      *key += text[i];
      continue;
    }
    ++i;
    if (i == text.size() || (text[i] != '0' && text[i] != '1')) return false;
    *key += text[i] == '0' ? '~' : '/';
  }
  return true;
}

const SchemaJson* Step(const SchemaJson& from, const std::string& key) {
  if (from.is_object()) {
    const auto found = from.find(key);
    return found == from.end() ? nullptr : &*found;
  }
  if (!from.is_array() || key.empty() || key.size() > 9) return nullptr;
  size_t index = 0;
  const char* const end = key.data() + key.size();
  if (std::from_chars(key.data(), end, index).ptr != end || index >= from.size()) return nullptr;
  return &from[index];
}

}  // namespace

absl::Status SchemaError(const std::string& place, const std::string& reason) {
  return absl::InvalidArgumentError(absl::StrCat("schema at ", place, ": ", reason));
}

std::string PlaceOf(const std::string& place, std::string_view key) {
  return absl::StrCat(place, "/", EscapedKey(key));
}

std::string PlaceOf(const std::string& place, size_t index) {
  return absl::StrCat(place, "/", index);
}

absl::StatusOr<SchemaDocument> SchemaDocument::Parse(std::string_view text,
                                                     const JsonSchemaLimits& limits) {
  if (text.size() > limits.max_schema_bytes) {
    return SchemaError(
        "#", absl::StrCat("has ", text.size(), " bytes, the limit is ", limits.max_schema_bytes));
  }
  Watch watch(limits);
  try {
    SchemaJson json = SchemaJson::parse(text.begin(), text.end(), std::ref(watch));
    BASED_RETURN_IF_ERROR(watch.status());
    return SchemaDocument(std::move(json), limits);
  } catch (const SchemaJson::parse_error& error) {
    BASED_RETURN_IF_ERROR(watch.status());
    return SchemaError("#", absl::StrCat("is not JSON: byte ", error.byte));
  } catch (const SchemaJson::exception& error) {  // a number that no double holds
    return SchemaError("#", error.what());
  }
}

absl::StatusOr<SchemaItem> SchemaDocument::Resolve(const SchemaItem& item) const {
  BASED_ASSIGN_OR_RETURN(const std::optional<std::string> reference, StringKeyword(item, "$ref"));
  const std::string place = PlaceOf(item.place, "$ref");
  std::string_view rest = *reference;
  if (!rest.starts_with("#") || (rest.size() > 1 && rest[1] != '/')) {
    return SchemaError(place, absl::StrCat("'", *reference, "' is not a pointer in this schema"));
  }
  rest.remove_prefix(1);
  SchemaItem target = root();
  while (!rest.empty()) {
    rest.remove_prefix(1);
    const std::string_view part = rest.substr(0, rest.find('/'));
    rest.remove_prefix(part.size());
    std::string key;
    target.json = UnescapePart(part, &key) ? Step(*target.json, key) : nullptr;
    if (target.json == nullptr) {
      return SchemaError(place, absl::StrCat("'", *reference, "' points to nothing"));
    }
    target.place = PlaceOf(target.place, key);
  }
  return target;
}

absl::Status SchemaDocument::CheckKeywords(const SchemaItem& item) {
  if (item.json->is_boolean()) return absl::OkStatus();
  if (!item.json->is_object()) return WrongType(*item.json, item.place, "an object or boolean");
  if (!checked_.insert(item.json).second) return absl::OkStatus();
  for (const auto& [key, value] : item.json->items()) {
    const bool known =
        std::find(std::begin(kKeywords), std::end(kKeywords), key) != std::end(kKeywords);
    if (known || (key == "$id" && item.json == &json_)) continue;
    return SchemaError(item.place, absl::StrCat("'", key, "' is not supported"));
  }
  if (const SchemaJson* const unique = FindKeyword(item, "uniqueItems")) {
    if (!unique->is_boolean()) {
      return WrongType(*unique, PlaceOf(item.place, "uniqueItems"), "true or false");
    }
    if (unique->get<bool>()) return SchemaError(item.place, "'uniqueItems' is not supported");
  }
  return absl::OkStatus();
}

const SchemaJson* FindKeyword(const SchemaItem& item, const std::string& key) {
  const auto found = item.json->find(key);
  return found == item.json->end() ? nullptr : &*found;
}

bool Constrains(const SchemaItem& item) {
  const auto heeded = std::find(std::begin(kKeywords), std::end(kKeywords), "type");
  const auto applied = std::find(std::begin(kKeywords), std::end(kKeywords), "anyOf");
  return std::any_of(heeded, applied,
                     [&](std::string_view key) { return item.json->contains(std::string(key)); });
}

absl::StatusOr<std::optional<int64_t>> CountKeyword(const SchemaItem& item, const char* key,
                                                    int64_t limit) {
  const SchemaJson* const value = FindKeyword(item, key);
  if (value == nullptr) return std::nullopt;
  const std::string place = PlaceOf(item.place, key);
  const double number = value->is_number() ? value->get<double>() : -1;
  if (number < 0 || number != std::floor(number)) {
    return SchemaError(place, absl::StrCat("is ", value->dump(), ", expected a count"));
  }
  if (number > static_cast<double>(limit)) {
    return SchemaError(place, absl::StrCat("is ", value->dump(), ", the limit is ", limit));
  }
  return static_cast<int64_t>(number);
}

absl::StatusOr<std::optional<std::string>> StringKeyword(const SchemaItem& item, const char* key) {
  const SchemaJson* const value = FindKeyword(item, key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) return WrongType(*value, PlaceOf(item.place, key), "a string");
  return value->get<std::string>();
}

absl::StatusOr<std::vector<SchemaItem>> ListKeyword(const SchemaItem& item, const char* key) {
  const SchemaJson* const list = FindKeyword(item, key);
  if (list == nullptr) return std::vector<SchemaItem>();
  const std::string place = PlaceOf(item.place, key);
  if (!list->is_array()) return WrongType(*list, place, "an array");
  std::vector<SchemaItem> items;
  for (size_t i = 0; i < list->size(); ++i) {
    items.push_back({&(*list)[i], PlaceOf(place, i), 0, {}});
  }
  return items;
}

std::optional<SchemaItem> SubschemaKeyword(const SchemaItem& item, const std::string& key) {
  const SchemaJson* const value = FindKeyword(item, key);
  if (value == nullptr) return std::nullopt;
  return SchemaItem{value, PlaceOf(item.place, key), 0, {}};
}

absl::StatusOr<std::vector<std::string>> RequiredOf(const SchemaItem& item) {
  BASED_ASSIGN_OR_RETURN(const std::vector<SchemaItem> names, ListKeyword(item, "required"));
  std::vector<std::string> required;
  for (const SchemaItem& name : names) {
    if (!name.json->is_string()) return WrongType(*name.json, name.place, "a string");
    required.push_back(name.json->get<std::string>());
  }
  return required;
}

absl::StatusOr<std::optional<SchemaItem>> MemberSchema(const SchemaItem& item,
                                                       const std::string& name) {
  if (const std::optional<SchemaItem> properties = SubschemaKeyword(item, "properties")) {
    if (!properties->json->is_object()) {
      return WrongType(*properties->json, properties->place, "an object");
    }
    if (properties->json->contains(name)) return SubschemaKeyword(*properties, name);
  }
  return SubschemaKeyword(item, "additionalProperties");
}

absl::StatusOr<ElementSchemas> ElementsOf(const SchemaItem& item) {
  ElementSchemas elements;
  const SchemaJson* const items = FindKeyword(item, "items");
  if (items == nullptr || !items->is_array()) {
    BASED_ASSIGN_OR_RETURN(elements.first, ListKeyword(item, "prefixItems"));
    elements.others = SubschemaKeyword(item, "items");
    return elements;
  }
  // As draft 7 has it.
  if (FindKeyword(item, "prefixItems") != nullptr) {
    return WrongType(*items, PlaceOf(item.place, "items"), "a schema beside prefixItems");
  }
  BASED_ASSIGN_OR_RETURN(elements.first, ListKeyword(item, "items"));
  elements.others = SubschemaKeyword(item, "additionalItems");
  return elements;
}

absl::StatusOr<uint8_t> TypesOf(const SchemaItem& item) {
  const SchemaJson* const type = FindKeyword(item, "type");
  uint8_t types = 0;
  const auto add = [&](const SchemaJson& name, const std::string& place) -> absl::Status {
    if (!name.is_string()) return WrongType(name, place, "the name of a type");
    for (const auto& [known, bits] : kTypes) {
      if (name.get_ref<const std::string&>() != known) continue;
      types |= bits;
      return absl::OkStatus();
    }
    return SchemaError(place, absl::StrCat("type ", name.dump(), " is not known"));
  };
  const std::string place = PlaceOf(item.place, "type");
  if (type == nullptr) return kAllTypes;
  if (type->is_array()) {
    for (size_t i = 0; i < type->size(); ++i) {
      BASED_RETURN_IF_ERROR(add((*type)[i], PlaceOf(place, i)));
    }
  } else {
    BASED_RETURN_IF_ERROR(add(*type, place));
  }
  const SchemaJson* const nullable = FindKeyword(item, "nullable");
  if (nullable != nullptr && !nullable->is_boolean()) {
    return WrongType(*nullable, PlaceOf(item.place, "nullable"), "true or false");
  }
  if (nullable != nullptr && nullable->get<bool>()) types |= kNullType;
  return types;
}

}  // namespace based
