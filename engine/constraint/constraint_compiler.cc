#include "engine/constraint/constraint_compiler.h"

#include <string>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/constraint/choice.h"
#include "engine/constraint/ebnf.h"
#include "kernels/base/status.h"

namespace based {
namespace {

using Kind = ConstraintAsk::Kind;

absl::string_view FieldOf(const ConstraintAsk& ask) {
  if (!ask.field.empty()) return ask.field;
  switch (ask.kind) {
    case Kind::kJsonSchema:
      return "constraint.json_schema";
    case Kind::kJson:
      return "constraint.json";
    case Kind::kRegex:
      return "constraint.regex";
    case Kind::kChoice:
      return "constraint.choice";
    case Kind::kGrammar:
      return "constraint.grammar";
    case Kind::kNothing:
      break;
  }
  return "constraint";
}

absl::StatusOr<Grammar> GrammarOf(const ConstraintAsk& ask) {
  switch (ask.kind) {
    case Kind::kChoice:
      return ChoiceGrammar(ask.choices);
    case Kind::kGrammar:
      return EbnfGrammar(ask.text);
    default:
      return absl::UnimplementedError("not yet");
  }
}

// What tells one content from another.
std::string KeyOf(const ConstraintAsk& ask) {
  std::string key = absl::StrCat(static_cast<int>(ask.kind), ":", ask.text);
  for (const std::string& choice : ask.choices) absl::StrAppend(&key, choice.size(), ":", choice);
  return key;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Constraint>> ConstraintCompiler::Compile(
    const ConstraintAsk& ask, bool& reused) {
  reused = KeyOf(ask).empty();
  absl::StatusOr<std::shared_ptr<const Constraint>> made = Make(ask);
  if (made.ok()) return made;
  return absl::Status(made.status().code(),
                      absl::StrCat(FieldOf(ask), ": ", made.status().message()));
}

absl::StatusOr<std::shared_ptr<const Constraint>> ConstraintCompiler::Make(
    const ConstraintAsk& ask) {
  BASED_ASSIGN_OR_RETURN(std::shared_ptr<const TokenTrie> trie, Trie());
  BASED_ASSIGN_OR_RETURN(const Grammar grammar, GrammarOf(ask));
  BASED_ASSIGN_OR_RETURN(std::shared_ptr<const Constraint> constraint,
                         Constraint::Compile(grammar, std::move(trie), {}));
  if (ConstraintMatcher(constraint).MustEnd()) {
    return absl::InvalidArgumentError("only the empty text matches");
  }
  return constraint;
}

absl::StatusOr<std::shared_ptr<const TokenTrie>> ConstraintCompiler::Trie() {
  MutexLock lock(trie_mutex_);
  if (trie_ == nullptr) {
    BASED_ASSIGN_OR_RETURN(trie_, TokenTrie::Create(tokenizer_, vocab_size_, eos_token_id_));
  }
  return trie_;
}

}  // namespace based
