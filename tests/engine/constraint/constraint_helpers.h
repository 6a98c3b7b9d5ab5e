// Short forms for tests of constraints.
#ifndef BASED_TESTS_ENGINE_CONSTRAINT_CONSTRAINT_HELPERS_H_
#define BASED_TESTS_ENGINE_CONSTRAINT_CONSTRAINT_HELPERS_H_

#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/constraint/constraint.h"
#include "engine/constraint/ebnf.h"
#include "gtest/gtest.h"

namespace based {

inline std::shared_ptr<const Constraint> CompileOrDie(const Grammar& grammar,
                                                      std::shared_ptr<const TokenTrie> trie,
                                                      const ConstraintLimits& limits = {}) {
  auto constraint = Constraint::Compile(grammar, std::move(trie), limits);
  EXPECT_TRUE(constraint.ok()) << constraint.status();
  return constraint.ok() ? *constraint : nullptr;
}

inline std::shared_ptr<const Constraint> CompileEbnf(std::string_view text,
                                                     std::shared_ptr<const TokenTrie> trie,
                                                     const ConstraintLimits& limits = {}) {
  const absl::StatusOr<Grammar> grammar = EbnfGrammar(text);
  EXPECT_TRUE(grammar.ok()) << grammar.status();
  return CompileOrDie(*grammar, std::move(trie), limits);
}

inline bool AcceptBytes(ConstraintMatcher& matcher, std::string_view bytes) {
  for (const char byte : bytes) {
    if (!matcher.Accept(static_cast<uint8_t>(byte))) return false;
  }
  return true;
}

inline bool Bit(absl::Span<const uint32_t> mask, int32_t token) {
  return mask[static_cast<size_t>(token) / 32] >> (token % 32) & 1;
}

inline std::vector<int32_t> TokensOf(absl::Span<const uint32_t> mask) {
  std::vector<int32_t> tokens;
  for (size_t t = 0; t < mask.size() * 32; ++t) {
    if (Bit(mask, static_cast<int32_t>(t))) tokens.push_back(static_cast<int32_t>(t));
  }
  return tokens;
}

inline std::vector<std::string> RandomTokens(std::mt19937& random, int count) {
  std::vector<std::string> tokens;
  for (int i = 0; i < count; ++i) {
    std::string token;
    for (size_t n = 2 + random() % 5; n > 0; --n) token.push_back("abc"[random() % 3]);
    tokens.push_back(token);
  }
  return tokens;
}

// Each token's bit, against the same bytes read one after the other. False when the text has so
// many readings that the mask leaves out all tokens of more than a byte.
inline bool CheckMask(ConstraintMatcher& matcher, const TokenTrie& trie) {
  const std::vector<uint32_t> mask(matcher.Mask().begin(), matcher.Mask().end());
  bool single_bytes = true;
  for (const int32_t token : TokensOf(mask)) single_bytes &= trie.Bytes(token).size() <= 1;
  bool left_out = false;
  for (int32_t token = 0; token < trie.vocab_size(); ++token) {
    ConstraintMatcher whole = matcher;
    ConstraintMatcher byte_by_byte = matcher;
    const bool possible = token == trie.eos_token_id()
                              ? matcher.MayEnd()
                              : AcceptBytes(byte_by_byte, trie.Bytes(token));
    EXPECT_EQ(whole.Accept(token), possible) << token;
    if (possible && single_bytes && trie.Bytes(token).size() > 1) {
      left_out = true;
      continue;
    }
    EXPECT_EQ(Bit(mask, token), possible) << token << " '" << trie.Bytes(token) << "'";
  }
  return !left_out;
}

}  // namespace based

#endif  // BASED_TESTS_ENGINE_CONSTRAINT_CONSTRAINT_HELPERS_H_
