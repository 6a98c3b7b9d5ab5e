// Regular expressions: whatever the pattern, it is refused or becomes an automaton within the
// limits, and what the automaton offers is UTF-8 that matches.
//
// Input: the pattern.
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/constraint/regex.h"
#include "engine/utf8.h"
#include "kernels/base/check.h"
#include "tests/engine/constraint/grammar_sampler.h"
#include "tests/engine/constraint/matches.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace based;
  const std::string_view pattern(reinterpret_cast<const char*>(data), size);
  RegexLimits limits;
  limits.max_states = 3'000;
  limits.max_time = std::chrono::minutes(1);  // the states alone must bound the time
  const auto grammar = RegexGrammar(pattern, limits);
  if (!grammar.ok()) {
    BASED_CHECK(grammar.status().code() == absl::StatusCode::kInvalidArgument);
    return 0;
  }
  DfaBudget budget(limits.max_states, limits.max_time);
  const auto dfa = RegexDfa(pattern, RegexMatch::kWhole, limits, budget);
  DfaBudget search_budget(limits.max_states, limits.max_time);
  const auto search = RegexDfa(pattern, RegexMatch::kSearch, limits, search_budget);
  BASED_CHECK(dfa.ok() && !dfa->empty());
  const auto constraint = CompileForBytes(*grammar);
  BASED_CHECK(constraint.ok());
  GrammarSampler sampler(*grammar, static_cast<uint32_t>(size));
  for (const int64_t length : {0, 5, 50}) {
    const std::string text = sampler.Sample(length);
    BASED_CHECK(FindInvalidUtf8(text) == std::string_view::npos);
    BASED_CHECK(dfa->Matches(text));
    BASED_CHECK(!search.ok() || search->Matches(text));
    BASED_CHECK(Matches(*constraint, text));
  }
  return 0;
}
