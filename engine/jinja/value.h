// Values of the template language: Python's, as far as chat templates use them. Lists, dicts and
// strings are immutable and shared, so that a copy costs nothing.
#ifndef BASED_ENGINE_JINJA_VALUE_H_
#define BASED_ENGINE_JINJA_VALUE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "nlohmann/json.hpp"

namespace based::jinja {

class Value;
struct Statement;

using Items = std::vector<Value>;
using Entries = std::vector<std::pair<std::string, Value>>;  // in order of insertion

struct List;
struct Dict;
struct Namespace;
struct Loop;

// What `name` names where it is no value of the template: a macro of it, or a function of ours.
struct Function {
  std::string_view name;             // of the template or static
  const Statement* macro = nullptr;  // null: a function of ours
};

class Value {
 public:
  // In the order of the variant.
  enum class Kind : uint8_t {
    kUndefined,
    kNone,
    kBool,
    kInteger,
    kFloat,
    kString,
    kList,
    kDict,
    kNamespace,
    kLoop,
    kFunction,
  };

  Value() : data_(std::shared_ptr<const std::string>()) {}
  Value(bool value) : data_(value) {}     // NOLINT: a value of this kind
  Value(int64_t value) : data_(value) {}  // NOLINT
  Value(double value) : data_(value) {}   // NOLINT
  Value(std::string value)                // NOLINT
      : data_(Text{std::make_shared<const std::string>(std::move(value))}) {}
  Value(std::string_view value) : Value(std::string(value)) {}           // NOLINT
  Value(const char* value) : Value(std::string(value)) {}                // NOLINT
  Value(Function value) : data_(value) {}                                // NOLINT
  Value(std::shared_ptr<const Loop> value) : data_(std::move(value)) {}  // NOLINT

  static Value None();
  // `reason` is the error of whoever uses it as if it were something: "'x' is undefined".
  static Value Undefined(std::string reason);
  static Value OfList(Items items);
  // What Python makes a generator: it is true even when empty, and has no length.
  static Value OfGenerator(Items items);
  static Value OfDict(Entries entries);
  static Value OfNamespace(Entries entries);
  static Value OfJson(const nlohmann::json& json);

  Kind kind() const { return static_cast<Kind>(data_.index()); }
  bool undefined() const { return kind() == Kind::kUndefined; }
  bool none() const { return kind() == Kind::kNone; }
  bool is_string() const { return kind() == Kind::kString; }
  bool is_list() const { return kind() == Kind::kList; }
  bool is_dict() const { return kind() == Kind::kDict; }
  // bool, integer or float.
  bool is_number() const;
  // bool or integer.
  bool is_integral() const { return kind() == Kind::kBool || kind() == Kind::kInteger; }

  // REQUIRES the kind.
  const std::string& string() const { return *std::get<Text>(data_).text; }
  const List& list() const { return *std::get<std::shared_ptr<const List>>(data_); }
  const Items& items() const;
  const Entries& entries() const;
  Namespace& names() const { return *std::get<std::shared_ptr<Namespace>>(data_); }
  const Loop& loop() const { return *std::get<std::shared_ptr<const Loop>>(data_); }
  const Function& function() const { return std::get<Function>(data_); }
  bool boolean() const { return std::get<bool>(data_); }
  int64_t integer() const;  // of a bool or an integer
  double number() const;    // of any number
  std::string reason() const;

  // As Python's bool().
  bool Truth() const;
  // How deep lists and dicts nest in it; 0 for everything else.
  int depth() const;
  // May stand in a list, a dict or an attribute: neither namespace nor loop nor function, so that
  // values make no cycles.
  bool plain() const { return kind() < Kind::kNamespace; }
  // Python's name of the type, for messages.
  const char* type_name() const;

 private:
  struct Text {
    std::shared_ptr<const std::string> text;
  };
  std::variant<std::shared_ptr<const std::string>, std::monostate, bool, int64_t, double, Text,
               std::shared_ptr<const List>, std::shared_ptr<const Dict>, std::shared_ptr<Namespace>,
               std::shared_ptr<const Loop>, Function>
      data_;
};

struct List {
  Items items;
  int depth = 1;
  bool generator = false;
};

struct Dict {
  Entries entries;
  int depth = 1;
};

struct Namespace {
  Entries entries;
};

// The variable `loop` of one pass.
struct Loop {
  std::shared_ptr<const Items> items;
  size_t index0 = 0;
  int64_t depth0 = 0;
};

// The value of `key`; null where there is none.
const Value* FindEntry(const Entries& entries, std::string_view key);
// Replaces the value of `key`, or adds it.
void SetEntry(Entries& entries, std::string_view key, Value value);

}  // namespace based::jinja

#endif  // BASED_ENGINE_JINJA_VALUE_H_
