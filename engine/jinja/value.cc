#include "engine/jinja/value.h"

#include <algorithm>
#include <limits>

namespace based::jinja {
namespace {

int DepthOf(const Items& items) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  return depth + 1;
}

int DepthOf(const Entries& entries) {
  int depth = 0;
  for (const auto& [key, value] : entries) depth = std::max(depth, value.depth());
  return depth + 1;
}

}  // namespace

Value Value::None() {
  Value value;
  value.data_ = std::monostate();
  return value;
}

Value Value::Undefined(std::string reason) {
  Value value;
  value.data_ = std::make_shared<const std::string>(std::move(reason));
  return value;
}

Value Value::OfList(Items items) {
  const int depth = DepthOf(items);
  Value value;
  value.data_ = std::make_shared<const List>(List{std::move(items), depth, false});
  return value;
}

Value Value::OfGenerator(Items items) {
  const int depth = DepthOf(items);
  Value value;
  value.data_ = std::make_shared<const List>(List{std::move(items), depth, true});
  return value;
}

Value Value::OfDict(Entries entries) {
  const int depth = DepthOf(entries);
  Value value;
  value.data_ = std::make_shared<const Dict>(Dict{std::move(entries), depth});
  return value;
}

Value Value::OfNamespace(Entries entries) {
  Value value;
  value.data_ = std::make_shared<Namespace>(Namespace{std::move(entries)});
  return value;
}

Value Value::OfJson(const nlohmann::json& json) {
  using Type = nlohmann::json::value_t;
  switch (json.type()) {
    case Type::boolean:
      return json.get<bool>();
    case Type::number_integer:
      return json.get<int64_t>();
    case Type::number_unsigned:
      if (json.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        return json.get<double>();
      }
      return json.get<int64_t>();
    case Type::number_float:
      return json.get<double>();
    case Type::string:
      return json.get<std::string>();
    case Type::array: {
      Items items;
      items.reserve(json.size());
      for (const nlohmann::json& item : json) items.push_back(OfJson(item));
      return OfList(std::move(items));
    }
    case Type::object: {
      Entries entries;
      entries.reserve(json.size());
      for (const auto& [key, value] : json.items()) entries.emplace_back(key, OfJson(value));
      return OfDict(std::move(entries));
    }
    default:
      return None();
  }
}

bool Value::is_number() const { return is_integral() || kind() == Kind::kFloat; }

const Items& Value::items() const { return list().items; }

const Entries& Value::entries() const {
  return std::get<std::shared_ptr<const Dict>>(data_)->entries;
}

int64_t Value::integer() const {
  return kind() == Kind::kBool ? int64_t{boolean()} : std::get<int64_t>(data_);
}

double Value::number() const {
  return kind() == Kind::kFloat ? std::get<double>(data_) : static_cast<double>(integer());
}

std::string Value::reason() const {
  const auto& reason = std::get<std::shared_ptr<const std::string>>(data_);
  return reason == nullptr ? "a value is undefined" : *reason;
}

bool Value::Truth() const {
  switch (kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInteger:
    case Kind::kFloat:
      return number() != 0;
    case Kind::kString:
      return !string().empty();
    case Kind::kList:
      return list().generator || !items().empty();
    case Kind::kDict:
      return !entries().empty();
    default:
      return true;
  }
}

int Value::depth() const {
  if (is_list()) return list().depth;
  return is_dict() ? std::get<std::shared_ptr<const Dict>>(data_)->depth : 0;
}

const char* Value::type_name() const {
  constexpr const char* kNames[] = {"Undefined", "NoneType", "bool",      "int",  "float",   "str",
                                    "list",      "dict",     "Namespace", "loop", "function"};
  return kNames[data_.index()];
}

const Value* FindEntry(const Entries& entries, std::string_view key) {
  for (const auto& [name, value] : entries) {
    if (name == key) return &value;
  }
  return nullptr;
}

void SetEntry(Entries& entries, std::string_view key, Value value) {
  for (auto& [name, old] : entries) {
    if (name == key) {
      old = std::move(value);
      return;
    }
  }
  entries.emplace_back(std::string(key), std::move(value));
}

}  // namespace based::jinja
