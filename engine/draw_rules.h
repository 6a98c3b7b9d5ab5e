// The sampling rules of one sequence: what its penalties count, which ids its next draw may not
// give, and what a constraint on its text lets follow.
#ifndef BASED_ENGINE_DRAW_RULES_H_
#define BASED_ENGINE_DRAW_RULES_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/constraint/constraint.h"
#include "engine/tokenizer.h"
#include "kernels/backend.h"
#include "kernels/sampling.h"

namespace based {

// What a request asks for; shared by its forks.
struct RuleSpec {
  SampleRules rules;  // counts and banned are empty
  // Ids in a row that may not be produced: the last is banned where the output ends in those
  // before.
  std::vector<std::vector<int32_t>> bad_words;   // each at least one id
  int64_t min_tokens = 0;                        // draws before one of `endings` may be drawn
  std::vector<int32_t> endings;                  // end-of-text and stop ids
  std::vector<int32_t> never;                    // ids of no draw
  std::shared_ptr<const Constraint> constraint;  // null: none
  std::string constraint_field;                  // what messages call it
  // With a constraint: what can only follow is not drawn token by token but taken as this
  // tokenizer, which outlives the rules, spells it. Null: it is drawn.
  const Tokenizer* spelling = nullptr;
  int32_t vocab_size = 0;
};

// Repetition counts prompt and output, presence and frequency the output alone; bad words match the
// output alone.
class DrawRules {
 public:
  // `spec` must outlive this object.
  DrawRules(const RuleSpec& spec, absl::Span<const int32_t> prompt);

  // The next draw's rules depend on the ids of all draws before it: they are not known before those
  // are.
  bool needs_history() const { return counts_ || longest_word_ > 1 || matcher_.has_value(); }

  // A constraint lets nothing follow the tokens so far.
  bool complete() const { return matcher_.has_value() && matcher_->MustEnd(); }

  // The tokens that come next without a draw: the spelling of the only text that may follow, less
  // its last token where the text goes on, since a longer one may take its place, and less what
  // draw number `draw`, the next, and those after it may not give.
  std::vector<int32_t> Forced(int64_t draw) const;

  // `ids` come before the prompt, and count as it does.
  void OnHistory(absl::Span<const int32_t> ids);

  // Takes the id of the next draw in order.
  void OnToken(int32_t token);

  // The rules of draw number `draw`, from 0; valid until the next call. REQUIRES: with
  // needs_history, OnToken was called `draw` times.
  const SampleRules& ForDraw(int64_t draw);

  // The request's fields that together leave no id for draw number `draw`, as few as do; empty
  // where an id is left. REQUIRES: as ForDraw, which is called.
  std::vector<absl::string_view> FieldsThatLeaveNone(int64_t draw);

  // What the rules of a draw come to at most where OnToken is called once more before.
  RuleSizes MostAfterNext() const;

 private:
  void Count(int32_t token, int32_t output_count);
  // The next draw may not give the word's last id.
  bool Bans(absl::Span<const int32_t> word) const;

  const RuleSpec& spec_;
  const bool counts_;
  std::optional<ConstraintMatcher> matcher_;
  size_t longest_word_ = 0;  // ids of the longest bad word
  SampleRules rules_;
  absl::flat_hash_map<int32_t, size_t> count_index_;  // id to index into rules_.counts
  std::vector<int32_t> tail_;                         // the last longest_word_ - 1 drawn ids
};

}  // namespace based

#endif  // BASED_ENGINE_DRAW_RULES_H_
