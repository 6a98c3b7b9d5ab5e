// Python's operators on values.
#ifndef BASED_ENGINE_JINJA_OPERATORS_H_
#define BASED_ENGINE_JINJA_OPERATORS_H_

#include <optional>
#include <string>
#include <string_view>

#include "engine/jinja/run.h"
#include "engine/jinja/value.h"

namespace based::jinja {

// str(value). Lists and dicts are refused: print them by tojson or join.
std::string ToText(Run& run, const Value& value);

// + - * / // %
Value Arithmetic(Run& run, std::string_view op, const Value& left, const Value& right);
Value Negate(Run& run, const Value& value);

// ==
bool Equal(Run& run, const Value& left, const Value& right);
// == != < <= > >= in, and "not in".
bool Compare(Run& run, std::string_view op, const Value& left, const Value& right);

// value.name and value[key]: undefined where there is none.
Value Attribute(Run& run, const Value& value, const std::string& name);
Value Item(Run& run, const Value& value, const Value& key);
// value[bounds[0]:bounds[1]:bounds[2]]; undefined or none: left out.
Value Slice(Run& run, const Value& value, const Value (&bounds)[3]);

// What a loop over it sees: items, keys, characters.
Items Iterate(Run& run, const Value& value);
// len(value)
Value Length(Run& run, const Value& value);

}  // namespace based::jinja

#endif  // BASED_ENGINE_JINJA_OPERATORS_H_
