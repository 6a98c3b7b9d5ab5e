#include "tests/sim/scenario.h"

#include <algorithm>
#include <memory>
#include <string_view>
#include <utility>

#include "engine/constraint/constraint.h"
#include "kernels/base/check.h"
#include "tests/engine/completion_recorder.h"

namespace based {

Scenario DrawScenario(Choices& choices) {
  const auto uniform = [&](int64_t low, int64_t high) {
    return static_cast<int32_t>(choices.Uniform(low, high));
  };
  Scenario s;
  s.scheduler.slots = uniform(1, 12);
  s.scheduler.token_budget = uniform(2, 48);
  s.scheduler.max_spans = uniform(2, 16);
  s.scheduler.max_samples = s.scheduler.max_spans + uniform(0, 8);
  s.scheduler.mixed_prefill_tokens = choices.Chance(0.5) ? uniform(1, 16) : 0;
  s.model.pipeline_depth = uniform(1, 2);
  s.model.nonfinite_every = choices.Chance(0.1) ? 50 : 0;
  s.requests = choices.Uniform(1, 40);
  s.arrivals_per_step = choices.Chance(0.5) ? 0.2 : 2.0;
  s.burst = choices.Chance(0.3) ? uniform(2, 20) : 1;
  s.max_prompt = choices.Chance(0.3) ? 200 : 12;
  s.max_tokens = choices.Chance(0.3) ? 60 : 10;
  s.cancel_share = choices.Chance(0.5) ? 0.3 : 0;
  s.deadline_share = choices.Chance(0.3) ? 0.3 : 0;
  s.slow_share = choices.Chance(0.3) ? 0.2 : 0;
  s.eos_share = choices.Chance(0.5) ? 1.0 : 0;
  s.fork_share = choices.Chance(0.5) ? 0.5 : 0;
  s.score_share = choices.Chance(0.3) ? 0.3 : 0;
  s.rules_share = choices.Chance(0.3) ? 0.5 : 0;
  s.batch_share = choices.Chance(0.5) ? 0.5 : 0;
  s.scheduler.max_parked = choices.Chance(0.6) ? uniform(1, 6) : 0;
  s.scheduler.reserved_slots = choices.Chance(0.2) ? uniform(0, s.scheduler.slots - 1) : 0;
  s.scheduler.batch_patience =
      std::chrono::milliseconds(choices.Chance(0.3) ? uniform(0, 30) : 100'000);
  s.scheduler.burst_tokens = choices.Chance(0.5) ? uniform(0, 100) : 0;
  const int32_t tenants = choices.Chance(0.5) ? uniform(2, 5) : 1;
  for (int32_t i = 0; i < tenants; ++i) s.weights.push_back(uniform(1, 4));
  s.session_share = choices.Chance(0.5) ? 0.6 : 0;
  s.constraint_share = choices.Chance(0.4) ? 0.5 : 0;
  s.logprob_share = choices.Chance(0.3) ? 0.5 : 0;
  s.model.late_rules = s.scheduler.late_rules = choices.Chance(0.7);
  s.scheduler.batch_rows = choices.Chance(0.5) ? uniform(1, 6) : 0;
  return s;
}

Scenario OnlyForks(Scenario s) {
  s.scheduler.slots = std::max(2, s.scheduler.slots);
  s.model.nonfinite_every = 0;
  s.requests = s.burst = 30;
  s.arrivals_per_step = s.burst;
  s.cancel_share = s.deadline_share = s.slow_share = 0;
  s.fork_share = 1;
  s.least_completions = s.scheduler.slots / 2 + 1;
  return s;
}

Scenario ShortDay(Scenario s) {
  s.requests = std::min<int64_t>(s.requests, 8);
  s.max_prompt = std::min<int64_t>(s.max_prompt, 20);
  s.max_tokens = std::min<int64_t>(s.max_tokens, 12);
  return s;
}

namespace {

// "ab", then "x" or "cdef" and one of "ghijk" up to eight times, then "yz": choices, texts that can
// only follow, and an end that must come.
std::shared_ptr<const Constraint> LettersConstraint(const Tokenizer& tokenizer,
                                                    int32_t vocab_size) {
  Grammar grammar;
  ByteSet set;
  for (const char letter : std::string_view("ghijk")) set.set(static_cast<uint8_t>(letter));
  const auto word = grammar.Sequence({grammar.Bytes("cdef"), grammar.OneOf(set)});
  const auto middle = grammar.Repeat(grammar.Choice({grammar.Bytes("x"), word}), 0, 8);
  grammar.SetStart(grammar.Sequence({grammar.Bytes("ab"), middle, grammar.Bytes("yz")}));
  auto trie = TokenTrie::Create(tokenizer, vocab_size, 0);
  BASED_CHECK(trie.ok());
  auto constraint = Constraint::Compile(grammar, *trie, {});
  BASED_CHECK(constraint.ok());
  return *constraint;
}

// Letters as tokens, and the one constraint of all scenarios.
void AddConstraint(const Scenario& scenario, RuleSpec& rules, Choices& choices) {
  static const LetterTokenizer tokenizer(scenario.model.vocab_size);
  static const std::shared_ptr<const Constraint> constraint =
      LettersConstraint(tokenizer, scenario.model.vocab_size);
  rules.constraint = constraint;
  if (choices.Chance(0.8)) rules.spelling = &tokenizer;
}

// Texts that begin as others do, in chains as well as side by side.
void AddContinuations(const Scenario& scenario, SequenceSpec& spec, Choices& choices) {
  spec.score_from = static_cast<int64_t>(spec.prompt.size());
  spec.completions = static_cast<int32_t>(choices.Uniform(1, 2 * scenario.scheduler.slots));
  if (scenario.scheduler.slots == 1) spec.completions = 1;
  auto continuations = std::make_shared<std::vector<Continuation>>();
  std::vector<int64_t> lengths;  // of the texts
  for (int32_t i = 0; i < spec.completions; ++i) {
    Continuation own;
    for (int64_t left = choices.Uniform(1, scenario.max_prompt); left > 0; --left) {
      own.ids.push_back(static_cast<int32_t>(choices.Uniform(0, scenario.model.vocab_size - 1)));
    }
    const auto tokens = static_cast<int64_t>(own.ids.size());
    if (i > 0) {
      own.parent = static_cast<int32_t>(choices.Uniform(0, i - 1));
      // Of a single token of its own nothing can be shared.
      while ((*continuations)[static_cast<size_t>(own.parent)].ids.size() == 1 && own.parent > 0) {
        --own.parent;
      }
      const auto parent = static_cast<size_t>(own.parent);
      own.shared = choices.Uniform((*continuations)[parent].shared + 1, lengths[parent] - 1);
      own.unscored = choices.Uniform(0, tokens - 1);
    }
    lengths.push_back((i == 0 ? spec.score_from : own.shared) + tokens);
    continuations->push_back(std::move(own));
  }
  spec.continuations = std::move(continuations);
}

}  // namespace

SequenceSpec DrawSpec(const Scenario& scenario, RequestId id, Clock::time_point now,
                      Choices& choices) {
  SequenceSpec spec;
  spec.id = id;
  const bool scores = choices.Chance(scenario.score_share);
  const int64_t length =
      choices.Uniform(scores ? 2 : 1, scores ? scenario.max_prompt + 1 : scenario.max_prompt);
  for (int64_t i = 0; i < length; ++i) {
    spec.prompt.push_back(static_cast<int32_t>(choices.Uniform(0, scenario.model.vocab_size - 1)));
  }
  spec.sampling.seed = choices();
  spec.max_tokens = choices.Uniform(1, scenario.max_tokens);
  if (choices.Chance(scenario.eos_share)) spec.eos_token_id = 0;
  if (choices.Chance(0.2)) spec.stop_token_ids = {1, 2};
  if (choices.Chance(scenario.fork_share)) {
    spec.completions =
        static_cast<int32_t>(choices.Uniform(scenario.least_completions, scenario.scheduler.slots));
  }
  spec.logprobs = choices.Chance(scenario.logprob_share);
  if (spec.logprobs) spec.top_logprobs = static_cast<int32_t>(choices.Uniform(0, 3));
  if (scores) {
    spec.score_from = choices.Uniform(1, length - 1);
    spec.top_logprobs = static_cast<int32_t>(choices.Uniform(0, 3));
    if (choices.Chance(0.5)) spec.max_tokens = 0;
    if (spec.max_tokens == 0) spec.completions = 1;
    if (spec.max_tokens == 0 && choices.Chance(0.7)) AddContinuations(scenario, spec, choices);
  }
  const bool penalized = choices.Chance(scenario.rules_share);
  const bool constrained = choices.Chance(scenario.constraint_share);
  if (penalized || constrained) {
    auto rules = std::make_shared<RuleSpec>();
    rules->vocab_size = scenario.model.vocab_size;
    if (penalized) {
      rules->rules.repetition_penalty = 2;
      rules->min_tokens = choices.Uniform(0, spec.max_tokens);
      rules->endings = {0};
    }
    if (constrained) AddConstraint(scenario, *rules, choices);
    spec.rules = std::move(rules);
  }
  if (choices.Chance(scenario.deadline_share)) {
    spec.deadline = now + std::chrono::milliseconds(choices.Uniform(0, 60));
  }
  spec.tenant =
      static_cast<int32_t>(choices.Uniform(0, static_cast<int64_t>(scenario.weights.size()) - 1));
  spec.weight = scenario.weights[static_cast<size_t>(spec.tenant)];
  spec.batch = choices.Chance(scenario.batch_share);
  spec.submitted = now;
  return spec;
}

}  // namespace based
