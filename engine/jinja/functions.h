// The functions that every template finds.
#ifndef BASED_ENGINE_JINJA_FUNCTIONS_H_
#define BASED_ENGINE_JINJA_FUNCTIONS_H_

#include <string>
#include <string_view>
#include <vector>

#include "engine/jinja/run.h"
#include "engine/jinja/value.h"

namespace based::jinja {

struct CallValues {
  Items unnamed;
  Entries named;
};

// raise_exception, namespace, range and strftime_now; null where there is none of that name.
using GlobalFunction = Value (*)(Run& run, const CallValues& values);
GlobalFunction FindFunction(std::string_view name);
const std::vector<std::string_view>& FunctionNames();

}  // namespace based::jinja

#endif  // BASED_ENGINE_JINJA_FUNCTIONS_H_
