// Parts of values: attributes, items, slices, and what loops see.
#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "engine/jinja/builtins.h"
#include "engine/jinja/operators.h"
#include "engine/jinja/text.h"

namespace based::jinja {
namespace {

using Kind = Value::Kind;

Value AttributeOfLoop(const Loop& loop, const std::string& name) {
  const auto index = static_cast<int64_t>(loop.index0);
  const auto length = static_cast<int64_t>(loop.items->size());
  if (name == "index") return index + 1;
  if (name == "index0") return index;
  if (name == "revindex") return length - index;
  if (name == "revindex0") return length - index - 1;
  if (name == "first") return index == 0;
  if (name == "last") return index + 1 == length;
  if (name == "length") return length;
  if (name == "depth") return loop.depth0 + 1;
  if (name == "depth0") return loop.depth0;
  if (name == "previtem" && index > 0) return (*loop.items)[loop.index0 - 1];
  if (name == "nextitem" && index + 1 < length) return (*loop.items)[loop.index0 + 1];
  return Value::Undefined(absl::StrCat("'loop' has no ", name));
}

std::optional<int64_t> Bound(Run& run, const Value& value) {
  if (value.undefined() || value.none()) return std::nullopt;
  if (value.is_integral()) return value.integer();
  run.Fail(absl::StrCat("a slice by ", value.type_name(), " is not possible"));
  return std::nullopt;
}

std::string SliceText(Run& run, const std::string& text, const SliceRange& range) {
  if (!run.Spend(text.size())) return "";
  if (range.step == 1) {
    const size_t begin = OffsetOf(text, static_cast<size_t>(range.start));
    const std::string_view rest = std::string_view(text).substr(begin);
    return std::string(rest.substr(0, OffsetOf(rest, static_cast<size_t>(range.count))));
  }
  if (!run.Spend(text.size() * sizeof(std::string_view))) return "";
  const std::vector<std::string_view> characters = Characters(text);
  std::string out;
  for (int64_t i = 0; i < range.count; ++i) out += characters[range.start + i * range.step];
  return out;
}

// What a dict's or a namespace's entry, or an attribute of `loop`, is called `name`.
// `method_first`: a method of that name is found before an entry.
Value Named(Run& run, const Value& value, const std::string& name, bool method_first) {
  if (value.undefined()) return run.Fail(value.reason());
  if (!run.Spend(name.size())) return {};
  if (value.kind() == Kind::kLoop) return AttributeOfLoop(value.loop(), name);
  const bool method = (value.is_dict() || value.is_string()) && HasMethod(value, name);
  const Entries* entries = nullptr;
  if (value.is_dict()) entries = &value.entries();
  if (value.kind() == Kind::kNamespace) entries = &value.names().entries;
  if (entries != nullptr && !(method && method_first)) {
    if (!run.Spend(entries->size())) return {};
    if (const Value* found = FindEntry(*entries, name)) return *found;
  }
  if (method) return run.Fail(absl::StrCat("the method '", name, "' is not called"));
  return Value::Undefined(absl::StrCat("a ", value.type_name(), " has no '", name, "'"));
}

}  // namespace

Value Attribute(Run& run, const Value& value, const std::string& name) {
  return Named(run, value, name, /*method_first=*/true);
}

Value Item(Run& run, const Value& value, const Value& key) {
  if (key.is_string()) return Named(run, value, key.string(), /*method_first=*/false);
  if (value.undefined()) return run.Fail(value.reason());
  if (key.undefined()) return Value::Undefined(key.reason());
  if (key.is_integral() && (value.is_list() || value.is_string())) {
    if (value.is_string() && !run.Spend(value.string().size())) return {};
    const auto size = static_cast<int64_t>(value.is_list() ? value.items().size()
                                                           : CountCharacters(value.string()));
    int64_t index = key.integer();
    if (index < 0) index += size;
    if (index >= 0 && index < size && value.is_list() && !value.list().generator) {
      return value.items()[static_cast<size_t>(index)];
    }
    if (index >= 0 && index < size && value.is_string()) {
      return SliceText(run, value.string(), {index, 1, 1});
    }
    return Value::Undefined(
        absl::StrCat("a ", value.type_name(), " has no element ", key.integer()));
  }
  return Value::Undefined(
      absl::StrCat("a ", value.type_name(), " has no element of type ", key.type_name()));
}

Value Slice(Run& run, const Value& value, const Value (&bounds)[3]) {
  if (value.undefined()) return run.Fail(value.reason());
  if (!value.is_string() && !value.is_list()) {
    return run.Fail(absl::StrCat("a slice of ", value.type_name(), " is not possible"));
  }
  const std::optional<int64_t> start = Bound(run, bounds[0]);
  const std::optional<int64_t> stop = Bound(run, bounds[1]);
  const int64_t step = Bound(run, bounds[2]).value_or(1);
  if (step == 0) return run.Fail("a slice's step is 0");
  if (!run.ok()) return {};
  if (value.is_string()) {
    if (!run.Spend(value.string().size())) return {};
    const auto size = static_cast<int64_t>(CountCharacters(value.string()));
    return SliceText(run, value.string(), ResolveSlice(size, start, stop, step));
  }
  const Items& items = value.items();
  const SliceRange range = ResolveSlice(static_cast<int64_t>(items.size()), start, stop, step);
  if (!run.Spend(static_cast<size_t>(range.count) * kStepCost)) return {};
  Items out;
  for (int64_t i = 0; i < range.count; ++i) out.push_back(items[range.start + i * range.step]);
  return Value::OfList(std::move(out));
}

Items Iterate(Run& run, const Value& value) {
  Items items;
  switch (value.kind()) {
    case Kind::kUndefined:
      break;
    case Kind::kList:
      if (run.Spend(value.items().size() * kStepCost)) items = value.items();
      break;
    case Kind::kString:
      if (!run.Spend(value.string().size() * kStepCost)) break;
      for (const std::string_view character : Characters(value.string())) {
        items.emplace_back(character);
      }
      break;
    case Kind::kDict:
      if (!run.Spend(value.entries().size() * kStepCost)) break;
      for (const auto& [key, unused] : value.entries()) items.emplace_back(key);
      break;
    default:
      run.Fail(absl::StrCat("a ", value.type_name(), " cannot be iterated over"));
  }
  return items;
}

Value Length(Run& run, const Value& value) {
  if (value.undefined()) return int64_t{0};
  if (value.is_string()) {
    if (!run.Spend(value.string().size())) return {};
    return static_cast<int64_t>(CountCharacters(value.string()));
  }
  if (value.is_list() && !value.list().generator) {
    return static_cast<int64_t>(value.items().size());
  }
  if (value.is_dict()) return static_cast<int64_t>(value.entries().size());
  return run.Fail(absl::StrCat("a ", value.type_name(), " has no length"));
}

}  // namespace based::jinja
