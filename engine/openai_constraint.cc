#include "engine/openai_constraint.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/json_file.h"
#include "kernels/base/status.h"

namespace based {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;
using Kind = ConstraintAsk::Kind;
using Path = std::vector<std::string>;

constexpr const char* kFields[] = {"response_format", "structured_outputs", "guided_json",
                                   "guided_regex",    "guided_choice",      "guided_grammar"};
// Keeping the order of keys takes time that grows with the square of their number.
constexpr size_t kMaxSchemaBytes = 1 << 18;

absl::Status Wrong(absl::string_view place, const Json& value, absl::string_view expected) {
  return absl::InvalidArgumentError(
      absl::StrCat(place, " is ", JsonExcerpt(value), "; expected ", expected));
}

// The object at `path` in `raw` with its keys as they are written there.
std::string InOrder(std::string_view raw, const Path& path) {
  const auto keep = [&path](int depth, OrderedJson::parse_event_t event, OrderedJson& key) {
    return event != OrderedJson::parse_event_t::key || static_cast<size_t>(depth) > path.size() ||
           key == path[static_cast<size_t>(depth) - 1];
  };
  const OrderedJson body = OrderedJson::parse(raw, keep, /*allow_exceptions=*/false);
  const OrderedJson* at = &body;
  for (const std::string& key : path) at = &at->at(key);
  return at->dump();
}

// An object, or its text.
absl::StatusOr<ConstraintAsk> Schema(const Json& value, std::string_view raw, const Path& path,
                                     const std::string& place) {
  if (value.is_string())
    return ConstraintAsk{Kind::kJsonSchema, value.get<std::string>(), {}, place};
  if (!value.is_object() && !value.is_boolean()) return Wrong(place, value, "a JSON Schema");
  if (const size_t bytes = value.dump().size(); bytes > kMaxSchemaBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(place, " is ", bytes, " bytes long; expected at most ", kMaxSchemaBytes));
  }
  const std::string text = value.is_object() ? InOrder(raw, path) : value.dump();
  return ConstraintAsk{Kind::kJsonSchema, text, {}, place};
}

absl::StatusOr<ConstraintAsk> Text(Kind kind, const Json& value, const std::string& place) {
  if (!value.is_string()) return Wrong(place, value, "a string");
  return ConstraintAsk{kind, value.get<std::string>(), {}, place};
}

absl::StatusOr<ConstraintAsk> Choice(const Json& value, const std::string& place) {
  if (!value.is_array()) return Wrong(place, value, "an array of strings");
  ConstraintAsk ask{Kind::kChoice, {}, {}, place};
  for (const Json& choice : value) {
    if (!choice.is_string()) return Wrong(place, value, "an array of strings");
    ask.choices.push_back(choice.get<std::string>());
  }
  return ask;
}

absl::StatusOr<ConstraintAsk> ResponseFormat(const Json& format, std::string_view raw) {
  if (!format.is_object()) return Wrong("response_format", format, "an object");
  const Json type = format.value("type", Json());
  if (type == "text") return ConstraintAsk{};
  if (type == "json_object") {
    return ConstraintAsk{Kind::kJsonSchema, R"({"type":"object"})", {}, "response_format"};
  }
  if (type != "json_schema") {
    return Wrong("response_format.type", type, "'text', 'json_object' or 'json_schema'");
  }
  const Json schema = format.value("json_schema", Json());
  if (!schema.is_object() || !schema.contains("schema")) {
    return Wrong("response_format.json_schema", schema, "an object with a schema");
  }
  return Schema(schema["schema"], raw, {"response_format", "json_schema", "schema"},
                "response_format.json_schema.schema");
}

absl::StatusOr<ConstraintAsk> StructuredOutputs(const Json& outputs, std::string_view raw) {
  const std::string field = "structured_outputs";
  if (!outputs.is_object() || outputs.size() != 1) {
    return Wrong(field, outputs, "an object with one of json, json_object, regex, choice, grammar");
  }
  const std::string& key = outputs.begin().key();
  const Json& value = outputs.begin().value();
  const std::string place = absl::StrCat(field, ".", key);
  if (key == "json") return Schema(value, raw, {field, key}, place);
  if (key == "regex") return Text(Kind::kRegex, value, place);
  if (key == "choice") return Choice(value, place);
  if (key == "grammar") return Text(Kind::kGrammar, value, place);
  if (key == "json_object" && value == true) {
    return ConstraintAsk{Kind::kJsonSchema, R"({"type":"object"})", {}, place};
  }
  return Wrong(place, value, "one of json, json_object (true), regex, choice, grammar");
}

}  // namespace

bool IsOpenAiConstraintField(std::string_view name) {
  return std::find(std::begin(kFields), std::end(kFields), name) != std::end(kFields);
}

absl::StatusOr<ConstraintAsk> ReadOpenAiConstraint(const Json& body, std::string_view raw) {
  ConstraintAsk found;
  for (const std::string field : kFields) {
    const auto entry = body.find(field);
    if (entry == body.end() || entry->is_null()) continue;
    absl::StatusOr<ConstraintAsk> ask =
        field == "response_format"      ? ResponseFormat(*entry, raw)
        : field == "structured_outputs" ? StructuredOutputs(*entry, raw)
        : field == "guided_json"        ? Schema(*entry, raw, {field}, field)
        : field == "guided_regex"       ? Text(Kind::kRegex, *entry, field)
        : field == "guided_choice"      ? Choice(*entry, field)
                                        : Text(Kind::kGrammar, *entry, field);
    BASED_RETURN_IF_ERROR(ask.status());
    if (ask->kind == Kind::kNothing) continue;
    if (found.kind != Kind::kNothing) {
      return absl::InvalidArgumentError(
          absl::StrCat(field, " is set beside ", found.field, "; expected one of the two"));
    }
    found = *std::move(ask);
  }
  return found;
}

}  // namespace based
