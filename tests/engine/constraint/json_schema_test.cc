#include "engine/constraint/json_schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/constraint/decimal.h"
#include "engine/constraint/json_formats.h"
#include "engine/constraint/json_parts.h"
#include "tests/engine/constraint/grammar_sampler.h"
#include "tests/engine/constraint/matches.h"

namespace based {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;

std::shared_ptr<const Constraint> Compiled(const std::string& schema) {
  const auto grammar = JsonSchemaGrammar(schema, JsonSchemaLimits());
  EXPECT_TRUE(grammar.ok()) << schema << ": " << grammar.status();
  const auto constraint = CompileForBytes(*grammar);
  EXPECT_TRUE(constraint.ok()) << schema << ": " << constraint.status();
  return *constraint;
}

std::string Refusal(const std::string& schema,
                    const JsonSchemaLimits& limits = JsonSchemaLimits()) {
  const auto grammar = JsonSchemaGrammar(schema, limits);
  EXPECT_EQ(grammar.status().code(), absl::StatusCode::kInvalidArgument) << schema;
  return std::string(grammar.status().message());
}

void Expect(const std::string& schema, const std::vector<std::string>& valid,
            const std::vector<std::string>& invalid) {
  const auto constraint = Compiled(schema);
  for (const std::string& text : valid) EXPECT_TRUE(Matches(constraint, text)) << schema << text;
  for (const std::string& text : invalid) EXPECT_FALSE(Matches(constraint, text)) << schema << text;
}

TEST(JsonSchema, ObjectsHaveTheirMembersInOrder) {
  Expect(R"({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "null"},
             "c": {"type": "boolean"}}, "required": ["b"], "additionalProperties": false})",
         {R"({"b":null})", R"({"a":1,"b":null})", R"({"b":null,"c":true})",
          R"({"a": 1, "b": null, "c": false})"},
         {"{}", R"({"b":null,"a":1})", R"({"a":1})", R"({"b":null,"d":1})", R"({"b":null,})",
          R"({"b":null,"b":null})"});
}

TEST(JsonSchema, AdditionalPropertiesComeLastUnderOtherNames) {
  Expect(R"({"type": "object", "properties": {"a": {"type": "integer"}, "ab": {}},
             "additionalProperties": {"type": "string"}})",
         {"{}", R"({"a":1})", R"({"a":1,"x":"y","":"z"})", R"({"abc":"y"})", R"({"b":"","c":""})"},
         {R"({"a":"1"})", R"({"x":"y","a":1})", R"({"x":1})", R"({"\u0061":"1"})"});
  Expect(R"({"type": "object", "required": ["z"], "propertyNames": {"pattern": "^[a-z]$"}})",
         {R"({"z":[1]})", R"({"z":1,"y":{}})"}, {"{}", R"({"z":1,"yy":2})"});
}

TEST(JsonSchema, SpacesAreThoseOfThePolicy) {
  Expect(
      R"({"type": "object", "properties": {"a": {"type": "array"}}})",
      {R"({"a":[1,2]})", R"({"a": [1, 2]})", "{\n  \"a\": [\n    1,\n    2\n  ]\n}",
       R"({ "a": [ 1, 2 ] })", "{\n\"a\":[]}"},
      {R"({"a" :1})", R"({"a":[1 ,2]})", R"({"a":  [1]})", "{ }", "{\n\n\"a\":[]}", R"({"a":[ ]})",
       " {}", "{} ", "{\t\"a\":[]}", "{\n" + std::string(33, ' ') + "\"a\":[]}"});
}

TEST(JsonSchema, ArraysHaveTheirBounds) {
  Expect(R"({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3})",
         {"[1]", "[1,2,3]"}, {"[]", "[1,2,3,4]", "[true]"});
  Expect(R"({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}],
             "items": false, "minItems": 1})",
         {"[1]", "[1,\"a\"]"}, {"[]", "[\"a\"]", "[1,\"a\",1]"});
  Expect(R"({"type": "array", "items": [{"type": "integer"}],
             "additionalItems": {"type": "null"}})",
         {"[]", "[1]", "[1,null,null]"}, {"[null]", "[1,1]"});
  Expect(R"({"type": "array", "maxItems": 0})", {"[]"}, {"[1]"});
}

TEST(JsonSchema, ConstantsStandAsTheSchemaHasThem) {
  Expect(R"({"enum": ["a\"\\\n/", 1, 1.0, -2.5, true, null, {"b": 1, "a": []}, [1, 2], "\u00e9"]})",
         {R"("a\"\\\n/")", "1", "1.0", "-2.5", "true", "null", R"({"b": 1, "a": []})", "[1, 2]",
          "\"\u00e9\"", R"("\u00e9")", R"("\u00E9")"},
         {R"("a\"\\\n\/")", R"({"a": [], "b": 1})", "2", "false", "[1]"});
  Expect(R"({"type": ["integer", "string"], "enum": [1, 2.5, "long", "x", null], "maxLength": 2})",
         {"1", "\"x\""}, {"2.5", "\"long\"", "null"});
}

TEST(JsonSchema, ConjunctionsNarrow) {
  Expect(R"({"allOf": [{"type": ["string", "integer"], "minLength": 2}, {"maxLength": 3},
             {"pattern": "^a"}, {"minimum": 5}]})",
         {"\"ab\"", "\"abc\"", "5"}, {"\"a\"", "\"bc\"", "\"abcd\"", "4", "null"});
  Expect(R"({"$ref": "#/$defs/base", "required": ["b"],
             "$defs": {"base": {"type": "object", "properties": {"a": {}, "b": {"minimum": 1}},
                                "additionalProperties": false}},
             "properties": {"b": {"type": "integer"}}})",
         {R"({"b":1})", R"({"b":1,"a":null})"}, {R"({"b":0})", R"({"b":"x"})", R"({"b":1,"c":1})"});
  Expect(R"({"anyOf": [{"type": "string"}, {"type": "integer"}], "oneOf": [{"maxLength": 1,
             "type": "string"}, {"type": ["null", "number"]}]})",
         {"\"a\"", "1"}, {"\"ab\"", "1.5", "null"});
}

TEST(JsonSchema, OneOfNeedsAlternativesThatExcludeEachOther) {
  Expect(R"({"oneOf": [
             {"type": "object", "properties": {"k": {"const": "a"}, "v": {"type": "null"}},
              "required": ["k", "v"]},
             {"type": "object", "properties": {"k": {"enum": ["b", "c"]}}, "required": ["k"]}]})",
         {R"({"k":"a","v":null})", R"({"k":"c","v":1})"}, {R"({"k":"a"})", R"({"k":"d"})"});
  Expect(R"({"oneOf": [{"type": "integer", "maximum": 3}, {"type": "integer", "minimum": 4}]})",
         {"3", "4"}, {"3.5"});
  for (
      const char* schema :
      {R"({"oneOf": [{"type": "integer"}, {"type": "number"}]})",
       R"({"oneOf": [{"type": "string", "format": "ipv4"}, {"type": "string", "format": "date"}]})",
       R"({"oneOf": [{"multipleOf": 2}, {"multipleOf": 3}]})"}) {
    EXPECT_THAT(Refusal(schema), HasSubstr("#/oneOf/0: oneOf: a value may be allowed here"))
        << schema;
  }
}

TEST(JsonSchema, RecursionEnds) {
  Expect(R"({"$ref": "#/$defs/list", "$defs": {"list": {"anyOf": [{"type": "null"},
             {"type": "object", "properties": {"next": {"$ref": "#/$defs/list"}},
              "required": ["next"], "additionalProperties": false}]}}})",
         {"null", R"({"next":{"next":null}})"}, {"{}", R"({"next":1})"});
  Expect(R"({"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#"}}},
             "additionalProperties": false})",
         {"{}", R"({"kids":[{},{"kids":[]}]})"}, {R"({"kids":[1]})"});
  Expect(R"({"definitions": {"a/b~c %": {"type": "null"}}, "$ref": "#/definitions/a~1b~0c%20%25"})",
         {"null"}, {"1"});
  EXPECT_THAT(Refusal(R"({"type": "object", "properties": {"a": {"$ref": "#"}},
                          "required": ["a"]})"),
              HasSubstr("schema at #/properties/a: every value it allows is without end"));
  EXPECT_THAT(Refusal(R"({"$ref": "#/$defs/a", "$defs": {"a": {"type": "array", "minItems": 1,
                          "items": {"$ref": "#/$defs/a"}}}})"),
              HasSubstr("without end"));
  EXPECT_THAT(Refusal(R"({"$ref": "#"})"), HasSubstr("schema at #: refers to itself without end"));
  EXPECT_THAT(Refusal(R"({"anyOf": [{"type": "null"}, {"$ref": "#"}]})"),
              HasSubstr("refers to itself without end"));
}

TEST(JsonSchema, RefusesByNameAndPlace) {
  const std::vector<std::pair<std::string, std::string>> refused = {
      {R"({"properties": {"a": {"not": {}}}})", "schema at #/properties/a: 'not' is not supported"},
      {R"({"if": true})", "schema at #: 'if' is not supported"},
      {R"({"x-mine": 1})", "'x-mine' is not supported"},
      {R"({"patternProperties": {}})", "'patternProperties' is not supported"},
      {R"({"items": {"$id": "x"}})", "schema at #/items: '$id' is not supported"},
      {R"({"uniqueItems": true})", "'uniqueItems' is not supported"},
      {R"({"format": "uri"})", "schema at #/format: format 'uri' is not supported"},
      {R"({"properties": {"a/b~": {"pattern": "(?=a)b"}}})",
       "schema at #/properties/a~1b~0/pattern: byte 0: lookahead is not supported"},
      {R"({"type": "text"})", "schema at #/type: type \"text\" is not known"},
      {R"({"type": ["null", 3]})", "schema at #/type/1: is number, expected the name of a type"},
      {R"({"minLength": "3"})", "schema at #/minLength: is \"3\", expected a count"},
      {R"({"minItems": -1})", "schema at #/minItems: is -1, expected a count"},
      {R"({"maxLength": 20001})", "schema at #/maxLength: is 20001, the limit is 20000"},
      {R"({"exclusiveMinimum": true})", "is boolean, expected a number"},
      {R"({"multipleOf": 0})", "schema at #/multipleOf: is 0, expected more than 0"},
      {R"({"type": "number", "multipleOf": 0.12345})", "multipleOf 0.12345 is more than 1024"},
      {R"({"required": [1]})", "schema at #/required/0: is number, expected a string"},
      {R"({"properties": []})", "schema at #/properties: is"},
      {R"({"anyOf": []})", "schema at #/anyOf: is not a list of one or more schemas"},
      {R"({"enum": []})", "schema at #/enum: is not a list of one or more values"},
      {R"({"$ref": "http://a/b"})", "is not a pointer in this schema"},
      {R"({"$ref": "#/nowhere"})", "schema at #/$ref: '#/nowhere' points to nothing"},
      {R"({"propertyNames": {"enum": ["a"]}})", "are not supported in propertyNames"},
      {R"([])", "schema at #: is array, expected an object or boolean"},
      {R"({"a": 1,})", "schema at #: is not JSON: byte 9"},
      {R"({"type": "null", "type": "null"})", "an object has the member 'type' twice"},
      {R"({"minimum": 1e999})", "schema at #: "},
      {std::string(70'000, ' '), "has 70000 bytes, the limit is 65536"},
      {"", "is not JSON"},
      {"{\"title\": \"\xFF\"}", "is not JSON"}};
  for (const auto& [schema, reason] : refused) {
    EXPECT_THAT(Refusal(schema), HasSubstr(reason)) << schema;
    EXPECT_THAT(Refusal(schema), HasSubstr("schema at #"));
  }
}

TEST(JsonSchema, ContradictionsSayWhere) {
  const std::vector<std::pair<std::string, std::string>> refused = {
      {"false", "#: false allows no value"},
      {R"({"type": "string", "minLength": 5, "maxLength": 3})",
       "#: minLength 5 is above maxLength 3"},
      {R"({"type": "integer", "minimum": 5, "maximum": 3})", "minimum 5 is not below maximum 3"},
      {R"({"type": "integer", "minimum": 0.2, "maximum": 0.8})", "#: no number is in its bounds"},
      {R"({"type": "array", "minItems": 2, "maxItems": 1})", "minItems 2 is above maxItems 1"},
      {R"({"type": "array", "minItems": 1, "items": false})", "at least 1 elements are required"},
      {R"({"type": "null", "enum": ["a"]})", "#/enum: none of the values is allowed"},
      {R"({"allOf": [{"type": "null"}, {"type": "string"}]})", "#/allOf/1/type: none of the types"},
      {R"({"type": "object", "required": ["a"], "properties": {"a": false}})",
       "#: the required member 'a' has no value; #/properties/a: false allows no value"},
      {R"({"type": "object", "required": ["a"], "additionalProperties": false})",
       "the required member 'a' has no value"},
      {R"({"type": "object", "required": ["abc"], "propertyNames": {"maxLength": 2}})",
       "#/propertyNames: does not allow the name 'abc'"},
      {R"({"type": "string", "pattern": "^a", "format": "date"})",
       "no string matches all its rules"}};
  for (const auto& [schema, reason] : refused) {
    EXPECT_THAT(Refusal(schema), HasSubstr("no value is allowed; ")) << schema;
    EXPECT_THAT(Refusal(schema), HasSubstr(reason)) << schema;
  }
  // Of what may be left out, nothing is said.
  Expect(R"({"anyOf": [false, {"type": "null"}]})", {"null"}, {"1"});
  Expect(R"({"type": "object", "properties": {"a": false}})", {"{}", R"({"b":1})"}, {R"({"a":1})"});
}

TEST(JsonSchema, LimitsAreNamed) {
  std::string nested = "true";
  for (int i = 0; i < 40; ++i) nested = absl::StrCat(R"({"items":)", nested, "}");
  EXPECT_TRUE(JsonSchemaGrammar(nested, JsonSchemaLimits()).ok());
  for (int i = 0; i < 40; ++i) nested = absl::StrCat(R"({"items":)", nested, "}");
  EXPECT_THAT(Refusal(nested), HasSubstr("nests deeper than 64 levels"));
  JsonSchemaLimits few;
  few.max_members = 2;
  EXPECT_THAT(Refusal(R"({"title": "", "default": 1, "items": {}})", few),
              HasSubstr("an object has more than 2 members"));
  few = JsonSchemaLimits();
  few.max_schemas = 20;
  // 3^6 combinations.
  std::string product = R"({"allOf": [)";
  for (int i = 0; i < 6; ++i) {
    absl::StrAppend(&product, i > 0 ? "," : "", R"({"anyOf": [{"minimum": )", i,
                    R"(}, {"maximum": )", i, R"(}, {"maxLength": )", i, "}]}");
  }
  EXPECT_THAT(Refusal(product + "]}", few), HasSubstr("more than 20 combinations"));
  few = JsonSchemaLimits();
  few.regex.max_states = 1'000;
  EXPECT_THAT(
      Refusal(R"({"type": "array", "items": {"type": "string", "pattern": "^a{1000}$"}})", few),
      HasSubstr("schema at #/items/pattern: needs more than the limit of 1000 automaton states"));
}

TEST(JsonSchema, StringsMayBeEscaped) {
  Expect(R"({"type": "string", "maxLength": 1})",
         {R"("")", R"("a")", R"("\u0061")", R"("\n")", "\"\U0001F600\"", R"("\ud83d\ude00")"},
         {R"("ab")", R"("\ud83d")", "\"\n\"", "\"\xFF\""});
  Expect(R"({"type": "string", "pattern": "^a+$"})", {R"("aa")", R"("a\u0061")"}, {R"("ab")"});
}

TEST(JsonSchema, FormatsAreOffered) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> valid = {
      {"date", {"2024-02-29", "2000-02-29", "0001-12-31"}},
      {"time", {"23:59:59Z", "00:00:00.123+05:30"}},
      {"date-time", {"2024-02-29T12:00:00Z", "1990-12-31t15:59:50.1-08:00"}},
      {"duration", {"P1Y2M3DT4H5M6S", "PT0S", "P4W", "P1M", "PT36H"}},
      {"email", {"joe@example.com", "a.b+c@d"}},
      {"hostname", {"a", "www.example.com", "x-1.y"}},
      {"ipv4", {"0.0.0.0", "255.249.199.10"}},
      {"ipv6",
       {"::", "::1", "1::", "1:2:3:4:5:6:7:8", "::ffff:1.2.3.4", "1:2:3:4:5:6:1.2.3.4",
        "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8"}},
      {"uuid", {"2eb8aa08-AA98-11ea-b4aa-73b441d16380"}}};
  const std::vector<std::pair<std::string, std::vector<std::string>>> invalid = {
      {"date", {"2023-02-29", "1900-02-29", "2024-04-31", "2024-13-01", "0000-01-01", "24-01-01"}},
      {"time", {"24:00:00Z", "23:60:00Z", "12:00:00", "12:00:00.Z"}},
      {"date-time", {"2023-02-29T12:00:00Z", "2024-01-01 12:00:00Z"}},
      {"duration", {"P", "PT", "P1YT", "P1W1D", "P1Y1D", "1Y"}},
      {"email", {"joe", "@a", "a@", "a..b@c", "a@-b"}},
      {"hostname", {"", "-a", "a-", "a..b", ".", "a--b"}},
      {"ipv4", {"256.0.0.0", "1.2.3", "01.2.3.4", "1.2.3.4.5"}},
      {"ipv6",
       {":", "1:2:3:4:5:6:7", "1::2::3", "1:2:3:4:5:6:7:8:9", "12345::", "::1:2:3:4:5:6:7:8",
        "1:2:3:4:5:6:7:1.2.3.4"}},
      {"uuid", {"2eb8aa08aa9811eab4aa73b441d16380"}}};
  for (const auto& [format, texts] : valid) {
    const auto constraint = Compiled(absl::StrCat(R"({"type":"string","format":")", format, "\"}"));
    for (const std::string& text : texts)
      EXPECT_TRUE(Matches(constraint, '"' + text + '"')) << text;
  }
  for (const auto& [format, texts] : invalid) {
    const auto constraint = Compiled(absl::StrCat(R"({"type":"string","format":")", format, "\"}"));
    for (const std::string& text : texts)
      EXPECT_FALSE(Matches(constraint, '"' + text + '"')) << text;
  }
}

TEST(JsonSchema, IntegerRangesAreExact) {
  std::mt19937 random(5);
  const auto below = [&random](int n) {
    return std::uniform_int_distribution<int>(0, n - 1)(random);
  };
  int checked = 0;
  for (int round = 0; round < 150; ++round) {
    const int scale = round % 3 == 0 ? 30 : 1'200;
    const int low = below(2 * scale) - scale;
    const int high = low + below(scale);
    const int multiple = 1 + below(12);
    const bool exclusive = below(2) == 0;
    const auto grammar = JsonSchemaGrammar(
        absl::StrCat(R"({"type": "integer", ")", exclusive ? "exclusiveMinimum" : "minimum",
                     "\": ", low, ", \"maximum\": ", high, ", \"multipleOf\": ", multiple, "}"),
        JsonSchemaLimits());
    std::vector<int> allowed;
    for (int i = low + (exclusive ? 1 : 0); i <= high; ++i) {
      if (i % multiple == 0) allowed.push_back(i);
    }
    if (allowed.empty()) {
      EXPECT_FALSE(grammar.ok());
      continue;
    }
    ASSERT_TRUE(grammar.ok()) << grammar.status();
    const auto constraint = CompileForBytes(*grammar);
    ASSERT_TRUE(constraint.ok());
    size_t at = 0;
    for (int i = low - 30; i <= high + 30; ++i, ++checked) {
      const bool in = at < allowed.size() && allowed[at] == i;
      at += in ? 1 : 0;
      EXPECT_EQ(Matches(*constraint, absl::StrCat(i)), in) << i << " of " << low << ".." << high;
      EXPECT_FALSE(Matches(*constraint, absl::StrCat("0", i))) << i;
    }
    EXPECT_FALSE(Matches(*constraint, "-0"));
  }
  EXPECT_GE(checked, 20'000);
}

TEST(JsonSchema, NumberRangesAreExact) {
  std::mt19937 random(6);
  const auto below = [&random](int n) {
    return std::uniform_int_distribution<int>(0, n - 1)(random);
  };
  const auto numeral = [&below]() {
    return absl::StrCat(below(2) == 0 ? "-" : "", below(30), below(3) == 0 ? "" : ".", below(1'000))
        .substr(0, 6);
  };
  const auto sound = [](const std::string& text) { return Json::accept(text); };
  int inside = 0;
  for (int round = 0; round < 200; ++round) {
    std::string low = numeral();
    std::string high = numeral();
    if (!sound(low) || !sound(high)) continue;
    if (std::stod(low) > std::stod(high)) std::swap(low, high);
    const auto grammar = JsonSchemaGrammar(absl::StrCat(R"({"type": "number", "minimum": )", low,
                                                        R"(, "exclusiveMaximum": )", high, "}"),
                                           JsonSchemaLimits());
    if (std::stod(low) == std::stod(high)) {
      EXPECT_FALSE(grammar.ok());
      continue;
    }
    ASSERT_TRUE(grammar.ok()) << grammar.status();
    const auto constraint = CompileForBytes(*grammar);
    for (int i = 0; i < 60; ++i) {
      const std::string text = i == 0 ? low : i == 1 ? high : numeral();
      if (!sound(text) || (text[0] == '-' && std::stod(text) == 0)) continue;
      const bool in = std::stod(text) >= std::stod(low) && std::stod(text) < std::stod(high);
      EXPECT_EQ(Matches(*constraint, text), in) << text << " of " << low << ".." << high;
      inside += in ? 1 : 0;
    }
    GrammarSampler sampler(*grammar, round);
    for (int i = 0; i < 10; ++i) {
      const double value = std::stod(sampler.Sample(12));
      EXPECT_TRUE(value >= std::stod(low) && value < std::stod(high)) << value;
    }
  }
  EXPECT_GE(inside, 1'000);
}

TEST(JsonSchema, MultiplesOfDecimalsAreExact) {
  Expect(R"({"type": "number", "multipleOf": 0.01})", {"1.13", "0.07", "-3", "12.1"},
         {"1.131", "0.001"});
  Expect(R"({"type": "number", "multipleOf": 2.5, "minimum": 0})", {"0", "2.5", "5", "5.0", "12.5"},
         {"2", "2.55", "-2.5", "1.0"});
  Expect(R"({"type": "integer", "multipleOf": 2.5})", {"0", "5", "-10"}, {"2", "2.5"});
}

TEST(JsonSchema, NumbersAreThoseOfJson) {
  Expect(R"({"type": "number"})", {"0", "-0", "1.5e10", "1E-5", "123456789012345678"},
         {"01", "1.", ".5", "+1", "1e", "1e999", "1234567890123456789", "-", "NaN"});
  Expect(R"({"type": "number", "minimum": -1e3})", {"-1000", "-999.5", "0.25"},
         {"-1000.1", "1e3", "-0"});
  Expect(R"({"type": "integer", "minimum": 12345678901234567})", {"12345678901234567"},
         {"12345678901234566", "1"});
}

TEST(Decimal, OfEveryForm) {
  const auto text = [](const char* number) { return ToString(Decimal::Of(Json::parse(number))); };
  EXPECT_EQ(text("-0.0"), "0");
  EXPECT_EQ(text("1e3"), "1000");
  EXPECT_EQ(text("12.50"), "12.5");
  EXPECT_EQ(text("-1.5e-7"), "-0.00000015");
  EXPECT_EQ(text("18446744073709551615"), "18446744073709551615");
  EXPECT_EQ(text("0.1"), "0.1");
  EXPECT_LT(Decimal::Of(Json::parse("-2")), Decimal::Of(Json::parse("-1.5")));
  EXPECT_LT(Decimal::Of(Json::parse("0.15")), Decimal::Of(Json::parse("0.2")));
  EXPECT_LT(Decimal::Of(Json::parse("9.9")), Decimal::Of(Json::parse("10")));
}

// Random values, written by nlohmann in several ways, match; what is sampled parses.
class RandomValue {
 public:
  explicit RandomValue(uint32_t seed) : random_(seed) {}

  Json Make(int depth) {
    switch (Below(depth == 0 ? 5 : 7)) {
      case 0:
        return nullptr;
      case 1:
        return Below(2) == 0;
      case 2:
        return Below(2'000'000) - 1'000'000;
      case 3:
        return std::ldexp(Below(1'000), Below(40) - 20);
      case 4:
        return Text();
      case 5: {
        Json array = Json::array();
        for (int i = Below(4); i > 0; --i) array.push_back(Make(depth - 1));
        return array;
      }
      default: {
        Json object = Json::object();
        for (int i = Below(4); i > 0; --i) object[Text()] = Make(depth - 1);
        return object;
      }
    }
  }

 private:
  int Below(int n) { return std::uniform_int_distribution<int>(0, n - 1)(random_); }

  std::string Text() {
    static constexpr const char* kParts[] = {"a",    "\"",     "\\",     "/",          "\n", "\x01",
                                             "\x7F", "\u00e9", "\uFFFF", "\U0001F600", " ",  "{"};
    std::string text;
    for (int i = Below(5); i > 0; --i) text += kParts[Below(12)];
    return text;
  }

  std::mt19937 random_;
};

TEST(JsonGrammar, TakesWhatNlohmannWrites) {
  const auto grammar = JsonGrammar();
  ASSERT_TRUE(grammar.ok()) << grammar.status();
  const auto constraint = CompileForBytes(*grammar);
  ASSERT_TRUE(constraint.ok());
  for (uint32_t seed = 0; seed < 1'000; ++seed) {
    const Json value = RandomValue(seed).Make(4);
    for (const std::string& text : {value.dump(), value.dump(2), value.dump(-1, ' ', true)}) {
      EXPECT_TRUE(Matches(*constraint, text)) << text;
      EXPECT_FALSE(Matches(*constraint, text + ",")) << text;
    }
  }
  GrammarSampler sampler(*grammar, 1);
  for (int i = 0; i < 1'000; ++i) {
    const std::string text = sampler.Sample(100);
    EXPECT_TRUE(Json::accept(text)) << text;
    EXPECT_TRUE(Matches(*constraint, text)) << text;
  }
}

TEST(JsonSchema, ConstOfAnyValueMatchesIt) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    const Json value = RandomValue(seed).Make(3);
    const auto constraint = Compiled(Json({{"const", value}}).dump());
    for (const std::string& text : {value.dump(), value.dump(2), value.dump(-1, ' ', true)}) {
      EXPECT_TRUE(Matches(constraint, text)) << text;
    }
  }
}

}  // namespace
}  // namespace based
