// Answers questions about constraints for tests in other languages: JSON lines on stdin and stdout.
//
// Question: {"kind": "schema" | "regex" | "json", "text": ..., "match": [text, ...],
//            "members": K, "length": L, "seed": S}
// Answer: {"error": ...} or {"matches": [bool, ...], "members": [text, ...],
//          "front_us": microseconds of the front end, "compile_us": of the automaton, "states": N}
#include <chrono>
#include <cstdint>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/constraint/json_parts.h"
#include "engine/constraint/json_schema.h"
#include "engine/constraint/regex.h"
#include "kernels/base/status.h"
#include "tests/engine/constraint/grammar_sampler.h"
#include "tests/engine/constraint/matches.h"

namespace based {
namespace {

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

int64_t MicrosecondsSince(Clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start).count();
}

absl::StatusOr<Grammar> GrammarOf(const Json& question) {
  const std::string kind = question.at("kind");
  if (kind == "json") return JsonGrammar();
  const std::string text = question.at("text");
  return kind == "regex" ? RegexGrammar(text, RegexLimits())
                         : JsonSchemaGrammar(text, JsonSchemaLimits());
}

absl::StatusOr<Json> Answer(const Json& question) {
  const Clock::time_point start = Clock::now();
  BASED_ASSIGN_OR_RETURN(const Grammar grammar, GrammarOf(question));
  const int64_t front = MicrosecondsSince(start);
  const Clock::time_point compiling = Clock::now();
  BASED_ASSIGN_OR_RETURN(const auto constraint, CompileForBytes(grammar));
  Json answer = {{"front_us", front},
                 {"compile_us", MicrosecondsSince(compiling)},
                 {"states", constraint->state_count()},
                 {"matches", Json::array()},
                 {"members", Json::array()}};
  for (const std::string text : question.value("match", Json::array())) {
    answer["matches"].push_back(Matches(constraint, text));
  }
  GrammarSampler sampler(grammar, question.value("seed", 1u));
  for (int i = 0; i < question.value("members", 0); ++i) {
    const std::string member = sampler.Sample(question.value("length", 40));
    if (!Matches(constraint, member)) return absl::InternalError("no match: " + member);
    answer["members"].push_back(member);
  }
  return answer;
}

}  // namespace
}  // namespace based

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    const auto answer = based::Answer(nlohmann::json::parse(line));
    if (answer.ok()) {
      std::cout << *answer << std::endl;
    } else {
      std::cout << nlohmann::json{{"error", answer.status().ToString()}} << std::endl;
    }
  }
  return 0;
}
