// Jinja templates, as far as chat templates use the language: a template is a program that makes a
// text of values. It reads no file, calls nothing of ours but its few functions, and is bounded in
// its steps, its nesting and the length of its text; see run.h.
//
// Where this is known to differ from Jinja (3.1, in a sandbox whose values are immutable, with
// trim_blocks, lstrip_blocks and loop controls):
//   - refused when compiled: filters, tests, methods, functions and tags that are not listed in
//     filters.cc, tests.cc, methods.cc, functions.cc and parser.cc; **, * in calls, recursive
//     loops, set of several variables, macros within loops or macros;
//   - refused when rendered: lists and dicts as text other than by tojson, upper and lower beyond
//     ASCII, dicts whose keys are no strings, integers beyond 64 bits, % of strings;
//   - tuples are lists; a generator may be iterated over again.
#ifndef BASED_ENGINE_JINJA_TEMPLATE_H_
#define BASED_ENGINE_JINJA_TEMPLATE_H_

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/jinja/syntax.h"
#include "engine/jinja/value.h"

namespace based::jinja {

// Most bytes of a template's source.
inline constexpr size_t kMaxSourceBytes = 1 << 18;

// Immutable; safe from many threads; cheap to copy.
class Template {
 public:
  // INVALID_ARGUMENT "line N: ..." naming what is wrong or not supported.
  static absl::StatusOr<Template> Compile(std::string_view source);

  // `globals` are variables of the template; `now` is what strftime_now tells.
  // INVALID_ARGUMENT "line N: ..."; ABORTED with the template's own words where it calls
  // raise_exception.
  absl::StatusOr<std::string> Render(Entries globals,
                                     std::chrono::system_clock::time_point now) const;

 private:
  explicit Template(std::shared_ptr<const Block> block) : block_(std::move(block)) {}

  std::shared_ptr<const Block> block_;
};

}  // namespace based::jinja

#endif  // BASED_ENGINE_JINJA_TEMPLATE_H_
