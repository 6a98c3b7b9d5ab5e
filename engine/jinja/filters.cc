// Jinja's filters.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/jinja/builtins.h"
#include "engine/jinja/json_text.h"
#include "engine/jinja/operators.h"
#include "engine/jinja/strings.h"

namespace based::jinja {
namespace {

using Args = const Items&;

Value ToJson(Run& run, const Value& subject, Args args) {
  JsonStyle style;
  style.ensure_ascii = args[0].Truth();
  if (args[1].is_string()) {
    style.indent = args[1].string();
  } else if (!args[1].undefined() && !args[1].none()) {
    const int64_t width = IntegerArgument(run, args[1], 0, "indent");
    if (width > 100) return run.Fail(absl::StrCat("indent is ", width, "; expected at most 100"));
    style.indent = std::string(width > 0 ? static_cast<size_t>(width) : 0, ' ');
  }
  if (style.indent) style.between_items.pop_back();
  if (args[2].is_list() && args[2].items().size() == 2) {
    style.between_items = TextArgument(run, args[2].items()[0], "separators[0]");
    style.after_key = TextArgument(run, args[2].items()[1], "separators[1]");
  } else if (!args[2].undefined() && !args[2].none()) {
    return run.Fail("separators are no pair of strings");
  }
  style.sort_keys = args[3].Truth();
  return JsonText(run, subject, style);
}

Value Default(Run&, const Value& subject, Args args) {
  const bool replaced = subject.undefined() || (args[1].Truth() && !subject.Truth());
  if (!replaced) return subject;
  return args[0].undefined() ? Value("") : args[0];
}

Value EndOf(Run& run, const Value& subject, bool last) {
  const Items items = Iterate(run, subject);
  if (items.empty()) return Value::Undefined("an empty sequence has no first or last item");
  return last ? items.back() : items.front();
}

Value Reverse(Run& run, const Value& subject, Args) {
  Items items = Iterate(run, subject);
  std::string text;
  for (auto item = items.rbegin(); subject.is_string() && item != items.rend(); ++item) {
    text += item->string();
  }
  if (subject.is_string()) return text;
  return Value::OfGenerator(Items(items.rbegin(), items.rend()));
}

// The text of a number without the underscores that Python lets stand between digits; nothing
// where they stand elsewhere, or for what Python's int and float take no number of: hexadecimal.
std::optional<std::string> Digits(std::string_view text) {
  const auto is_digit = [&](size_t at) {
    return at < text.size() && absl::ascii_isdigit(static_cast<uint8_t>(text[at]));
  };
  std::string digits;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == 'x' || text[i] == 'X') return std::nullopt;
    if (text[i] != '_') {
      digits += text[i];
    } else if (i == 0 || !is_digit(i - 1) || !is_digit(i + 1)) {
      return std::nullopt;
    }
  }
  return digits;
}

// Python's integers have no bound.
Value TooLarge(Run& run) {
  return run.Fail("an integer is beyond 64 bits, which is not supported");
}

Value ToInteger(Run& run, const Value& subject, Args args) {
  if (subject.undefined()) return run.Fail(subject.reason());
  const Value fallback = args[0].undefined() ? Value(int64_t{0}) : args[0];
  if (subject.is_integral()) return subject.integer();
  double number = 0;
  if (subject.is_string()) {
    if (!run.Spend(subject.string().size())) return {};
    int64_t integer = 0;
    const std::optional<std::string> text = Digits(Strip(subject.string(), Side::kBoth));
    if (!text) return fallback;
    if (absl::SimpleAtoi(*text, &integer)) return integer;
    const bool digits = std::all_of(text->begin(), text->end(), absl::ascii_isdigit);
    if (digits && !text->empty()) return TooLarge(run);
    if (!absl::SimpleAtod(*text, &number)) return fallback;
  } else if (subject.is_number()) {
    number = subject.number();
  } else {
    return fallback;
  }
  if (!std::isfinite(number)) return fallback;
  const double limit = std::ldexp(1.0, 63);
  if (std::trunc(number) >= limit || std::trunc(number) < -limit) {
    return TooLarge(run);
  }
  return static_cast<int64_t>(number);
}

Value Absolute(Run& run, const Value& subject, Args) {
  if (!subject.is_number()) return run.Fail("abs of what is no number");
  if (!subject.is_integral()) return std::fabs(subject.number());
  return subject.integer() < 0 ? Negate(run, subject) : Value(subject.integer());
}

// "a.b" of an item.
Value Path(Run& run, Value item, const Value& path) {
  const std::string names = TextArgument(run, path, "attribute");
  for (const std::string_view part : Split(names, ".", -1)) {
    if (!run.Step()) return {};
    item = Item(run, item, Value(part));
  }
  return item;
}

Value Map(Run& run, const Value& subject, Args args) {
  Items mapped;
  const Builtin* filter = nullptr;
  if (!args[0].undefined()) {
    filter = FindFilter(TextArgument(run, args[0], "the filter"));
    if (filter == nullptr || filter->required > 0) return run.Fail("map takes no such filter");
  } else if (args[1].undefined()) {
    return run.Fail("map needs a filter or attribute=");
  }
  for (const Value& item : Iterate(run, subject)) {
    if (!run.Step()) return {};
    Value value = filter != nullptr ? filter->apply(run, item, Items(filter->parameters.size()))
                                    : Path(run, item, args[1]);
    if (value.undefined() && !args[2].undefined()) value = args[2];
    mapped.push_back(run.Contained(std::move(value)));
  }
  return Value::OfGenerator(std::move(mapped));
}

// The items that a test holds for, or does not; `attribute`: of what, undefined: of the item.
Value Choose(Run& run, const Value& subject, const Value& attribute, const Value& test_name,
             const Value& argument, bool wanted) {
  const Test* test = nullptr;
  if (!test_name.undefined()) {
    test = FindTest(TextArgument(run, test_name, "the test"));
    if (test == nullptr || test->takes_argument == argument.undefined()) {
      return run.Fail("the test that selects is unknown, or has not its number of arguments");
    }
  }
  Items chosen;
  for (const Value& item : Iterate(run, subject)) {
    if (!run.Step()) return {};
    const Value value = attribute.undefined() ? item : Path(run, item, attribute);
    const bool holds = test == nullptr ? value.Truth() : test->holds(run, value, argument);
    if (holds == wanted) chosen.push_back(item);
  }
  return Value::OfGenerator(std::move(chosen));
}

Value Join(Run& run, const Value& subject, Args args) {
  Value parts = subject;
  if (!args[1].undefined()) {
    Items values;
    for (const Value& item : Iterate(run, subject)) {
      values.push_back(run.Contained(Path(run, item, args[1])));
    }
    parts = Value::OfList(std::move(values));
  }
  return JoinedBy(run, args[0].undefined() ? "" : ToText(run, args[0]), parts);
}

Value DictItems(Run& run, const Value& subject, Args) {
  if (subject.undefined()) return Value::OfGenerator({});
  if (!subject.is_dict()) return run.Fail("items of what is no mapping");
  return Value::OfGenerator(FindMethod("items")->apply(run, subject, {}).items());
}

template <Letters kLetters>
Value CaseFilter(Run& run, const Value& subject, Args) {
  return Cased(run, ToText(run, subject), kLetters);
}

// Jinja's words begin after whitespace and - ( { [ <, so that apostrophes end none.
Value Title(Run& run, const Value& subject, Args) {
  const Value lower = Cased(run, ToText(run, subject), Letters::kLower);
  if (!run.ok()) return {};
  std::string text = lower.string();
  bool begins = true;
  for (char& c : text) {
    const bool separates = std::string_view("-({[<").find(c) != std::string_view::npos ||
                           IsSpace(static_cast<uint8_t>(c));
    if (begins && !separates) c = absl::ascii_toupper(static_cast<uint8_t>(c));
    begins = separates;
  }
  return text;
}

const auto& Filters() {
  static const auto* filters = new std::vector<Builtin>{
      {"trim",
       {"chars"},
       0,
       [](Run& r, const Value& s, Args a) { return Stripped(r, ToText(r, s), Side::kBoth, a[0]); }},
      {"length", {}, 0, [](Run& r, const Value& s, Args) { return Length(r, s); }},
      {"count", {}, 0, [](Run& r, const Value& s, Args) { return Length(r, s); }},
      {"upper", {}, 0, CaseFilter<Letters::kUpper>},
      {"lower", {}, 0, CaseFilter<Letters::kLower>},
      {"capitalize", {}, 0, CaseFilter<Letters::kCapitalized>},
      {"title", {}, 0, Title},
      {"tojson", {"ensure_ascii", "indent", "separators", "sort_keys"}, 0, ToJson},
      {"join", {"d", "attribute"}, 0, Join},
      {"default", {"default_value", "boolean"}, 0, Default},
      {"d", {"default_value", "boolean"}, 0, Default},
      {"first", {}, 0, [](Run& r, const Value& s, Args) { return EndOf(r, s, false); }},
      {"last", {}, 0, [](Run& r, const Value& s, Args) { return EndOf(r, s, true); }},
      {"list", {}, 0, [](Run& r, const Value& s, Args) { return Value::OfList(Iterate(r, s)); }},
      {"reverse", {}, 0, Reverse},
      {"string", {}, 0, [](Run& r, const Value& s, Args) { return Value(ToText(r, s)); }},
      {"int", {"default"}, 0, ToInteger},
      {"abs", {}, 0, Absolute},
      {"replace",
       {"old", "new", "count"},
       2,
       [](Run& r, const Value& s, Args a) {
         return Replaced(r, ToText(r, s), ToText(r, a[0]), ToText(r, a[1]), a[2]);
       }},
      {"items", {}, 0, DictItems},
      {"map", {"filter", "attribute", "default"}, 0, Map},
      {"select",
       {"test", "argument"},
       0,
       [](Run& r, const Value& s, Args a) { return Choose(r, s, {}, a[0], a[1], true); }},
      {"reject",
       {"test", "argument"},
       0,
       [](Run& r, const Value& s, Args a) { return Choose(r, s, {}, a[0], a[1], false); }},
      {"selectattr",
       {"attribute", "test", "argument"},
       1,
       [](Run& r, const Value& s, Args a) { return Choose(r, s, a[0], a[1], a[2], true); }},
      {"rejectattr",
       {"attribute", "test", "argument"},
       1,
       [](Run& r, const Value& s, Args a) { return Choose(r, s, a[0], a[1], a[2], false); }},
      {"safe", {}, 0, [](Run& r, const Value& s, Args) { return Value(ToText(r, s)); }},
  };
  return *filters;
}

}  // namespace

const Builtin* FindFilter(std::string_view name) {
  for (const Builtin& filter : Filters()) {
    if (filter.name == name) return &filter;
  }
  return nullptr;
}

}  // namespace based::jinja
