#include "engine/constraint/constraint_compiler.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/constraint/choice.h"
#include "engine/constraint/ebnf.h"
#include "engine/constraint/json_parts.h"
#include "engine/constraint/json_schema.h"
#include "engine/constraint/regex.h"
#include "engine/refusal.h"
#include "kernels/base/status.h"

namespace based {
namespace {

using Kind = ConstraintAsk::Kind;

constexpr std::chrono::milliseconds kRetryAfter(200);

absl::StatusOr<Grammar> GrammarOf(const ConstraintAsk& ask) {
  switch (ask.kind) {
    case Kind::kChoice:
      return ChoiceGrammar(ask.choices);
    case Kind::kGrammar:
      return EbnfGrammar(ask.text);
    case Kind::kRegex:
      return RegexGrammar(ask.text, {});
    case Kind::kJson:
      return JsonGrammar();
    case Kind::kJsonSchema:
      return JsonSchemaGrammar(ask.text, {});
    case Kind::kNothing:
      break;
  }
  return absl::InternalError("no constraint");
}

// What tells one content of a kind from another.
std::string ContentOf(const ConstraintAsk& ask) {
  std::string content = ask.text;
  for (const std::string& choice : ask.choices) {
    absl::StrAppend(&content, choice.size(), ":", choice);
  }
  return content;
}

}  // namespace

absl::string_view ConstraintCompiler::FieldOf(const ConstraintAsk& ask) {
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

absl::StatusOr<std::shared_ptr<const Constraint>> ConstraintCompiler::Compile(
    const ConstraintAsk& ask, bool& reused) {
  reused = true;
  absl::StatusOr<std::shared_ptr<const Constraint>> made =
      cache_.Get(absl::StrCat(static_cast<int>(ask.kind)), ContentOf(ask), [&] {
        reused = false;
        return MakeWhereThereIsRoom(ask);
      });
  if (made.ok() || RefusalOf(made.status()).has_value()) return made;
  return absl::Status(made.status().code(),
                      absl::StrCat(FieldOf(ask), ": ", made.status().message()));
}

absl::StatusOr<std::shared_ptr<const Constraint>> ConstraintCompiler::MakeWhereThereIsRoom(
    const ConstraintAsk& ask) {
  {
    MutexLock lock(mutex_);
    if (compiling_ == kMostAtATime) {
      return Refuse(absl::StatusCode::kResourceExhausted,
                    absl::StrCat(kMostAtATime, " others are being compiled"),
                    {.reason = RefusalReason::kQueueFull, .retry_after = kRetryAfter});
    }
    ++compiling_;
  }
  const absl::Cleanup leave = [this] {
    MutexLock lock(mutex_);
    --compiling_;
  };
  return Make(ask);
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
    const ModelConfig& config = model_.config;
    const int32_t eos = std::max(config.eos_token_id, TokenTrie::kNoToken);
    BASED_ASSIGN_OR_RETURN(trie_, TokenTrie::Create(*model_.tokenizer, config.vocab_size, eos));
  }
  return trie_;
}

}  // namespace based
