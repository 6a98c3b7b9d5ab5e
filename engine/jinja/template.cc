#include "engine/jinja/template.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/jinja/interpreter.h"
#include "engine/jinja/parser.h"
#include "engine/utf8.h"
#include "kernels/base/status.h"

namespace based::jinja {

absl::StatusOr<Template> Template::Compile(std::string_view source) {
  if (source.size() > kMaxSourceBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(source.size(), " bytes long; expected at most ", kMaxSourceBytes));
  }
  if (const size_t at = FindInvalidUtf8(source); at != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat("not UTF-8 at byte ", at));
  }
  BASED_ASSIGN_OR_RETURN(Block block, Parse(source));
  return Template(std::make_shared<const Block>(std::move(block)));
}

absl::StatusOr<std::string> Template::Render(Entries globals,
                                             std::chrono::system_clock::time_point now) const {
  Run run(now);
  Interpreter interpreter(run, std::move(globals));
  std::string text = interpreter.Render(*block_);
  if (!run.ok()) return run.status();
  return text;
}

}  // namespace based::jinja
