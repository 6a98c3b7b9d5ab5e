// Learns from the steps that ran what a step costs, and from that how much prefill may go beside
// decodes. Pure arithmetic: no clock, no thread.
//
// Model: a step of d decodes takes decode(d) = a + b * d seconds; with p tokens of prefill in it,
// m + c * p more (on a GPU a mixed step is no captured graph and has rows to pad). a and b are a
// least-squares line through decode-only steps, m and c one through what mixed steps took beyond
// decode(d); both forget old steps exponentially, so that they follow the machine. A step that took
// far longer than expected (the process lost its core) counts as kOutlier times the expected.
//
// Policy: prompts and decodes share a step's time. Prompts get kStretch - 1 times what the decodes
// take, so that a long prompt does little to the inter-token latency of others; or, where more
// sequences wait for their prompts than decode, time by the numbers of both.
// With a target (--itl_target_ms) prompts may fill the step up to it instead.
// Batch work beside interactive work gets rows for as much time as the interactive decodes take (or
// up to the target), less the prompts' part while interactive prompts wait. As the line is known
// only near what was seen, and steps of batch work alone may be all that was, it begins with as
// many rows as there are interactive decodes, which at most double a step whatever the line, and at
// most doubles its rows with each step that has run.
#ifndef BASED_ENGINE_STEP_COST_H_
#define BASED_ENGINE_STEP_COST_H_

#include <cstdint>

namespace based {

class StepCost {
 public:
  // A mixed step may take this many times as long as its decodes alone, while no more prompts wait
  // than sequences decode: below 2, which is the most that a long prompt may do to the inter-token
  // latency of others, with room for errors of the fit.
  static constexpr double kStretch = 1.75;
  // Prefill never gets less beside decodes: a prompt of a million tokens must still end.
  static constexpr int32_t kLeastPrefill = 8;
  // Until both kinds of step have been seen so often, PrefillBeside gives FirstGuess.
  static constexpr double kLeastSteps = 4;
  // When prompts never stop coming, one step in so many goes without them, for the line's sake; of
  // the first ones one in kFirstProbes.
  static constexpr int32_t kProbes = 128;
  static constexpr int32_t kFirstProbes = 8;

  // A step with interactive decodes may take this many times as long for batch work.
  static constexpr double kBatchStretch = 2;
  // Its prompts wait for no more steps than this.
  static constexpr int32_t kMostBatchTurns = 16;
  // One step in so many goes without batch work, for the line's sake.
  static constexpr int32_t kBatchProbes = 64;

  // One row of decode costs no less than one of prefill, so as many of both at most double a step;
  // few decodes are no reason to starve prompts.
  static int32_t FirstGuess(int32_t decodes, int32_t waiting);

  // Seconds that a step with decodes may take; 0: no target.
  void SetTarget(double seconds) { target_ = seconds; }
  double target() const { return target_; }

  // A step that has run.
  void Observe(int32_t decodes, int32_t prefill, double seconds);

  // Most prefill tokens beside `decodes` (at least 1) decoding sequences, with `waiting` sequences
  // whose prompts are not fed. 0: a step without any is wanted, to learn from.
  int32_t PrefillBeside(int32_t decodes, int32_t waiting) const;

  // A step that has run, with rows of batch work beside so many interactive decodes.
  void ObserveBatch(int32_t interactive, int32_t batch_rows);

  // Most rows of batch work beside `decodes` (at least 1) interactive decodes, with `waiting`
  // interactive sequences whose prompts are not fed. 0: a step without any is wanted, to learn
  // from.
  int32_t BatchBeside(int32_t decodes, int32_t waiting) const;

  // Prompts of batch work take the rows in one step of so many, at least 2: what the step takes
  // beyond the interactive decodes, its fixed part too, is then no more per step than rows may.
  int32_t BatchPromptsEvery(int32_t decodes, int32_t rows) const;

  // Seconds of a decode-only step; 0 while unknown.
  double DecodeSeconds(int32_t decodes) const;

  // Steps of less prefill alone say nothing about a long prompt: their time is the weights' and the
  // launches', whatever they hold.
  static constexpr int32_t kTellingPrefill = 128;

  // Seconds that a prompt token adds to a step with decodes; of one alone while no such step was
  // seen; 0 while unknown. What a token of a long prompt costs: steps of a few prompt tokens do not
  // count.
  double PrefillSeconds() const;

 private:
  // Seconds that prefill adds to a step: `fixed`, and `each` a token.
  struct Prefill {
    double fixed = 0;
    double each = 0;
  };
  Prefill PrefillCost() const;
  double BatchRoom(int32_t decodes, int32_t waiting) const;
  void ObserveDecode(double decodes, double seconds);

  // Exponentially weighted sums over decode-only steps: 1, d, t, d * d, d * t.
  double steps_ = 0, decodes_ = 0, seconds_ = 0, decodes2_ = 0, decodes_seconds_ = 0;
  double slope_ = 0;            // seconds that a decode adds to a step
  int32_t mixed_in_a_row_ = 0;  // since the last decode-only step
  // Rows of batch work in the latest step that had some beside interactive decodes; 0 when there
  // was none since batch work ran alone. And such steps since the last one without batch work.
  int32_t batch_rows_ = 0, batch_in_a_row_ = 0;
  // Over mixed steps: 1, p, seconds x beyond decode(d), p * p, p * x.
  double mixed_steps_ = 0, prefill_ = 0, extra_ = 0, prefill2_ = 0, prefill_extra_ = 0;
  // Over steps of telling prefill alone: prefill tokens, seconds.
  double alone_ = 0, alone_seconds_ = 0;
  double target_ = 0;
};

}  // namespace based

#endif  // BASED_ENGINE_STEP_COST_H_
