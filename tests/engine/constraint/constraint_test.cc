#include "engine/constraint/constraint.h"

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/constraint/choice.h"
#include "engine/constraint/ebnf.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/constraint/constraint_helpers.h"
#include "tests/engine/constraint/naive_grammar.h"
#include "tests/engine/constraint/small_vocabulary.h"

namespace based {
namespace {

using testing::HasSubstr;

// All texts over a, b and c up to `length` bytes, shortest first.
std::vector<std::string> Texts(size_t length) {
  std::vector<std::string> texts = {""};
  for (size_t i = 0; i < texts.size() && texts[i].size() < length; ++i) {
    for (const char c : {'a', 'b', 'c'}) texts.push_back(texts[i] + c);
  }
  return texts;
}

TEST(Constraint, AcceptsExactlyWhatTheGrammarMatches) {
  const std::shared_ptr<const TokenTrie> trie = ByteTrie({});
  const std::vector<std::string> texts = Texts(5);
  int compiled = 0;
  for (uint32_t seed = 0; seed < 600; ++seed) {
    const Grammar grammar = RandomGrammar(seed).Make();
    const auto constraint = Constraint::Compile(grammar, trie, ConstraintLimits());
    for (const std::string& text : texts) {
      const bool wanted = NaivelyMatches(grammar, text);
      if (!constraint.ok()) {
        ASSERT_FALSE(wanted) << "seed " << seed << " '" << text << "' " << constraint.status();
        continue;
      }
      ConstraintMatcher matcher(*constraint);
      const bool accepted = AcceptBytes(matcher, text) && matcher.MayEnd();
      ASSERT_EQ(accepted, wanted) << "seed " << seed << " '" << text << "'";
    }
    compiled += constraint.ok() ? 1 : 0;
  }
  EXPECT_GT(compiled, 100);
}

// From wherever masks lead, the end is in reach: never a step back is needed.

TEST(Constraint, WalksEndInTheLanguage) {
  int ended = 0;
  for (uint32_t seed = 0; seed < 1500; ++seed) {
    std::mt19937 random(seed);
    const std::shared_ptr<const TokenTrie> trie = ByteTrie(RandomTokens(random, 20));
    const Grammar grammar = RandomGrammar(seed + 5000).Make();
    const auto constraint = Constraint::Compile(grammar, trie, ConstraintLimits());
    if (!constraint.ok()) continue;
    ConstraintMatcher matcher(*constraint);
    std::string text;
    while (!matcher.MayEnd() || (!matcher.MustEnd() && text.size() < 3)) {
      const std::vector<int32_t> tokens = TokensOf(matcher.Mask());
      ASSERT_FALSE(tokens.empty()) << "seed " << seed << " '" << text << "'";
      const int32_t token = tokens[random() % tokens.size()];
      ASSERT_TRUE(matcher.Accept(token));
      if (token == trie->eos_token_id() || text.size() > 500) break;
      text += trie->Bytes(token);
    }
    if (text.size() > 31) continue;
    ++ended;
    ASSERT_TRUE(NaivelyMatches(grammar, text)) << "seed " << seed << " '" << text << "'";
  }
  EXPECT_GT(ended, 150);
}

TEST(Constraint, CopiesAreIndependent) {
  const std::shared_ptr<const TokenTrie> trie = ByteTrie({});
  ConstraintMatcher first(CompileEbnf(R"(root ::= "a" root "b" | "c")", trie));
  ASSERT_TRUE(AcceptBytes(first, "aa"));
  ConstraintMatcher second = first;
  ASSERT_TRUE(AcceptBytes(first, "cbb"));
  EXPECT_TRUE(first.MustEnd());
  EXPECT_FALSE(second.MayEnd());
  ASSERT_TRUE(AcceptBytes(second, "acbb"));
  EXPECT_FALSE(second.MayEnd());
  ASSERT_TRUE(AcceptBytes(second, "b"));
  EXPECT_TRUE(second.MustEnd());
}

TEST(Constraint, RefusedTokensChangeNothing) {
  const std::shared_ptr<const TokenTrie> trie = ByteTrie({"abx", "abc"});
  ConstraintMatcher matcher(CompileEbnf(R"(root ::= "abc" "d"?)", trie));
  EXPECT_FALSE(matcher.Accept(256));  // "abx" fails at its end
  EXPECT_FALSE(matcher.Accept('b'));
  EXPECT_FALSE(matcher.Accept(-1));
  EXPECT_FALSE(matcher.Accept(1'000'000));
  EXPECT_FALSE(matcher.Accept(trie->eos_token_id()));
  EXPECT_TRUE(matcher.Accept(257));
  EXPECT_TRUE(matcher.MayEnd());
  EXPECT_FALSE(matcher.MustEnd());
  EXPECT_TRUE(matcher.Accept(trie->eos_token_id()));
  EXPECT_FALSE(matcher.Accept('d'));
  EXPECT_TRUE(TokensOf(matcher.Mask()).empty());
}

TEST(Constraint, LeftRecursion) {
  const std::shared_ptr<const TokenTrie> trie = ByteTrie({});
  // Direct, through another rule, and behind something that may be empty.
  for (const char* grammar :
       {R"(root ::= root "+" term | term   term ::= [0-9]+)",
        R"(root ::= sum   sum ::= more term | term   more ::= sum "+"   term ::= [0-9]+)",
        R"(root ::= empty root "+" term | term   empty ::= ""?   term ::= [0-9]+)"}) {
    ConstraintMatcher matcher(CompileEbnf(grammar, trie));
    EXPECT_FALSE(ConstraintMatcher(matcher).Accept('+'));
    ASSERT_TRUE(AcceptBytes(matcher, "1+22+3")) << grammar;
    EXPECT_TRUE(matcher.MayEnd());
    EXPECT_TRUE(ConstraintMatcher(matcher).Accept('+'));
    EXPECT_FALSE(matcher.Accept('a'));
    std::string many;
    for (int i = 0; i < 20'000; ++i) many += "+1";
    EXPECT_TRUE(AcceptBytes(matcher, many));
  }
}

TEST(Constraint, AmbiguousGrammarsStaySmall) {
  const std::shared_ptr<const TokenTrie> trie = ByteTrie({"aa", "aaaaaaaa", "ab"});
  for (const char* grammar :
       {R"(root ::= root root | "a")", R"(root ::= root root root | root root | "a")",
        R"(root ::= ("a"* "a"*)*  "a"*)"}) {
    const auto constraint = CompileEbnf(grammar, trie);
    ConstraintMatcher matcher(constraint);
    for (int i = 0; i < 1'000; ++i) {
      ASSERT_TRUE(Bit(matcher.Mask(), 'a'));
      ASSERT_TRUE(matcher.Accept(i % 2 == 0 ? 257 : 'a')) << i;
      ASSERT_TRUE(matcher.MayEnd());
    }
  }
  // Two to the number of letters of readings, all different to the end.
  ConstraintMatcher matcher(CompileEbnf(R"(root ::= "a" x "b" | "a" y "c" | "d"
                                           x ::= root | "e"   y ::= root | "f")",
                                        trie));
  const std::string half(300, 'a');
  ASSERT_TRUE(AcceptBytes(matcher, half + "d"));
  for (int i = 0; i < 300; ++i) ASSERT_TRUE(matcher.Accept(i % 3 == 0 ? 'b' : 'c'));
  EXPECT_TRUE(matcher.MustEnd());
}

TEST(Constraint, NestingIsBoundedAndNeverStuck) {
  const std::shared_ptr<const TokenTrie> trie = ByteTrie({"[[", "[[[[[[[[", "]]", "[]"});
  ConstraintLimits limits;
  limits.max_depth = 100;
  ConstraintMatcher matcher(CompileEbnf(R"(root ::= "[" root* "]")", trie, limits));
  int depth = 0;
  while (Bit(matcher.Mask(), '[')) {
    ASSERT_TRUE(matcher.Accept('['));
    ASSERT_LE(++depth, 101);
    const std::vector<int32_t> tokens = TokensOf(matcher.Mask());
    ASSERT_FALSE(tokens.empty());
    for (const int32_t token : tokens) ASSERT_TRUE(ConstraintMatcher(matcher).Accept(token));
  }
  EXPECT_GT(depth, 95);
  while (!matcher.MustEnd()) {
    ASSERT_TRUE(matcher.Accept(']'));
    --depth;
  }
  EXPECT_EQ(depth, 0);
  limits.max_depth = 20'000;
  limits.max_readings = 1 << 20;
  ConstraintMatcher deep(CompileEbnf(R"(root ::= "[" root* "]")", trie, limits));
  ASSERT_TRUE(AcceptBytes(deep, std::string(10'000, '[')));
  ASSERT_TRUE(AcceptBytes(deep, std::string(10'000, ']')));
  EXPECT_TRUE(deep.MustEnd());
}

TEST(Constraint, LongRepeatsAreExact) {
  const std::shared_ptr<const TokenTrie> trie = ByteTrie({});
  struct Case {
    const char* repeat;
    size_t min;
    size_t max;
  };
  for (const Case& c :
       {Case{"{257}", 257, 257}, Case{"{0,1000}", 0, 1'000}, Case{"{300,301}", 300, 301},
        Case{"{1,289}", 1, 289}, Case{"{300,}", 300, 2'000}, Case{"{7,999}", 7, 999}}) {
    const auto constraint = CompileEbnf(absl::StrCat("root ::= [ab]", c.repeat), trie);
    EXPECT_LT(constraint->state_count(), 700) << c.repeat;
    ConstraintMatcher matcher(constraint);
    for (size_t length = 0; length <= c.max; ++length) {
      ASSERT_EQ(matcher.MayEnd(), length >= c.min) << c.repeat << " " << length;
      ASSERT_EQ(matcher.Accept(length % 3 == 0 ? 'a' : 'b'), length < c.max || c.max == 2'000)
          << c.repeat << " " << length;
    }
  }
}

// Text between the places where something is decided: runs of states that the walk takes at once.

TEST(Constraint, ForcedBytes) {
  const std::shared_ptr<const TokenTrie> trie = ByteTrie({});
  ConstraintMatcher matcher(CompileEbnf(
      R"(root ::= "{\"name\": \"" [a-z]+ "\", \"on\": " ("true" | "tame") "}" "!"?)", trie));
  EXPECT_EQ(matcher.ForcedBytes(100), "{\"name\": \"");
  EXPECT_EQ(matcher.ForcedBytes(3), "{\"n");
  ASSERT_TRUE(AcceptBytes(matcher, "{\"name\": \"x"));
  EXPECT_EQ(matcher.ForcedBytes(100), "");
  ASSERT_TRUE(AcceptBytes(matcher, "\""));
  EXPECT_EQ(matcher.ForcedBytes(100), ", \"on\": t");
  ASSERT_TRUE(AcceptBytes(matcher, ", \"on\": tr"));
  EXPECT_EQ(matcher.ForcedBytes(100), "ue}");  // "!" may follow and need not
  ASSERT_TRUE(AcceptBytes(matcher, "ue}"));
  EXPECT_EQ(matcher.ForcedBytes(100), "");
  EXPECT_TRUE(matcher.MayEnd());
  ASSERT_TRUE(AcceptBytes(matcher, "!"));
  EXPECT_TRUE(matcher.MustEnd());
}

TEST(Constraint, Choice) {
  const std::shared_ptr<const TokenTrie> trie = ByteTrie({"yes", "ye", "no", "maybe", "not"});
  const absl::StatusOr<Grammar> grammar = ChoiceGrammar({"yes", "no", "nothing", "yes"});
  ASSERT_TRUE(grammar.ok());
  ConstraintMatcher matcher(CompileOrDie(*grammar, trie));
  EXPECT_THAT(TokensOf(matcher.Mask()), testing::ElementsAre('n', 'y', 256, 257, 258, 260));
  ASSERT_TRUE(matcher.Accept(258));
  EXPECT_TRUE(matcher.MayEnd());
  EXPECT_FALSE(matcher.MustEnd());
  EXPECT_THAT(TokensOf(matcher.Mask()), testing::ElementsAre('t', trie->eos_token_id()));
}

TEST(Constraint, ChoiceRefusals) {
  EXPECT_THAT(ChoiceGrammar({}).status().message(), HasSubstr("choice: empty"));
  EXPECT_THAT(ChoiceGrammar(std::vector<std::string>(10'001, "a")).status().message(),
              HasSubstr("choice: 10001 texts, at most 10000"));
  EXPECT_THAT(ChoiceGrammar({std::string((1 << 20) + 1, 'a')}).status().message(),
              HasSubstr("choice: 1048577 bytes"));
}

TEST(Constraint, EmptyTextAlone) {
  const std::shared_ptr<const TokenTrie> trie = ByteTrie({});
  ConstraintMatcher matcher(CompileOrDie(*ChoiceGrammar({""}), trie));
  EXPECT_TRUE(matcher.MayEnd());
  EXPECT_TRUE(matcher.MustEnd());
  EXPECT_THAT(TokensOf(matcher.Mask()), testing::ElementsAre(trie->eos_token_id()));
  EXPECT_FALSE(matcher.Accept('a'));
  EXPECT_TRUE(matcher.Accept(trie->eos_token_id()));
}

TEST(Constraint, NothingMatches) {
  const std::shared_ptr<const TokenTrie> trie = ByteTrie({});
  Grammar grammar;
  const Grammar::Rule rule = grammar.NewRule("endless");
  grammar.Define(rule, grammar.Sequence({grammar.Bytes("a"), grammar.Use(rule)}));
  grammar.SetStart(grammar.Use(rule));
  const auto endless = Constraint::Compile(grammar, trie, ConstraintLimits());
  EXPECT_EQ(endless.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(endless.status().message(), HasSubstr("no text can match"));
  Grammar undefined;
  undefined.SetStart(undefined.Use(undefined.NewRule("x")));
  EXPECT_THAT(Constraint::Compile(undefined, trie, ConstraintLimits()).status().message(),
              HasSubstr("rule x is not defined"));
  EXPECT_THAT(Constraint::Compile(Grammar(), trie, ConstraintLimits()).status().message(),
              HasSubstr("the grammar is empty"));
}

TEST(Constraint, OnlyWhatTheVocabularySpells) {
  // No token "b" of its own: "ab" leads where "b" alone could not, so texts with b are not offered.
  auto trie = TokenTrie::Create(SmallVocabulary({"a", "c", "ab", "d"}), 4, 3);
  ASSERT_TRUE(trie.ok());
  ConstraintMatcher matcher(CompileEbnf(R"(root ::= "a" ("b" "b" | "c"))", *trie));
  EXPECT_THAT(TokensOf(matcher.Mask()), testing::ElementsAre(0));
  const auto none = Constraint::Compile(*EbnfGrammar(R"(root ::= "b")"), *trie, {});
  EXPECT_THAT(none.status().message(), HasSubstr("no text can match"));
}

TEST(Constraint, WithoutEndToken) {
  auto trie = TokenTrie::Create(SmallVocabulary({"a", "b"}), 40, TokenTrie::kNoToken);
  ASSERT_TRUE(trie.ok());
  ConstraintMatcher matcher(CompileEbnf(R"(root ::= "a"+ "b")", *trie));
  EXPECT_EQ(matcher.Mask().size(), 2u);
  ASSERT_TRUE(matcher.Accept(0));
  ASSERT_TRUE(matcher.Accept(1));
  EXPECT_TRUE(matcher.MustEnd());
  EXPECT_TRUE(TokensOf(matcher.Mask()).empty());
  EXPECT_FALSE(matcher.Accept(TokenTrie::kNoToken));
}

TEST(Constraint, LimitsAreKept) {
  const std::shared_ptr<const TokenTrie> trie = ByteTrie({});
  const auto refused = [&](std::string_view grammar, const ConstraintLimits& limits) {
    const auto constraint = Constraint::Compile(*EbnfGrammar(grammar), trie, limits);
    EXPECT_EQ(constraint.status().code(), absl::StatusCode::kInvalidArgument) << grammar;
    return std::string(constraint.status().message());
  };
  ConstraintLimits limits;
  limits.max_states = 1'000;
  EXPECT_THAT(refused(R"(root ::= "a"{250} "b"{250} "c"{250} "d"{250})", limits),
              HasSubstr("more than 1000 states"));
  EXPECT_THAT(refused(R"(root ::= ([ab]{200} "c" | [bc]{200} "a"){99999} "d"{9})", limits),
              HasSubstr("more than 1000 states"));
  limits = {};
  limits.max_machines = 2;
  EXPECT_THAT(refused(R"(root ::= "a" a?  a ::= "b" b?  b ::= "c" root?)", limits),
              HasSubstr("3 rules that recurse or are used more than once, at most 2"));
  limits = {};
  limits.max_table_bytes = 1'000;
  EXPECT_THAT(refused(R"(root ::= "a"{200})", limits), HasSubstr("the tables take"));
  limits = {};
  limits.max_compile_time = std::chrono::milliseconds(-1);
  EXPECT_THAT(refused(R"(root ::= "a")", limits), HasSubstr("not compiled within -1 ms"));
  limits = {};
  limits.max_depth = 2;
  std::string nested = "root ::= r5 r0 ::= [a-z] \"abcdefghijkl\"";
  for (int i = 1; i <= 5; ++i) {
    nested += absl::StrFormat(" r%d ::= r%d r%d \"abcdefghijkl\"", i, i - 1, i - 1);
  }
  EXPECT_THAT(refused(nested, limits), HasSubstr("every text nests"));
}

// What counts is what becomes an automaton of its own: of a chain of rules nothing does, of rules
// that recurse everything.
TEST(Constraint, RulesThatAreUsedOnceAreNoAutomata) {
  constexpr int kRules = 30'001;
  std::string chain = "root ::= r0";
  std::string recursive = "root ::= r0";
  for (int i = 0; i < kRules; ++i) {
    absl::StrAppend(&chain, "\nr", i, " ::= ");
    absl::StrAppend(&chain, i + 1 < kRules ? absl::StrCat("r", i + 1) : "[a-z]");
    absl::StrAppend(&recursive, "\nr", i, " ::= [a-z] r", i, "?");
    if (i + 1 < kRules) absl::StrAppend(&recursive, " r", i + 1, "?");
  }
  const std::shared_ptr<const TokenTrie> trie = ByteTrie({});
  ConstraintLimits limits;
  limits.max_compile_time = std::chrono::minutes(1);  // a sanitized build, beside other tests
  EXPECT_GT(kRules, limits.max_machines);
  EXPECT_TRUE(Constraint::Compile(*EbnfGrammar(chain), trie, limits).ok());
  const auto refused = Constraint::Compile(*EbnfGrammar(recursive), trie, limits);
  EXPECT_THAT(std::string(refused.status().message()),
              HasSubstr("30002 rules that recurse or are used more than once, at most 16384"));
}

// A regular expression whose deterministic automaton has 2^20 states is followed in many at once.

TEST(Constraint, NoExponentialAutomata) {
  const std::shared_ptr<const TokenTrie> trie = ByteTrie({"ab", "ba", "abab"});
  const auto constraint = CompileEbnf(R"(root ::= [ab]* "a" [ab]{20})", trie);
  EXPECT_LT(constraint->state_count(), 5'000);
  ConstraintMatcher matcher(constraint);
  std::mt19937 random(1);
  std::string text;
  for (int i = 0; i < 2'000; ++i) {
    const char byte = "ab"[random() % 2];
    text.push_back(byte);
    ASSERT_TRUE(matcher.Accept(byte));
    ASSERT_EQ(matcher.MayEnd(), text.size() > 20 && text[text.size() - 21] == 'a') << i;
  }
  EXPECT_TRUE(CheckMask(matcher, *trie));
}

}  // namespace
}  // namespace based
