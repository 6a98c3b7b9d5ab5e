// Methods of strings and dicts.
#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/jinja/builtins.h"
#include "engine/jinja/operators.h"
#include "engine/jinja/strings.h"

namespace based::jinja {
namespace {

Value ListOf(Run& run, const std::vector<std::string_view>& parts, size_t bytes) {
  if (!run.Spend(parts.size() * kStepCost + bytes)) return {};
  Items items;
  for (const std::string_view part : parts) items.emplace_back(part);
  return Value::OfList(std::move(items));
}

Value SplitMethod(Run& run, const Value& subject, const Items& args, bool right) {
  const std::string& text = subject.string();
  const int64_t most = IntegerArgument(run, args[1], -1, "the number of cuts");
  const bool at_space = args[0].undefined() || args[0].none();
  const std::string separator = at_space ? "" : TextArgument(run, args[0], "the separator");
  if (!SpendSearch(run, text, separator)) return {};
  if (at_space && !right) return ListOf(run, Split(text, std::nullopt, most), text.size());
  if (separator.empty()) return run.Fail("the separator is empty or left out");
  return ListOf(run, right ? SplitRight(text, separator, most) : Split(text, separator, most),
                text.size());
}

// `place`: of the candidate in the text, for either end.
Value HasEnd(Run& run, const Value& subject, const Value& candidates, bool start) {
  const Items one = {candidates};
  for (const Value& candidate : candidates.is_list() ? candidates.items() : one) {
    const std::string end = TextArgument(run, candidate, "what the string begins or ends with");
    if (!run.Spend(kStepCost + end.size())) return {};
    if (start ? subject.string().starts_with(end) : subject.string().ends_with(end)) return true;
  }
  return false;
}

// Where the argument stands in the text, in characters; -1: nowhere.
Value FindText(Run& run, const Value& subject, const Items& args) {
  const std::string& text = subject.string();
  const std::string sought = TextArgument(run, args[0], "what is sought");
  if (!SpendSearch(run, text, sought)) return {};
  const size_t at = text.find(sought);
  if (at == std::string::npos) return int64_t{-1};
  return static_cast<int64_t>(CountCharacters(std::string_view(text).substr(0, at)));
}

Value CountText(Run& run, const Value& subject, const Items& args) {
  const std::string& text = subject.string();
  const std::string sought = TextArgument(run, args[0], "what is counted");
  if (!SpendSearch(run, text, sought)) return {};
  if (sought.empty()) return static_cast<int64_t>(CountCharacters(text)) + 1;
  int64_t count = 0;
  for (size_t at = text.find(sought); at != std::string::npos;
       at = text.find(sought, at + sought.size())) {
    ++count;
  }
  return count;
}

Value WithoutEnd(Run& run, const Value& subject, const Items& args, bool start) {
  std::string_view text = subject.string();
  const std::string end = TextArgument(run, args[0], "what is removed");
  if (!run.Spend(text.size() + end.size())) return {};
  if (start && text.starts_with(end)) text.remove_prefix(end.size());
  if (!start && text.ends_with(end)) text.remove_suffix(end.size());
  return text;
}

Value Pairs(Run& run, const Value& subject, const Items&) {
  if (!run.Spend(subject.entries().size() * 3 * kStepCost)) return {};
  Items pairs;
  for (const auto& [key, value] : subject.entries()) {
    pairs.push_back(Value::OfList({Value(key), value}));
  }
  return Value::OfList(std::move(pairs));
}

Value DictValues(Run& run, const Value& subject, const Items&) {
  if (!run.Spend(subject.entries().size() * kStepCost)) return {};
  Items values;
  for (const auto& [key, value] : subject.entries()) values.push_back(value);
  return Value::OfList(std::move(values));
}

Value Get(Run& run, const Value& subject, const Items& args) {
  if (!run.Spend(subject.entries().size())) return {};
  const Value* found =
      args[0].is_string() ? FindEntry(subject.entries(), args[0].string()) : nullptr;
  if (found != nullptr) return *found;
  return args[1].undefined() ? Value::None() : args[1];
}

// Unlike the filter, the method takes strings alone.
Value JoinMethod(Run& run, const Value& subject, const Items& args) {
  const Items parts = Iterate(run, args[0]);
  for (const Value& part : parts) {
    if (!part.is_string()) return run.Fail("join of what is no string");
  }
  return JoinedBy(run, subject.string(), args[0]);
}

const auto& StringMethods() {
  using Args = const Items&;
  static const auto* methods = new std::vector<Builtin>{
      {"strip",
       {"chars"},
       0,
       [](Run& r, const Value& s, Args a) { return Stripped(r, s.string(), Side::kBoth, a[0]); }},
      {"lstrip",
       {"chars"},
       0,
       [](Run& r, const Value& s, Args a) { return Stripped(r, s.string(), Side::kLeft, a[0]); }},
      {"rstrip",
       {"chars"},
       0,
       [](Run& r, const Value& s, Args a) { return Stripped(r, s.string(), Side::kRight, a[0]); }},
      {"upper",
       {},
       0,
       [](Run& r, const Value& s, Args) { return Cased(r, s.string(), Letters::kUpper); }},
      {"lower",
       {},
       0,
       [](Run& r, const Value& s, Args) { return Cased(r, s.string(), Letters::kLower); }},
      {"capitalize",
       {},
       0,
       [](Run& r, const Value& s, Args) { return Cased(r, s.string(), Letters::kCapitalized); }},
      {"title",
       {},
       0,
       [](Run& r, const Value& s, Args) { return Cased(r, s.string(), Letters::kTitle); }},
      {"split",
       {"sep", "maxsplit"},
       0,
       [](Run& r, const Value& s, Args a) { return SplitMethod(r, s, a, false); }},
      {"rsplit",
       {"sep", "maxsplit"},
       1,
       [](Run& r, const Value& s, Args a) { return SplitMethod(r, s, a, true); }},
      {"startswith",
       {"prefix"},
       1,
       [](Run& r, const Value& s, Args a) { return HasEnd(r, s, a[0], true); }},
      {"endswith",
       {"suffix"},
       1,
       [](Run& r, const Value& s, Args a) { return HasEnd(r, s, a[0], false); }},
      {"removeprefix",
       {"prefix"},
       1,
       [](Run& r, const Value& s, Args a) { return WithoutEnd(r, s, a, true); }},
      {"removesuffix",
       {"suffix"},
       1,
       [](Run& r, const Value& s, Args a) { return WithoutEnd(r, s, a, false); }},
      {"replace",
       {"old", "new", "count"},
       2,
       [](Run& r, const Value& s, Args a) { return Replaced(r, s.string(), a[0], a[1], a[2]); }},
      {"find", {"sub"}, 1, FindText},
      {"count", {"sub"}, 1, CountText},
      {"join", {"iterable"}, 1, JoinMethod},
  };
  return *methods;
}

const auto& DictMethods() {
  static const auto* methods = new std::vector<Builtin>{
      {"items", {}, 0, Pairs},
      {"keys",
       {},
       0,
       [](Run& r, const Value& s, const Items&) { return Value::OfList(Iterate(r, s)); }},
      {"values", {}, 0, DictValues},
      {"get", {"key", "default"}, 1, Get},
  };
  return *methods;
}

const Builtin* Find(const std::vector<Builtin>& methods, std::string_view name) {
  for (const Builtin& method : methods) {
    if (method.name == name) return &method;
  }
  return nullptr;
}

}  // namespace

const Builtin* FindMethod(std::string_view name) {
  const Builtin* found = Find(StringMethods(), name);
  return found != nullptr ? found : Find(DictMethods(), name);
}

bool HasMethod(const Value& value, std::string_view name) {
  return (value.is_string() && Find(StringMethods(), name) != nullptr) ||
         (value.is_dict() && Find(DictMethods(), name) != nullptr);
}

}  // namespace based::jinja
