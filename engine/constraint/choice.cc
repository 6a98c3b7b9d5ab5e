#include "engine/constraint/choice.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace based {

absl::StatusOr<Grammar> ChoiceGrammar(absl::Span<const std::string> choices) {
  if (choices.empty()) return absl::InvalidArgumentError("choice: empty, expected at least one");
  if (choices.size() > kMostChoices) {
    return absl::InvalidArgumentError(
        absl::StrCat("choice: ", choices.size(), " texts, at most ", kMostChoices, " are allowed"));
  }
  size_t bytes = 0;
  Grammar grammar;
  std::vector<Grammar::Node> nodes;
  for (const std::string& choice : choices) {
    bytes += choice.size();
    nodes.push_back(grammar.Bytes(choice));
  }
  if (bytes > kMostChoiceBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("choice: ", bytes, " bytes, at most ", kMostChoiceBytes, " are allowed"));
  }
  grammar.SetStart(grammar.Choice(std::move(nodes)));
  return grammar;
}

}  // namespace based
