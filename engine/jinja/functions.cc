#include "engine/jinja/functions.h"

#include <array>
#include <ctime>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/jinja/operators.h"
#include "engine/jinja/strings.h"

namespace based::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;  // as Jinja's sandbox has it

Value RaiseException(Run& run, const CallValues& values) {
  if (values.unnamed.size() != 1 || !values.named.empty()) {
    return run.Fail("raise_exception takes one argument");
  }
  const std::string message = ToText(run, values.unnamed[0]);
  return run.Raise(message);
}

Value MakeNamespace(Run& run, const CallValues& values) {
  Entries entries;
  if (values.unnamed.size() == 1 && values.unnamed[0].is_dict()) {
    if (!run.Spend(values.unnamed[0].entries().size() * kStepCost)) return {};
    entries = values.unnamed[0].entries();
  } else if (!values.unnamed.empty()) {
    return run.Fail("namespace takes names with values, or one dict");
  }
  for (const auto& [name, value] : values.named) {
    if (!run.Spend(entries.size())) return {};
    SetEntry(entries, name, run.Contained(value));
  }
  return Value::OfNamespace(std::move(entries));
}

Value Range(Run& run, const CallValues& values) {
  std::array<int64_t, 3> bounds = {0, 0, 1};
  const size_t count = values.unnamed.size();
  if (count < 1 || count > 3 || !values.named.empty()) {
    return run.Fail("range takes one to three integers");
  }
  for (size_t i = 0; i < count; ++i) {
    const Value& value = values.unnamed[i];
    if (!value.is_integral()) return run.Fail("range takes one to three integers");
    bounds[count == 1 ? 1 : i] = value.integer();
  }
  const auto [start, stop, step] = bounds;
  if (step == 0) return run.Fail("range: the step is 0");
  Items items;
  int64_t next = start;
  while (step > 0 ? next < stop : next > stop) {
    if (static_cast<int64_t>(items.size()) >= kMaxRange) {
      return run.Fail(absl::StrCat("range: more than ", kMaxRange, " numbers"));
    }
    if (!run.Step()) return {};
    items.emplace_back(next);
    if (__builtin_add_overflow(next, step, &next)) break;
  }
  return Value::OfList(std::move(items));
}

// datetime.now().strftime(format)
Value StrftimeNow(Run& run, const CallValues& values) {
  if (values.unnamed.size() != 1 || !values.named.empty()) {
    return run.Fail("strftime_now takes one argument");
  }
  const std::string format = TextArgument(run, values.unnamed[0], "the format of strftime_now");
  const std::time_t now = std::chrono::system_clock::to_time_t(run.now());
  std::tm local = {};
  std::array<char, 1000> text = {};
  localtime_r(&now, &local);
  // One character more, so that an empty result is none that did not fit.
  const size_t size = std::strftime(text.data(), text.size(), (format + ".").c_str(), &local);
  if (size == 0) return run.Fail("strftime_now: the text is too long");
  return std::string(text.data(), size - 1);
}

constexpr std::pair<std::string_view, GlobalFunction> kFunctions[] = {
    {"raise_exception", RaiseException},
    {"namespace", MakeNamespace},
    {"range", Range},
    {"strftime_now", StrftimeNow},
};

}  // namespace

GlobalFunction FindFunction(std::string_view name) {
  for (const auto& [known, function] : kFunctions) {
    if (known == name) return function;
  }
  return nullptr;
}

const std::vector<std::string_view>& FunctionNames() {
  static const auto* names = [] {
    auto* list = new std::vector<std::string_view>;
    for (const auto& [name, function] : kFunctions) list->push_back(name);
    return list;
  }();
  return *names;
}

}  // namespace based::jinja
