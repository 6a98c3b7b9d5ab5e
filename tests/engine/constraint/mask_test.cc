// Masks against what the matcher accepts, cold and warm.
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/constraint/constraint.h"
#include "engine/tokenizer.h"
#include "gtest/gtest.h"
#include "tests/engine/constraint/constraint_helpers.h"
#include "tests/engine/constraint/naive_grammar.h"
#include "tests/engine/constraint/small_vocabulary.h"

namespace based {
namespace {

TEST(Mask, MasksAgreeWithReadingByteByByte) {
  int whole = 0;
  int partial = 0;
  ConstraintLimits limits;
  limits.max_readings = 1 << 20;
  for (uint32_t seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    const std::shared_ptr<const TokenTrie> trie = ByteTrie(RandomTokens(random, 60));
    const auto constraint = Constraint::Compile(RandomGrammar(seed + 1000).Make(), trie, limits);
    if (!constraint.ok()) continue;
    for (int walk = 0; walk < 2; ++walk) {
      ConstraintMatcher matcher(*constraint);
      for (int step = 0; step < 6 && !matcher.MustEnd(); ++step) {
        SCOPED_TRACE(testing::Message() << "seed " << seed << " step " << step);
        ++(CheckMask(matcher, *trie) ? whole : partial);
        if (HasFailure()) return;
        const std::vector<int32_t> tokens = TokensOf(matcher.Mask());
        ASSERT_FALSE(tokens.empty());
        ASSERT_TRUE(matcher.Accept(tokens[random() % tokens.size()]));
      }
    }
  }
  EXPECT_GT(whole, 1'000);
  EXPECT_LT(partial, whole / 50);
}

TEST(Mask, WarmMasksEqualFreshOnes) {
  for (uint32_t seed = 0; seed < 60; ++seed) {
    std::mt19937 random(seed);
    const std::shared_ptr<const TokenTrie> trie = ByteTrie(RandomTokens(random, 60));
    const Grammar grammar = RandomGrammar(seed + 9000).Make();
    const auto warm = Constraint::Compile(grammar, trie, ConstraintLimits());
    if (!warm.ok()) continue;
    for (int walk = 0; walk < 4; ++walk) {
      ConstraintMatcher matcher(*warm);
      ConstraintMatcher fresh(CompileOrDie(grammar, trie));
      for (int step = 0; step < 10 && !matcher.MustEnd(); ++step) {
        ASSERT_EQ(matcher.Mask(), fresh.Mask()) << "seed " << seed;
        const std::vector<int32_t> tokens = TokensOf(matcher.Mask());
        const int32_t token = tokens[random() % tokens.size()];
        ASSERT_TRUE(matcher.Accept(token));
        ASSERT_TRUE(fresh.Accept(token));
      }
    }
  }
}

TEST(Mask, SmallCacheChangesNoMask) {
  ConstraintLimits limits;
  limits.max_mask_cache_bytes = 600;
  const std::shared_ptr<const TokenTrie> trie = ByteTrie({"[[", "]]", "1,", ",[", "],"});
  const char* grammar = R"(root ::= "[" (item ("," item)*)? "]"
                           item ::= [0-9]+ | root)";
  const auto small = CompileEbnf(grammar, trie, limits);
  ConstraintMatcher matcher(small);
  ConstraintMatcher other(CompileEbnf(grammar, trie));
  for (const char byte : std::string("[12,[[3],[4,5,[]]],6]")) {
    ASSERT_EQ(matcher.Mask(), other.Mask());
    ASSERT_TRUE(matcher.Accept(static_cast<uint8_t>(byte)));
    ASSERT_TRUE(other.Accept(static_cast<uint8_t>(byte)));
    EXPECT_LT(small->bytes(), 64 << 10);
  }
  EXPECT_TRUE(matcher.MustEnd());
}

TEST(Mask, MasksOfRuns) {
  const std::shared_ptr<const TokenTrie> trie =
      ByteTrie({"aa",      "aab",     "aabb", "ab", "abab", "ababab",   "ab!",
                "abab!",   "abab!!",  "ab!a", "!a", "!!",   "a\u00e9",  "a\u00e9b",
                "\u00e9a", "\u00e9!", "a.b",  "a.", ".ab",  "aaaaaaaa", "aaaaaaaaa!"});
  for (const char* grammar :
       {R"(root ::= chars "!" chars "!"   chars ::= ([a-z\u00e9] | "\\" [a-z] | "--" [a-z])*)",
        R"(root ::= chars chars "!"   chars ::= ([a-z\u00e9] | "\\" [a-z] | "--" [a-z]){0,5})",
        R"(root ::= [ab]{0,7} "!"? | [ab]{3} "." [a-z]{2,4})",
        R"(root ::= x x x   x ::= [ab]{2,6} ("!" | ".abcdefgh")*)", R"(root ::= .* "!")"}) {
    const auto constraint = CompileEbnf(grammar, trie);
    std::mt19937 random(3);
    for (int walk = 0; walk < 10; ++walk) {
      ConstraintMatcher matcher(constraint);
      for (int step = 0; step < 8 && !matcher.MustEnd(); ++step) {
        SCOPED_TRACE(testing::Message() << grammar << " step " << step);
        ASSERT_TRUE(CheckMask(matcher, *trie));
        if (HasFailure()) return;
        const std::vector<int32_t> tokens = TokensOf(matcher.Mask());
        ASSERT_TRUE(matcher.Accept(tokens[random() % tokens.size()]));
      }
    }
  }
}

// Threads that walk over one constraint, whose cache is too small for them all.
TEST(Mask, ManyThreadsShareThem) {
  const std::shared_ptr<const TokenTrie> trie =
      ByteTrie({"[[", "]]", "1,", ",[", "],", "12", "[1"});
  ConstraintLimits limits;
  limits.max_mask_cache_bytes = 2'000;
  const char* grammar = R"(root ::= "[" (item ("," item)*)? "]"
                           item ::= [0-9]+ | root)";
  const auto shared = CompileEbnf(grammar, trie, limits);
  std::vector<std::thread> threads;
  for (uint32_t seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&, seed] {
      const auto own = CompileEbnf(grammar, trie);
      std::mt19937 random(seed);
      for (int walk = 0; walk < 20; ++walk) {
        ConstraintMatcher matcher(shared);
        ConstraintMatcher other(own);
        for (int step = 0; step < 40 && !matcher.MustEnd(); ++step) {
          ASSERT_EQ(matcher.Mask(), other.Mask());
          const std::vector<int32_t> tokens = TokensOf(matcher.Mask());
          const int32_t token = tokens[random() % tokens.size()];
          ASSERT_TRUE(matcher.Accept(token));
          ASSERT_TRUE(other.Accept(token));
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(Mask, DemoTokenizer) {
  const auto tokenizer = Tokenizer::Load(std::string(BASED_SOURCE_DIR) + "/models/demo");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto trie = TokenTrie::Create(**tokenizer, (*tokenizer)->size(), 0);
  ASSERT_TRUE(trie.ok()) << trie.status();
  const auto constraint = CompileEbnf(R"gbnf(
    root   ::= ws value ws
    value  ::= object | array | string | number | "true" | "false" | "null"
    object ::= "{" ws (pair (ws "," ws pair)*)? ws "}"
    pair   ::= string ws ":" ws value
    array  ::= "[" ws (value (ws "," ws value)*)? ws "]"
    string ::= "\"" ([^"\\\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}))* "\""
    number ::= "-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)? ([eE] [-+]? [0-9]+)?
    ws     ::= [ \t\n\r]*)gbnf",
                                      *trie);
  std::mt19937 random(7);
  for (int walk = 0; walk < 6; ++walk) {
    ConstraintMatcher matcher(constraint);
    for (int step = 0; step < 40 && !matcher.MustEnd(); ++step) {
      const std::vector<int32_t> tokens = TokensOf(matcher.Mask());
      ASSERT_FALSE(tokens.empty());
      for (int32_t token = random() % 16; token < (*trie)->vocab_size(); token += 16) {
        ASSERT_EQ(Bit(matcher.Mask(), token), ConstraintMatcher(matcher).Accept(token)) << token;
      }
      const int32_t token = tokens[random() % tokens.size()];
      if (token == (*trie)->eos_token_id()) continue;
      ASSERT_TRUE(matcher.Accept(token));
    }
  }
}

// A small grammar of many readings: its masks are cut where they would take long, and the same
// whether or not others were asked for before.
TEST(Mask, HardMasksAreCutAlike) {
  const auto tokenizer = Tokenizer::Load(std::string(BASED_SOURCE_DIR) + "/models/demo");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto trie = TokenTrie::Create(**tokenizer, (*tokenizer)->size(), 0);
  ASSERT_TRUE(trie.ok()) << trie.status();
  constexpr int kRules = 30;
  std::string grammar = "root ::=";
  for (int i = 0; i < kRules; ++i) absl::StrAppend(&grammar, " r", i, "?");
  for (int i = 0; i < kRules; ++i) {
    absl::StrAppend(&grammar, "\nr", i, " ::= [a-z ]* root? r", (i * 7 + 1) % kRules, "?");
  }
  ConstraintMatcher warm(CompileEbnf(grammar, *trie));
  std::string text;
  bool cut = false;
  for (int step = 0; step < 3; ++step) {
    ConstraintMatcher fresh(CompileEbnf(grammar, *trie));
    for (const char byte : text) ASSERT_TRUE(fresh.Accept((*trie)->TokensOfByte(byte).front()));
    ASSERT_EQ(warm.Mask(), fresh.Mask()) << step;
    cut = cut || TokensOf(warm.Mask()).size() < 100;  // a thousand tokens are of its letters
    text += 'n';
    ASSERT_TRUE(warm.Accept((*trie)->TokensOfByte('n').front()));
  }
  EXPECT_TRUE(cut);
}

}  // namespace
}  // namespace based
