// What the scheduler keeps of one completion: its own type, shared by the scheduler's files alone.
#ifndef BASED_ENGINE_SEQUENCE_H_
#define BASED_ENGINE_SEQUENCE_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "engine/scheduler.h"

namespace based {

struct Scheduler::Sequence {
  // kFed: nothing to feed; completions wait for slots, or scores of the last prompt rows are
  // awaited. kParked: waits for a slot again, its state is in `image`.
  enum class Phase : uint8_t { kQueued, kPrefilling, kFed, kDecoding, kParked, kEnded };

  SequenceSpec spec;
  int32_t index = 0;       // of the completion
  int32_t forks_left = 0;  // completions to start from this one's slot
  // Of continuations: which those are, and how many tokens of this one they are to begin with,
  // fewest first.
  struct Fork {
    int32_t index = 0;
    int64_t shared = 0;
  };
  std::vector<Fork> forks;
  // Tokens of the sequence before spec.prompt: a fork keeps only the last, a session feeds none.
  int64_t prompt_offset = 0;
  std::unique_ptr<DrawRules> rules;  // null: none
  Phase phase = Phase::kQueued;
  int32_t slot = kNone;
  int64_t position = 0;   // tokens launched into the slot's state
  int64_t draws = 0;      // draws launched
  int64_t committed = 0;  // draws whose ids are known
  int64_t scored = 0;     // prompt tokens whose logprobs are known
  int32_t last_token = kNone;
  // Tokens that are known and not fed, where a constraint left only one way to go on: the one drawn
  // last and those that follow it without a draw. Empty: `last_token` alone, or nothing.
  std::vector<int32_t> ahead;
  float jump_share = 0;     // of its latest draws, those that forced tokens followed
  uint64_t draw_step = 0;   // number of the step that holds the latest draw
  int32_t draw_sample = 0;  // and its index among that step's samples
  int32_t steps_in_flight = 0;
  // Gives way to interactive work: of PRIORITY_BATCH, and has not waited for too long.
  bool yields = false;
  bool aged = false;                // has waited for too long once: keeps its slot
  Clock::time_point waiting_since;  // where it yields or is parked: not served since
  bool behind = false;              // its tenant had been served less than others when it entered
  bool charged_batch = false;       // class of the queue that its tokens were charged to
  uint64_t entered = 0;             // number of the plan in which it took its slot
  std::shared_ptr<StateImage> image;
  std::vector<int32_t> drawn;  // ids, for its session

  int64_t prompt_tokens() const { return prompt_offset + static_cast<int64_t>(spec.prompt.size()); }
  // Tokens that the next of its forks begins with.
  int64_t fork_position() const { return forks.empty() ? prompt_tokens() : forks.front().shared; }
  // The last token of a prompt is only fed to draw from.
  int64_t prompt_left() const {
    const bool holds_last = forks_left > 0 || spec.max_tokens == 0;
    return fork_position() - (holds_last ? 1 : 0) - position;
  }
  // First row, as a position, that has a sample: it scores the token after it or draws one.
  int64_t first_sample() const { return std::min(spec.score_from, prompt_tokens()) - 1; }
  // What the first of several continuations, or one that comes alone, is to begin with.
  void BeginContinuations();
  // The continuations that start from its own, fewest shared tokens first.
  std::vector<Fork> ForksOfOwn() const;
  // Of its own continuation's tokens and those of all that are to start from it, what is not fed.
  int64_t UnfedContinuations() const;
  bool draw_is_known() const { return committed == draws; }
  // The rules of its next draw are known.
  bool rules_are_known() const {
    return rules == nullptr || !rules->needs_history() || draw_is_known();
  }
  // Tokens of the prompt that are not launched.
  int64_t unfed() const { return std::max<int64_t>(0, prompt_tokens() - position); }
};

}  // namespace based

#endif  // BASED_ENGINE_SEQUENCE_H_
