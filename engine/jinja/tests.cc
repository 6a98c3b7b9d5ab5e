// Jinja's tests: what may follow "is".
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "engine/jinja/builtins.h"
#include "engine/jinja/operators.h"

namespace based::jinja {
namespace {

using Kind = Value::Kind;

// value % divisor
double Rest(Run& run, const Value& value, const Value& divisor) {
  const Value rest = Arithmetic(run, "%", value, divisor);
  return rest.is_number() ? rest.number() : 0;
}

bool Iterable(const Value& value) {
  return value.undefined() || value.is_string() || value.is_list() || value.is_dict();
}

bool HasCase(Run& run, const Value& value, bool upper) {
  bool letters = false;
  for (const char c : ToText(run, value)) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte >= 128) {
      run.Fail("letters' case is told in ASCII alone");
      return false;
    }
    if (upper ? absl::ascii_islower(byte) : absl::ascii_isupper(byte)) return false;
    letters = letters || absl::ascii_isalpha(byte);
  }
  return letters;
}

bool IsEqual(Run& run, const Value& value, const Value& other) { return Equal(run, value, other); }
bool IsIn(Run& run, const Value& value, const Value& other) {
  return Compare(run, "in", value, other);
}

const auto& Tests() {
  using V = const Value&;
  static const auto* tests = new std::vector<Test>{
      {"defined", false, [](Run&, V v, V) { return !v.undefined(); }},
      {"undefined", false, [](Run&, V v, V) { return v.undefined(); }},
      {"none", false, [](Run&, V v, V) { return v.none(); }},
      {"string", false, [](Run&, V v, V) { return v.is_string(); }},
      {"mapping", false, [](Run&, V v, V) { return v.is_dict(); }},
      {"iterable", false, [](Run&, V v, V) { return Iterable(v); }},
      {"sequence", false,
       [](Run&, V v, V) { return Iterable(v) && !(v.is_list() && v.list().generator); }},
      {"number", false, [](Run&, V v, V) { return v.is_number(); }},
      {"integer", false, [](Run&, V v, V) { return v.kind() == Kind::kInteger; }},
      {"float", false, [](Run&, V v, V) { return v.kind() == Kind::kFloat; }},
      {"boolean", false, [](Run&, V v, V) { return v.kind() == Kind::kBool; }},
      {"true", false, [](Run&, V v, V) { return v.kind() == Kind::kBool && v.boolean(); }},
      {"false", false, [](Run&, V v, V) { return v.kind() == Kind::kBool && !v.boolean(); }},
      {"odd", false, [](Run& r, V v, V) { return Rest(r, v, int64_t{2}) == 1; }},
      {"even", false, [](Run& r, V v, V) { return Rest(r, v, int64_t{2}) == 0; }},
      {"divisibleby", true, [](Run& r, V v, V other) { return Rest(r, v, other) == 0; }},
      {"upper", false, [](Run& r, V v, V) { return HasCase(r, v, true); }},
      {"lower", false, [](Run& r, V v, V) { return HasCase(r, v, false); }},
      {"equalto", true, IsEqual},
      {"eq", true, IsEqual},
      {"==", true, IsEqual},
      {"ne", true, [](Run& r, V v, V other) { return !Equal(r, v, other); }},
      {"!=", true, [](Run& r, V v, V other) { return !Equal(r, v, other); }},
      {"in", true, IsIn},
  };
  return *tests;
}

}  // namespace

const Test* FindTest(std::string_view name) {
  for (const Test& test : Tests()) {
    if (test.name == name) return &test;
  }
  return nullptr;
}

}  // namespace based::jinja
