// What templates may call by name: filters, tests and methods.
#ifndef BASED_ENGINE_JINJA_BUILTINS_H_
#define BASED_ENGINE_JINJA_BUILTINS_H_

#include <string_view>
#include <vector>

#include "engine/jinja/run.h"
#include "engine/jinja/value.h"

namespace based::jinja {

// A filter, or a method of strings or dicts.
struct Builtin {
  std::string_view name;
  std::vector<std::string_view> parameters;  // in Python's order
  size_t required;                           // how many of them must be given
  // `args` has one value per parameter, undefined where it is not given.
  Value (*apply)(Run& run, const Value& subject, const Items& args);
};

struct Test {
  std::string_view name;
  bool takes_argument;
  bool (*holds)(Run& run, const Value& subject, const Value& argument);
};

// Null where there is none of that name.
const Builtin* FindFilter(std::string_view name);
const Builtin* FindMethod(std::string_view name);
const Test* FindTest(std::string_view name);

// Whether `value`, a string or a dict, has the method `name`.
bool HasMethod(const Value& value, std::string_view name);

}  // namespace based::jinja

#endif  // BASED_ENGINE_JINJA_BUILTINS_H_
