#include "engine/constraint/json_parts.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/constraint/dfa_bytes.h"
#include "kernels/base/status.h"

namespace based {
namespace {

bool IsPlain(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return c >= ' ' && c < 0x7F && c != '"' && c != '\\'; });
}

std::string KeyOf(const NumberBounds& bounds) {
  std::string key = bounds.integer ? "integer" : "number";
  const auto add = [&key](const char* name, const std::optional<NumberBounds::Bound>& bound) {
    if (bound) absl::StrAppend(&key, name, bound->exclusive ? "=" : "", ToString(bound->value));
  };
  add(">", bounds.lower);
  add("<", bounds.upper);
  for (const Decimal& multiple : bounds.multiples) absl::StrAppend(&key, "*", ToString(multiple));
  return key;
}

}  // namespace

JsonParts::Node JsonParts::Space() {
  if (space_ < 0) {
    const Node blank = grammar_.OneOf(ByteSet().set(' '));
    space_ = grammar_.Choice(
        {grammar_.Bytes(""), grammar_.Bytes(" "),
         grammar_.Sequence({grammar_.Bytes("\n"), grammar_.Repeat(blank, 0, kMostIndent)})});
  }
  return space_;
}

JsonParts::Node JsonParts::Open(char bracket) {
  return grammar_.Sequence({grammar_.Bytes(std::string(1, bracket)), Space()});
}

JsonParts::Node JsonParts::Close(char bracket) {
  return grammar_.Sequence({Space(), grammar_.Bytes(std::string(1, bracket))});
}

JsonParts::Node JsonParts::Comma() { return grammar_.Sequence({grammar_.Bytes(","), Space()}); }

JsonParts::Node JsonParts::Colon() {
  return grammar_.Sequence({grammar_.Bytes(":"), grammar_.Optional(grammar_.Bytes(" "))});
}

JsonParts::Node JsonParts::List(Node first, Node more, int64_t min, int64_t max) {
  return grammar_.Sequence({first, grammar_.Repeat(grammar_.Sequence({Comma(), more}), min, max)});
}

JsonParts::Node JsonParts::Bracketed(char open, Node content, char close, bool maybe_empty) {
  const Node full = grammar_.Sequence({Open(open), content, Close(close)});
  if (!maybe_empty) return full;
  return grammar_.Choice({grammar_.Bytes(std::string({open, close})), full});
}

absl::StatusOr<JsonParts::Node> JsonParts::String(const CharDfa& dfa, bool any_escape) {
  const DfaSpelling spelling =
      any_escape ? DfaSpelling::kJsonAnyEscape : DfaSpelling::kJsonNeededEscape;
  BASED_ASSIGN_OR_RETURN(ByteFsa fsa, RenderDfa(dfa, spelling, budget_));
  const Node quote = grammar_.Bytes("\"");
  return grammar_.Sequence({quote, grammar_.Fsa(std::move(fsa)), quote});
}

absl::StatusOr<JsonParts::Node> JsonParts::Character() {
  if (character_ < 0) {
    BASED_ASSIGN_OR_RETURN(const CharDfa one, LengthDfa(1, 1, budget_));
    BASED_ASSIGN_OR_RETURN(ByteFsa fsa, RenderDfa(one, DfaSpelling::kJsonAnyEscape, budget_));
    character_ = grammar_.Fsa(std::move(fsa));
  }
  return character_;
}

absl::StatusOr<JsonParts::Node> JsonParts::String(int64_t min, int64_t max) {
  const bool any = min == 0 && max == Grammar::kUnbounded;
  if (any && string_ >= 0) return string_;
  BASED_ASSIGN_OR_RETURN(const Node character, Character());
  const Node quote = grammar_.Bytes("\"");
  const Node node = grammar_.Sequence({quote, grammar_.Repeat(character, min, max), quote});
  if (any) string_ = node;
  return node;
}

absl::StatusOr<JsonParts::Node> JsonParts::Literal(std::string_view text) {
  if (IsPlain(text)) return grammar_.Bytes(absl::StrCat("\"", std::string(text), "\""));
  BASED_ASSIGN_OR_RETURN(const CharDfa dfa, LiteralsDfa({std::string(text)}, budget_));
  return String(dfa, false);
}

absl::StatusOr<JsonParts::Node> JsonParts::Number(const NumberBounds& bounds) {
  const auto [found, added] = numbers_.try_emplace(KeyOf(bounds), -1);
  Node& node = found->second;
  if (!added) return node;
  BASED_ASSIGN_OR_RETURN(const CharDfa dfa, NumberDfa(bounds, budget_));
  if (dfa.empty()) {
    node = grammar_.Choice({});
  } else {
    BASED_ASSIGN_OR_RETURN(ByteFsa fsa, RenderDfa(dfa, DfaSpelling::kUtf8, budget_));
    node = grammar_.Fsa(std::move(fsa));
  }
  return node;
}

absl::StatusOr<JsonParts::Node> JsonParts::Value(const Json& value) {
  if (value.is_string()) return Literal(value.get_ref<const std::string&>());
  if (value.is_number_float()) {
    constexpr double kMostExact = 1e15;
    const double number = value.get<double>();
    const std::string text = value.dump();
    if (std::abs(number) >= kMostExact || number != std::floor(number)) return grammar_.Bytes(text);
    // 1.0 is equal to 1.
    return grammar_.Choice(
        {grammar_.Bytes(text), grammar_.Bytes(absl::StrCat(static_cast<int64_t>(number)))});
  }
  if (!value.is_structured()) return grammar_.Bytes(value.dump());
  if (value.empty()) return grammar_.Bytes(value.dump());
  std::vector<Node> parts;
  for (const auto& [key, member] : value.items()) {
    if (!parts.empty()) parts.push_back(Comma());
    if (value.is_object()) {
      BASED_ASSIGN_OR_RETURN(const Node name, Literal(key));
      parts.push_back(name);
      parts.push_back(Colon());
    }
    BASED_ASSIGN_OR_RETURN(const Node node, Value(member));
    parts.push_back(node);
  }
  const Node content = grammar_.Sequence(std::move(parts));
  return value.is_object() ? Bracketed('{', content, '}', false)
                           : Bracketed('[', content, ']', false);
}

absl::StatusOr<JsonParts::Node> JsonParts::Any() {
  if (any_ < 0) {
    any_ = grammar_.NewRule("any value");
    BASED_ASSIGN_OR_RETURN(const Node string, String(0, Grammar::kUnbounded));
    BASED_ASSIGN_OR_RETURN(const Node number, Number(NumberBounds()));
    BASED_ASSIGN_OR_RETURN(const Node array, AnyArray());
    BASED_ASSIGN_OR_RETURN(const Node object, AnyObject());
    grammar_.Define(any_, grammar_.Choice({string, number, object, array, grammar_.Bytes("true"),
                                           grammar_.Bytes("false"), grammar_.Bytes("null")}));
  }
  return grammar_.Use(any_);
}

absl::StatusOr<JsonParts::Node> JsonParts::AnyArray() {
  BASED_ASSIGN_OR_RETURN(const Node value, Any());
  return Bracketed('[', List(value, value, 0, Grammar::kUnbounded), ']', true);
}

absl::StatusOr<JsonParts::Node> JsonParts::AnyObject() {
  BASED_ASSIGN_OR_RETURN(const Node value, Any());
  BASED_ASSIGN_OR_RETURN(const Node name, String(0, Grammar::kUnbounded));
  const Node member = grammar_.Sequence({name, Colon(), value});
  return Bracketed('{', List(member, member, 0, Grammar::kUnbounded), '}', true);
}

absl::StatusOr<Grammar> JsonGrammar() {
  constexpr int64_t kMostStates = 10'000;  // some hundreds are needed
  Grammar grammar;
  DfaBudget budget(kMostStates, std::chrono::minutes(1));
  BASED_ASSIGN_OR_RETURN(const JsonParts::Node any, JsonParts(grammar, budget).Any());
  grammar.SetStart(any);
  return grammar;
}

}  // namespace based
