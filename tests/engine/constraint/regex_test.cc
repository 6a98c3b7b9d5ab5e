#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/constraint/regex.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pcre2.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "engine/constraint/dfa_bytes.h"
#include "engine/split_pattern.h"
#include "tests/engine/constraint/grammar_sampler.h"
#include "tests/engine/constraint/matches.h"

namespace based {
namespace {

using testing::HasSubstr;

bool RegexMatches(std::string_view pattern, std::string_view text) {
  const auto grammar = RegexGrammar(pattern, RegexLimits());
  EXPECT_TRUE(grammar.ok()) << pattern << ": " << grammar.status();
  const auto constraint = CompileForBytes(*grammar);
  EXPECT_TRUE(constraint.ok()) << pattern << ": " << constraint.status();
  return Matches(*constraint, text);
}

std::string Refusal(std::string_view pattern, const RegexLimits& limits = RegexLimits()) {
  const auto grammar = RegexGrammar(pattern, limits);
  EXPECT_EQ(grammar.status().code(), absl::StatusCode::kInvalidArgument) << pattern;
  return std::string(grammar.status().message());
}

TEST(Regex, MatchesTheWholeText) {
  EXPECT_TRUE(RegexMatches("ab*", "abbb"));
  EXPECT_FALSE(RegexMatches("ab*", "abbbc"));
  EXPECT_FALSE(RegexMatches("ab*", ""));
  EXPECT_TRUE(RegexMatches("", ""));
  EXPECT_TRUE(RegexMatches("(?<year>\\d{4})-(?P<month>\\d\\d)", "2024-05"));
  EXPECT_TRUE(RegexMatches("a+?b??", "aa"));
}

TEST(Regex, AnchorsHoldAtTheEndsAlone) {
  EXPECT_TRUE(RegexMatches("^a$", "a"));
  EXPECT_TRUE(RegexMatches("(^a|^b)c$", "bc"));
  EXPECT_TRUE(RegexMatches("(^|x)a", "xa"));
  EXPECT_THAT(Refusal("a^b"), HasSubstr("no text matches"));
  EXPECT_THAT(Refusal("a$b"), HasSubstr("no text matches"));
}

TEST(Regex, CharactersAreCodePoints) {
  EXPECT_TRUE(RegexMatches(".", "\U0001F600"));
  EXPECT_TRUE(RegexMatches("\\u{1F600}", "\U0001F600"));
  EXPECT_TRUE(RegexMatches("\\uD83D\\uDE00", "\U0001F600"));
  EXPECT_TRUE(RegexMatches("[\u4e00-\u9fff]{2}", "\u6f22\u5b57"));
  EXPECT_FALSE(RegexMatches(".", "\n"));
  EXPECT_FALSE(RegexMatches("[^a]", "\xED\xA0\x80"));  // a surrogate
  EXPECT_FALSE(RegexMatches("[^a]", "\xFF"));
}

TEST(Regex, ClassesAreThoseOfEcmaScript) {
  EXPECT_FALSE(RegexMatches("\\d", "\u0663"));
  EXPECT_FALSE(RegexMatches("\\w", "\u00e9"));
  EXPECT_TRUE(RegexMatches("\\s", "\u2003"));
  EXPECT_TRUE(RegexMatches("[\\s\\S]", "\u2003"));
  EXPECT_TRUE(RegexMatches("\\p{L}+\\p{Nd}\\P{L}", "\u00e9\u6f22\u0663!"));
  EXPECT_FALSE(RegexMatches("\\p{Lu}", "a"));
  EXPECT_TRUE(RegexMatches("[\\b]", "\b"));
  EXPECT_TRUE(RegexMatches("[a\\-z]+", "a-z"));
  EXPECT_TRUE(RegexMatches("[-a]+", "a-"));
}

TEST(Regex, CategoriesAreThoseOfUnicode16) {
  const std::optional<CodePointSet> letters = CategoryMembers("L");
  ASSERT_TRUE(letters.has_value());
  const std::optional<CodePointSet> marks = CategoryMembers("Mn");
  ASSERT_TRUE(marks.has_value());
  const auto contains = [](const CodePointSet& set, char32_t c) {
    return std::any_of(set.begin(), set.end(),
                       [c](const CodePointRange& r) { return r.first <= c && c <= r.last; });
  };
  for (const char32_t c : {U'a', U'\u00e9', U'\u6f22', U'\U00010D4A'}) {  // the last is new in 16
    EXPECT_TRUE(contains(*letters, c)) << static_cast<uint32_t>(c);
    EXPECT_FALSE(contains(*marks, c)) << static_cast<uint32_t>(c);
  }
  for (const char32_t c : {U'1', U' ', U'\u0301'}) EXPECT_FALSE(contains(*letters, c));
  EXPECT_FALSE(CategoryMembers("Greek").has_value());
}

TEST(Regex, RefusesByNameAndPosition) {
  const std::vector<std::pair<std::string, std::string>> refused = {
      {"a(?=b)", "byte 1: lookahead is not supported"},
      {"(?<!b)", "byte 0: lookbehind is not supported"},
      {"(a)\\1", "byte 3: a backreference is not supported"},
      {"(?<n>a)\\k<n>", "byte 7: a backreference is not supported"},
      {"\\bx", "byte 0: a word boundary is not supported"},
      {"a++", "byte 2: a possessive quantifier is not supported"},
      {"(?>a)", "byte 0: an atomic group is not supported"},
      {"(?i)a", "byte 0: a group with inline flags is not supported"},
      {"\\p{Greek}", "\\p{Greek} (not a general category) is not supported"},
      {"\\Aa", "\\A (write ^ or $) is not supported"},
      {"[[:alpha:]]", "a POSIX class is not supported"},
      {"a{2", "byte 1: a { that starts no {n}"},
      {"a{,2}", "byte 1: a { that starts no {n}"},
      {"a{3,2}", "byte 1: a repeat whose minimum is above its maximum"},
      {"(a", "byte 2: a ( without its )"},
      {"a)", "byte 1: a ) without its ("},
      {"[a", "byte 2: a class without its ]"},
      {"[]a]", "byte 1: ] first in a class"},
      {"[z-a]", "a range that ends before it begins"},
      {"[\\d-z]", "a range whose end is a class"},
      {"*a", "byte 0: nothing to repeat"},
      {"a**", "byte 2: two quantifiers in a row"},
      {"^*", "an anchor that is repeated"},
      {"\\", "byte 0: a \\ at the end"},
      {"\\ud800", "half of a surrogate pair"},
      {"\\u12", "\\u without the hexadecimal digits of a code point"},
      {"\\07", "an octal escape is not supported"},
      {"\xFF", "byte 0: not UTF-8"}};
  for (const auto& [pattern, reason] : refused) {
    EXPECT_THAT(Refusal(pattern), HasSubstr("regex: ")) << pattern;
    EXPECT_THAT(Refusal(pattern), HasSubstr(reason)) << pattern;
  }
}

TEST(Regex, LimitsAreNamed) {
  EXPECT_THAT(Refusal("a{10001}"), HasSubstr("repeats more than the limit of 10000 times"));
  EXPECT_THAT(Refusal("a{99999999999999999999}"), HasSubstr("repeats more than the limit"));
  EXPECT_THAT(Refusal("(((a{1,999}){1,999}){1,999}){1,999}"),
              HasSubstr("the limit of 200000 automaton states"));
  EXPECT_THAT(Refusal("(.*a){5}.{60}"), HasSubstr("the limit of"));  // exponential
  EXPECT_THAT(Refusal(std::string(20'000, 'a')), HasSubstr("has 20000 bytes, the limit is 16384"));
  EXPECT_THAT(Refusal(std::string(200, '(') + std::string(200, ')')),
              HasSubstr("groups nest deeper than 100"));
  RegexLimits hasty;
  hasty.max_time = std::chrono::milliseconds(-1);
  EXPECT_THAT(Refusal("a", hasty), HasSubstr("the limit of -1 ms"));
}

TEST(Regex, WhatBacktracksElsewhereIsAutomataHere) {
  EXPECT_TRUE(RegexMatches("(a*)*b", std::string(1'000, 'a') + "b"));
  EXPECT_FALSE(RegexMatches("(a|aa)+$", std::string(1'000, 'a') + "b"));
}

// A random expression: ours, and what PCRE2 has to be told for the same.
struct Expression {
  std::string ours;
  std::string pcre;
};

class RandomExpression {
 public:
  explicit RandomExpression(uint32_t seed) : random_(seed) {}

  Expression Make(int depth) {
    const int kind = depth == 0 ? 0 : Below(5);
    if (kind <= 1) return Atom();
    if (kind == 2) return Join(depth, "", "", "");
    if (kind == 3) return Join(depth, Below(2) == 0 ? "(" : "(?:", "|", ")");
    static constexpr const char* kQuantifiers[] = {"*", "+", "?", "{2}", "{1,}", "{0,3}", "+?"};
    const std::string quantifier = kQuantifiers[Below(7)];
    const Expression inner = Make(depth - 1);
    return {"(?:" + inner.ours + ")" + quantifier, "(?:" + inner.pcre + ")" + quantifier};
  }

  std::string Text() {
    static constexpr const char* kParts[] = {"a", "b", "c", "1", "-", "\n", "\u00e9", "\U0001F600"};
    std::string text;
    for (int i = Below(6); i > 0; --i) text += kParts[Below(8)];
    return text;
  }

 private:
  int Below(int n) { return std::uniform_int_distribution<int>(0, n - 1)(random_); }

  Expression Atom() {
    static const Expression kAtoms[] = {{"a", "a"},
                                        {"b", "b"},
                                        {"[ab]", "[ab]"},
                                        {"[^b]", "[^b]"},
                                        {"\\d", "[0-9]"},
                                        {"\\w", "[0-9A-Za-z_]"},
                                        {"\\W", "[^0-9A-Za-z_]"},
                                        {".", "[^\\n\\r\\x{2028}\\x{2029}]"},
                                        {"\u00e9", "\u00e9"},
                                        {"\\u{1f600}", "\\x{1f600}"},
                                        {"\\p{L}", *ToPcre2Pattern("\\p{L}")},
                                        {"\\n", "\\n"},
                                        {"^", "\\A"},
                                        {"$", "\\z"},
                                        {"[\\d\\-]", "[0-9\\-]"}};
    return kAtoms[Below(15)];
  }

  Expression Join(int depth, const std::string& open, const std::string& separator,
                  const std::string& close) {
    Expression all = {open, open};
    for (int i = 1 + Below(3); i > 0; --i) {
      const Expression part = Make(depth - 1);
      all.ours += part.ours + (i > 1 ? separator : "");
      all.pcre += part.pcre + (i > 1 ? separator : "");
    }
    return {all.ours + close, all.pcre + close};
  }

  std::mt19937 random_;
};

class Pcre {
 public:
  explicit Pcre(const std::string& pattern) : code_(Compile(pattern), &pcre2_code_free) {}

  bool Matches(const std::string& text) const {
    const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(
        pcre2_match_data_create(1, nullptr), &pcre2_match_data_free);
    return pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, 0,
                       match.get(), nullptr) >= 0;  // 0: groups beyond those asked for
  }

 private:
  static pcre2_code* Compile(const std::string& pattern) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    pcre2_code* const code =
        pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                      PCRE2_UTF | PCRE2_ANCHORED | PCRE2_ENDANCHORED, &error, &offset, nullptr);
    EXPECT_NE(code, nullptr) << pattern;
    return code;
  }

  std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> code_;
};

TEST(Regex, AgreesWithPcre2) {
  int matched = 0;
  int sampled = 0;
  for (uint32_t seed = 0; seed < 1'000; ++seed) {
    RandomExpression random(seed);
    const Expression expression = random.Make(3);
    const Pcre pcre(expression.pcre);
    const auto grammar = RegexGrammar(expression.ours, RegexLimits());
    std::vector<std::string> texts;
    for (int i = 0; i < 10; ++i) texts.push_back(random.Text());
    if (!grammar.ok()) {
      EXPECT_THAT(std::string(grammar.status().message()), HasSubstr("no text matches"));
      for (const std::string& text : texts) EXPECT_FALSE(pcre.Matches(text)) << expression.ours;
      continue;
    }
    const auto constraint = CompileForBytes(*grammar);
    ASSERT_TRUE(constraint.ok()) << expression.ours << constraint.status();
    for (const std::string& text : texts) {
      EXPECT_EQ(Matches(*constraint, text), pcre.Matches(text)) << expression.ours << " " << text;
      matched += pcre.Matches(text) ? 1 : 0;
    }
    GrammarSampler sampler(*grammar, seed);
    for (int i = 0; i < 5; ++i, ++sampled) {
      const std::string text = sampler.Sample(8);
      EXPECT_TRUE(pcre.Matches(text)) << expression.ours << " " << text;
    }
  }
  EXPECT_GE(matched, 500);
  EXPECT_GE(sampled, 3'000);
}

DfaBudget Plenty() { return DfaBudget(1'000'000, std::chrono::minutes(1)); }

CharDfa Search(const std::string& pattern) {
  DfaBudget budget = Plenty();
  return *RegexDfa(pattern, RegexMatch::kSearch, RegexLimits(), budget);
}

TEST(CharDfa, SearchFindsAnywhere) {
  EXPECT_TRUE(Search("b+").Matches("\u00e9abba"));
  EXPECT_FALSE(Search("^b").Matches("ab"));
  EXPECT_TRUE(Search("^a|b$").Matches("xb"));
  EXPECT_TRUE(Search("").Matches(""));
}

TEST(CharDfa, OperationsAreThoseOfSets) {
  DfaBudget budget = Plenty();
  std::mt19937 random(3);
  for (uint32_t seed = 0; seed < 200; ++seed) {
    RandomExpression expressions(seed);
    const CharDfa a = Search(expressions.Make(2).ours);
    const CharDfa b = Search(expressions.Make(2).ours);
    const CharDfa both = *Intersect(a, b, budget);
    const CharDfa not_a = *Complement(a, budget);
    const CharDfa lengths = *LengthDfa(1, 3, budget);
    EXPECT_EQ(Complement(not_a, budget)->size(), a.size());  // minimal both times
    EXPECT_TRUE(Intersect(a, not_a, budget)->empty());
    for (int i = 0; i < 20; ++i) {
      const std::string text = expressions.Text();
      EXPECT_EQ(both.Matches(text), a.Matches(text) && b.Matches(text));
      EXPECT_NE(not_a.Matches(text), a.Matches(text));
      int64_t characters = 0;
      for (const char byte : text) characters += (byte & 0xC0) != 0x80 ? 1 : 0;
      EXPECT_EQ(lengths.Matches(text), characters >= 1 && characters <= 3);
    }
  }
}

TEST(CharDfa, LiteralsAreThoseTexts) {
  DfaBudget budget = Plenty();
  const CharDfa some = *LiteralsDfa({"", "ab", "a\u00e9", "b", "\U0001F600"}, budget);
  for (const char* text : {"", "ab", "a\u00e9", "b", "\U0001F600"}) EXPECT_TRUE(some.Matches(text));
  for (const char* text : {"a", "abb", "\u00e9", "c", "\U0001F601"}) {
    EXPECT_FALSE(some.Matches(text)) << text;
  }
  EXPECT_TRUE(LiteralsDfa({}, budget)->empty());
}

bool Spells(const CharDfa& dfa, DfaSpelling spelling, std::string_view text) {
  DfaBudget budget = Plenty();
  Grammar grammar;
  grammar.SetStart(grammar.Fsa(*RenderDfa(dfa, spelling, budget)));
  const auto constraint = CompileForBytes(grammar);
  EXPECT_TRUE(constraint.ok());
  return Matches(*constraint, text);
}

TEST(DfaBytes, JsonStringsHaveAllEscapes) {
  DfaBudget budget = Plenty();
  const CharDfa any = *LengthDfa(1, 1, budget);
  for (const char* text : {"a",
                           "\\u0061",
                           "\\\"",
                           "\\\\",
                           "/",
                           "\\/",
                           "\\b",
                           "\\f",
                           "\\n",
                           "\\r",
                           "\\t",
                           "\\u000A",
                           "\\u000a",
                           "\u00e9",
                           "\\u00E9",
                           "\U0001F600",
                           "\\uD83D\\uDE00",
                           "\\ud83d\\udE00",
                           "\\ufFfF",
                           "\\ud7ff"}) {
    EXPECT_TRUE(Spells(any, DfaSpelling::kJsonAnyEscape, text)) << text;
  }
  for (const char* text : {"\"", "\\", "\n", "\x1f", "\\a", "\\u12", "\\uD83D", "\\uDE00",
                           "\\uD83D\\u0041", "\\uD83Dx", "\\U0041", "ab", "\\u{41}"}) {
    EXPECT_FALSE(Spells(any, DfaSpelling::kJsonAnyEscape, text)) << text;
  }
}

TEST(DfaBytes, NeededEscapesLeaveAsciiAlone) {
  DfaBudget budget = Plenty();
  const CharDfa any = *LengthDfa(1, 1, budget);
  for (const char* text : {"a", "\\\"", "\\n", "\\u001f", "\u00e9", "\\u00e9", "\\u007f"}) {
    EXPECT_TRUE(Spells(any, DfaSpelling::kJsonNeededEscape, text)) << text;
  }
  for (const char* text : {"\\u0061", "\\/", "\\u0022"}) {
    EXPECT_FALSE(Spells(any, DfaSpelling::kJsonNeededEscape, text)) << text;
  }
}

}  // namespace
}  // namespace based
