// Grammars and then a walk. Input: an EBNF grammar, a NUL byte, bytes that choose the walk's
// tokens. Whatever compiles must never be stuck: each token of a mask is accepted, no mask is empty
// before the end, and what is sure to come is accepted too.
#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/constraint/constraint.h"
#include "engine/constraint/ebnf.h"
#include "kernels/base/check.h"
#include "tests/engine/constraint/small_vocabulary.h"
#include "tests/fuzz/fuzz_input.h"

namespace based {
namespace {

// Larger grammars only slow the fuzzer down.
constexpr size_t kMostGrammar = 2'048;
constexpr int kMostSteps = 64;

const std::shared_ptr<const TokenTrie>& Trie() {
  static const std::shared_ptr<const TokenTrie> trie =
      ByteTrie({"ab", "abc", "aa", "aaaa", "\"a", "\",", "{\"", "}]", "],[", "[[", "\xC3\xA9",
                "\xE2\x82", "00", "1.", "  ", "\n\n", "true", "null"});
  return trie;
}

ConstraintLimits Limits() {
  ConstraintLimits limits;
  limits.max_states = 4'096;
  limits.max_machines = 256;
  limits.max_compile_time = std::chrono::milliseconds(10'000);
  limits.max_mask_cache_bytes = 1 << 16;
  limits.max_depth = 40;
  limits.max_readings = 512;
  return limits;
}

void CheckRefusal(const absl::Status& status) {
  BASED_CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  BASED_CHECK(!status.message().empty());
}

std::vector<int32_t> TokensOf(absl::Span<const uint32_t> mask) {
  std::vector<int32_t> tokens;
  for (size_t word = 0; word < mask.size(); ++word) {
    for (uint32_t bits = mask[word]; bits != 0; bits &= bits - 1) {
      tokens.push_back(static_cast<int32_t>(word * 32) + __builtin_ctz(bits));
    }
  }
  return tokens;
}

void CheckForced(const ConstraintMatcher& matcher) {
  const std::string forced = matcher.ForcedBytes(16);
  ConstraintMatcher ahead = matcher;
  for (const char byte : forced) {
    BASED_CHECK(!ahead.MayEnd());
    BASED_CHECK(ahead.Accept(static_cast<uint8_t>(byte)));
  }
}

void Walk(const std::shared_ptr<const Constraint>& constraint, FuzzInput& input) {
  ConstraintMatcher matcher(constraint);
  for (int step = 0; step < kMostSteps && !matcher.MustEnd(); ++step) {
    const std::vector<int32_t> tokens = TokensOf(matcher.Mask());
    BASED_CHECK(!tokens.empty());
    CheckForced(matcher);
    const uint8_t choice = input.Byte();
    const int32_t token = tokens[choice % tokens.size()];
    const bool may_end = matcher.MayEnd();
    BASED_CHECK(matcher.Accept(token));
    if (token != Trie()->eos_token_id()) continue;
    BASED_CHECK(may_end && matcher.MustEnd());
  }
}

}  // namespace
}  // namespace based

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  based::FuzzInput input(data, size);
  const std::string_view text = input.TakeUntil('\0').substr(0, based::kMostGrammar);
  const absl::StatusOr<based::Grammar> grammar = based::EbnfGrammar(text);
  if (!grammar.ok()) {
    based::CheckRefusal(grammar.status());
    return 0;
  }
  const auto constraint = based::Constraint::Compile(*grammar, based::Trie(), based::Limits());
  if (!constraint.ok()) {
    based::CheckRefusal(constraint.status());
    return 0;
  }
  based::Walk(*constraint, input);
  return 0;
}
