// JSON schemas: whatever the text, it is refused or becomes a grammar within the limits, and what
// the grammar offers is JSON.
//
// Input: the schema.
#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "engine/constraint/json_schema.h"
#include "kernels/base/check.h"
#include "tests/engine/constraint/grammar_sampler.h"
#include "tests/engine/constraint/matches.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace based;
  const std::string_view schema(reinterpret_cast<const char*>(data), size);
  JsonSchemaLimits limits;
  limits.max_members = 50;
  limits.max_count = 50;
  limits.max_schemas = 200;
  limits.regex.max_states = 5'000;
  limits.regex.max_time = std::chrono::minutes(1);  // the states alone must bound the time
  const auto grammar = JsonSchemaGrammar(schema, limits);
  if (!grammar.ok()) {
    BASED_CHECK(grammar.status().code() == absl::StatusCode::kInvalidArgument);
    return 0;
  }
  GrammarSampler sampler(*grammar, static_cast<uint32_t>(size));
  BASED_CHECK(!sampler.empty());
  const auto constraint = CompileForBytes(*grammar);
  for (const int64_t length : {0, 20, 200}) {
    const std::string text = sampler.Sample(length);
    BASED_CHECK(nlohmann::json::accept(text));
    // The automaton has limits of its own.
    BASED_CHECK(!constraint.ok() || Matches(*constraint, text));
  }
  return 0;
}
