// The filter tojson, as transformers defines it: Python's json.dumps, keys in their order.
#ifndef BASED_ENGINE_JINJA_JSON_TEXT_H_
#define BASED_ENGINE_JINJA_JSON_TEXT_H_

#include <optional>
#include <string>

#include "engine/jinja/run.h"
#include "engine/jinja/value.h"

namespace based::jinja {

struct JsonStyle {
  bool ensure_ascii = false;
  std::optional<std::string> indent{};  // of one level; nullopt: all in one line
  std::string between_items = ", ";
  std::string after_key = ": ";
  bool sort_keys = false;
};

std::string JsonText(Run& run, const Value& value, const JsonStyle& style);

}  // namespace based::jinja

#endif  // BASED_ENGINE_JINJA_JSON_TEXT_H_
