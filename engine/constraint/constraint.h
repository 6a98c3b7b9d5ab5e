// Structured output: which tokens may follow so that the text becomes one that a grammar matches.
//
// A front end (choice, EBNF, JSON schema, regular expression) makes a Grammar; Constraint::Compile
// makes it fit to run over one vocabulary; a ConstraintMatcher follows one sequence:
//
//   draw a token among matcher.Mask(); matcher.Accept(token); until the end-of-text token is drawn
//   or matcher.MustEnd().
//
// Whatever tokens are drawn from the masks, there is always a way to the end: no mask is without
// tokens unless the text must end there and the model has no token for that. A cut text (by a limit
// of tokens) is the beginning of one that matches.
#ifndef BASED_ENGINE_CONSTRAINT_CONSTRAINT_H_
#define BASED_ENGINE_CONSTRAINT_CONSTRAINT_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/constraint/automaton.h"
#include "engine/constraint/constraint_limits.h"  // IWYU pragma: export
#include "engine/constraint/grammar.h"            // IWYU pragma: export
#include "engine/constraint/mask_cache.h"
#include "engine/constraint/readings.h"
#include "engine/constraint/token_trie.h"  // IWYU pragma: export

namespace based {

// A compiled grammar over one vocabulary. Thread-safe; shared by the sequences that it constrains,
// which share the masks computed so far too.
class Constraint {
 public:
  // INVALID_ARGUMENT when no text matches (or none that the vocabulary's tokens of one byte spell),
  // a rule is used and not defined, or a limit is exceeded: states, automata, bytes of tables,
  // time. Left recursion and ambiguity are fine.
  static absl::StatusOr<std::shared_ptr<const Constraint>> Compile(
      const Grammar& grammar, std::shared_ptr<const TokenTrie> trie,
      const ConstraintLimits& limits);

  const TokenTrie& trie() const { return *trie_; }
  // Of the automaton; a measure of its size.
  int32_t state_count() const { return automaton_.size(); }
  // Memory that it holds now, in bytes: tables and masks, without the vocabulary.
  int64_t bytes() const;

  Constraint(const Constraint&) = delete;
  Constraint& operator=(const Constraint&) = delete;

 private:
  friend class ConstraintMatcher;
  Constraint(Automaton automaton, std::shared_ptr<const TokenTrie> trie,
             const ConstraintLimits& limits);

  const ConstraintLimits limits_;
  const Automaton automaton_;
  const std::shared_ptr<const TokenTrie> trie_;
  mutable MaskCache masks_;
};

// Where one sequence is in its text. Copies (forks) are independent and cheap. Not thread-safe;
// different matchers of one constraint may be used at the same time.
class ConstraintMatcher {
 public:
  explicit ConstraintMatcher(std::shared_ptr<const Constraint> constraint);

  // The tokens that may follow: bit id % 32 of word id / 32, in ceil(vocab_size / 32) words; that
  // of the end-of-text token where the text may end. Valid while the matcher lives and until
  // Accept. Takes a look-up when an equal state was asked for before, else up to some milliseconds.
  absl::Span<const uint32_t> Mask();

  // Appends a token. False, and nothing changed, when it may not follow. After the end-of-text
  // token nothing may. Each token of Mask is accepted; others are only where Mask had to leave some
  // out (see ConstraintLimits::max_depth).
  bool Accept(int32_t token);

  // The text may end here; nothing but its end may follow.
  bool MayEnd() const { return !ended_ && readings_.may_end(); }
  bool MustEnd() const { return readings_.open().empty() || ended_; }

  // The bytes that are sure to come, as far as nothing else can and the text may not end, at most
  // `max` of them. Empty where there is a choice.
  std::string ForcedBytes(size_t max) const;

 private:
  std::shared_ptr<const Constraint> constraint_;
  Readings readings_;
  bool ended_ = false;
  std::shared_ptr<const TokenMask> mask_;  // of the state in hand; null until asked for
};

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_CONSTRAINT_H_
