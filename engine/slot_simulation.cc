#include "engine/slot_simulation.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "engine/step_cost.h"

namespace based {
namespace {

// The fractional parts of its multiples fill [0, 1] evenly, however many there are.
constexpr double kGoldenRatio = 0.6180339887498949;
constexpr double kLeastStep = 1e-9;  // seconds

}  // namespace

SlotSimulation::SlotSimulation(const EngineLoad& load, int32_t parked) : load_(&load) {
  const int32_t slots = std::max(1, (load.slots + load.every / 2) / load.every);
  free_ = std::max(0, slots - static_cast<int32_t>(load.running.size()));
  std::vector<const SequenceLoad*> sources;
  // The latest that give way do, and leave their slots.
  int32_t stay = -parked;
  for (const SequenceLoad& sequence : load.running) stay += sequence.batch ? 1 : 0;
  for (const SequenceLoad& sequence : load.running) {
    if (sequence.batch && stay-- <= 0) {
      ++free_;
    } else if (sequence.completions > 1) {
      Begin(sequence.prompt_tokens, -1);
      sources.push_back(&sequence);
    } else {
      Begin(sequence.prompt_tokens, StepsOf(sequence));
    }
  }
  for (const SequenceLoad* source : sources) StartForks(*source, source->completions - 1);
}

double SlotSimulation::AwaitSlot() {
  while (free_ == 0) Advance();
  return seconds_;
}

void SlotSimulation::Enter(const SequenceLoad& sequence) {
  AwaitSlot();
  --free_;
  if (sequence.completions == 1) return Begin(sequence.prompt_tokens, StepsOf(sequence));
  Begin(sequence.prompt_tokens, -1);
  StartForks(sequence, sequence.completions - 1);
}

void SlotSimulation::Reserve() {
  AwaitSlot();
  --free_;
}

// The source's slot is the last completion's.
void SlotSimulation::StartForks(const SequenceLoad& sequence, int32_t forks) {
  // Of many that one stands for, some hold slots and others do not.
  const bool holds = load_->every == 1;
  if (!holds) ++free_;
  for (int32_t i = 0; i < forks + (holds ? 0 : 1); ++i) {
    AwaitSlot();
    --free_;
    Begin(0, StepsOf(sequence));
  }
  if (holds) Begin(0, StepsOf(sequence));
}

double SlotSimulation::StepsOf(const SequenceLoad& sequence) {
  const double golden = 0.5 + sequences_++ * kGoldenRatio;
  const double quantile = golden - std::floor(golden);
  return sequence.pace * load_->drawn.Left(sequence.drawn_tokens, sequence.output_tokens, quantile);
}

void SlotSimulation::Begin(int64_t prompt_tokens, double steps) {
  if (prompt_tokens > 0) {
    prompts_.push_back({static_cast<double>(prompt_tokens) * load_->every, steps});
    return;
  }
  if (steps < 0) return;
  ends_.push_back(steps_ + steps);
  std::push_heap(ends_.begin(), ends_.end(), std::greater<>());
}

double SlotSimulation::StepSeconds() const {
  if (load_->slots == 1) return std::max(kLeastStep, load_->step_seconds);
  const double rows = static_cast<double>(ends_.size()) * load_->every;
  const double row = (load_->step_seconds - load_->one_row_seconds) / (load_->slots - 1);
  return std::max(kLeastStep, load_->one_row_seconds + row * (rows - 1));
}

// Beside decodes that take so long.
double SlotSimulation::PromptTokensOfStep(double step) const {
  const double rows = static_cast<double>(ends_.size()) * load_->every;
  const double room = std::max<double>(StepCost::kLeastPrefill, load_->row_budget - rows);
  if (load_->prompt_seconds <= 0) return room;
  const auto waiting = static_cast<double>(prompts_.size() - fed_);
  const double share =
      std::max(StepCost::kStretch - 1, waiting / static_cast<double>(ends_.size()));
  const double seconds =
      load_->most_step_seconds > 0 ? load_->most_step_seconds - step : share * step;
  return std::clamp<double>(seconds / load_->prompt_seconds, StepCost::kLeastPrefill, room);
}

// To the next end of a sequence or of a prompt.
void SlotSimulation::Advance() {
  if (fed_ == prompts_.size()) {
    if (ends_.empty()) {
      // Nothing runs that could give its slot back; so none is held.
      ++free_;
      return;
    }
    seconds_ += (ends_.front() - steps_) * StepSeconds();
    return EndFirst();
  }
  Prompt& prompt = prompts_[fed_];
  if (ends_.empty()) {
    const double token = load_->prompt_seconds + load_->one_row_seconds / load_->row_budget;
    seconds_ += prompt.tokens * token;
    return EndPrompt();
  }
  const double tokens = PromptTokensOfStep(StepSeconds());
  const double step = StepSeconds() + tokens * load_->prompt_seconds;
  const double feeds = prompt.tokens / tokens;
  const double left = ends_.front() - steps_;
  seconds_ += std::min(feeds, left) * step;
  if (feeds <= left) {
    steps_ += feeds;
    return EndPrompt();
  }
  prompt.tokens -= left * tokens;
  EndFirst();
}

void SlotSimulation::EndFirst() {
  steps_ = ends_.front();
  std::pop_heap(ends_.begin(), ends_.end(), std::greater<>());
  ends_.pop_back();
  ++free_;
}

void SlotSimulation::EndPrompt() {
  const double steps = prompts_[fed_++].steps;
  if (steps == 0) ++free_;
  if (steps > 0) Begin(0, steps);
}

}  // namespace based
