#include "engine/constraint/ebnf.h"

#include <string>

#include "engine/constraint/constraint.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/constraint/small_vocabulary.h"

namespace based {
namespace {

using testing::HasSubstr;

// Whether the grammar matches all of `text`.
bool Matches(std::string_view grammar_text, std::string_view text) {
  static const std::shared_ptr<const TokenTrie> trie = ByteTrie({});
  const absl::StatusOr<Grammar> grammar = EbnfGrammar(grammar_text);
  EXPECT_TRUE(grammar.ok()) << grammar.status() << "\n" << grammar_text;
  if (!grammar.ok()) return false;
  const auto constraint = Constraint::Compile(*grammar, trie, ConstraintLimits());
  EXPECT_TRUE(constraint.ok()) << constraint.status() << "\n" << grammar_text;
  if (!constraint.ok()) return false;
  ConstraintMatcher matcher(*constraint);
  for (const char byte : text) {
    if (!matcher.Accept(static_cast<uint8_t>(byte))) return false;
  }
  return matcher.MayEnd();
}

std::string ErrorOf(std::string_view text) {
  const absl::StatusOr<Grammar> grammar = EbnfGrammar(text);
  EXPECT_EQ(grammar.status().code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(grammar.status().message());
}

TEST(Ebnf, TextsAndEscapes) {
  EXPECT_TRUE(Matches(R"(root ::= "a\n\t\r\\\"\'\[\]\^\-z")", "a\n\t\r\\\"'[]^-z"));
  EXPECT_TRUE(Matches(R"(root ::= 'it"s')", "it\"s"));
  EXPECT_TRUE(Matches(R"(root ::= "\x41\xe9\u20AC\U0001F600")", "A\u00e9\u20ac\U0001F600"));
  EXPECT_TRUE(Matches("root ::= \"h\u00e9\"", "h\u00e9"));
  EXPECT_TRUE(Matches(R"(root ::= "")", ""));
  EXPECT_FALSE(Matches(R"(root ::= "ab")", "a"));
}

TEST(Ebnf, Classes) {
  EXPECT_TRUE(Matches("root ::= [a-cx_-]+", "abcx_-"));
  EXPECT_FALSE(Matches("root ::= [a-c]", "d"));
  EXPECT_TRUE(Matches(R"(root ::= [^a-z\]]+)", "A9 \u00e9\U0001F600\n"));
  EXPECT_FALSE(Matches(R"(root ::= [^a-z\]])", "]"));
  EXPECT_FALSE(Matches(R"(root ::= [^a-z\]])", "q"));
  EXPECT_TRUE(Matches("root ::= [\u00e0-\u00ff]", "\u00e9"));
  EXPECT_FALSE(Matches("root ::= [\u00e0-\u00ff]", "\u00c9"));
  EXPECT_TRUE(Matches(R"(root ::= [\^a])", "^"));
  EXPECT_TRUE(Matches("root ::= [a^]", "^"));
  EXPECT_TRUE(Matches("root ::= [^]", "x"));
  EXPECT_TRUE(Matches("root ::= .", "\U0001F600"));
  EXPECT_FALSE(Matches("root ::= .", "\xF0\x9F"));
  EXPECT_FALSE(Matches("root ::= .", "\x80"));
}

TEST(Ebnf, Repeats) {
  for (int n = 0; n < 8; ++n) {
    const std::string text(static_cast<size_t>(n), 'a');
    EXPECT_EQ(Matches(R"(root ::= "a"?)", text), n <= 1) << n;
    EXPECT_EQ(Matches(R"(root ::= "a"*)", text), true) << n;
    EXPECT_EQ(Matches(R"(root ::= "a"+)", text), n >= 1) << n;
    EXPECT_EQ(Matches(R"(root ::= "a"{3})", text), n == 3) << n;
    EXPECT_EQ(Matches(R"(root ::= "a"{ 3 , })", text), n >= 3) << n;
    EXPECT_EQ(Matches(R"(root ::= "a"{2,5})", text), n >= 2 && n <= 5) << n;
    EXPECT_EQ(Matches(R"(root ::= ("a"{2}){0,2})", text), n == 0 || n == 2 || n == 4) << n;
    EXPECT_EQ(Matches(R"(root ::= "a"{2}{3})", text), n == 6) << n;
    EXPECT_EQ(Matches(R"(root ::= ("a"?)*)", text), true) << n;
    EXPECT_EQ(Matches(R"(root ::= (""* "a")*)", text), true) << n;
    EXPECT_EQ(Matches(R"(root ::= "a"{0})", text), n == 0) << n;
  }
}

TEST(Ebnf, RulesSpacesAndComments) {
  const char* grammar =
      "# a list\n"
      "root ::= \"[\"\n"
      "   ( item   # first\n"
      "     (\",\" item)* )?\n"
      "   \"]\"\n"
      "item ::= num\n"
      "       | root | other-rule_2\n"
      "num ::= [0-9]+ other-rule_2 ::= \"x\" # end";
  EXPECT_TRUE(Matches(grammar, "[1,[],[x,22]]"));
  EXPECT_FALSE(Matches(grammar, "[1,]"));
  EXPECT_TRUE(Matches("root ::= | \"a\"", ""));
  EXPECT_TRUE(Matches("root::=(\"a\"|)\"b\"", "b"));
}

TEST(Ebnf, ErrorsNameThePlace) {
  EXPECT_EQ(ErrorOf("root ::= \"a\nb\""),
            "grammar: line 1, column 12: a line ends within a text or class; write \\n");
  EXPECT_EQ(ErrorOf("root ::= x\n\nx ::= [a-"),
            "grammar: line 3, column 7: this class has no closing ']'");
  EXPECT_EQ(ErrorOf("root ::= \"\u00e9\u00e9\" %"),
            "grammar: line 1, column 15: expected a text, a class, a group, the name of a rule, "
            "'|' or a new rule");
  EXPECT_THAT(ErrorOf("root ::= (\"a\""), HasSubstr("line 1, column 14: expected ')'"));
  EXPECT_THAT(ErrorOf("root ::= \"a\")"), HasSubstr("line 1, column 13: "));
  EXPECT_THAT(ErrorOf("root ::= \"a"), HasSubstr("line 1, column 10: this text has no closing"));
  EXPECT_THAT(ErrorOf("root ::= \"\\q\""), HasSubstr("column 11: unknown escape"));
  EXPECT_THAT(ErrorOf("root ::= \"\\u12g4\""), HasSubstr("expected 4 hexadecimal digits"));
  EXPECT_THAT(ErrorOf("root ::= \"\\uD800\""), HasSubstr("no Unicode character"));
  EXPECT_THAT(ErrorOf("root ::= \"\\U00110000\""), HasSubstr("no Unicode character"));
  EXPECT_THAT(ErrorOf("root ::= [z-a]"), HasSubstr("column 11: this range"));
  EXPECT_THAT(ErrorOf("root ::= []"), HasSubstr("column 10: this class matches nothing"));
  EXPECT_THAT(ErrorOf("root ::= \"a\"{3,2}"), HasSubstr("{3,2}: at least more than at most"));
  EXPECT_THAT(ErrorOf("root ::= \"a\"{}"), HasSubstr("expected a number"));
  EXPECT_THAT(ErrorOf("root ::= \"a\"{1"), HasSubstr("expected '}'"));
  EXPECT_THAT(ErrorOf("root ::= \"a\"{99999999999999999999}"), HasSubstr("more than 100000"));
  EXPECT_THAT(ErrorOf("root = \"a\""), HasSubstr("line 1, column 1: expected a rule"));
  EXPECT_THAT(ErrorOf("root ::= \"\xff\""), HasSubstr("this is not UTF-8"));
  EXPECT_THAT(ErrorOf("root ::= \"\\"), HasSubstr("ends within an escape"));
  EXPECT_THAT(ErrorOf("root ::= " + std::string(300, '(') + "\"a\"" + std::string(300, ')')),
              HasSubstr("groups nest deeper than 200"));
  EXPECT_THAT(ErrorOf(std::string((size_t{1} << 20) + 1, ' ')), HasSubstr("at most 1048576"));
}

TEST(Ebnf, RulesAreCheckedByName) {
  EXPECT_EQ(ErrorOf("a ::= \"x\""), "grammar: there is no rule root");
  EXPECT_EQ(ErrorOf(""), "grammar: there is no rule root");
  EXPECT_EQ(ErrorOf("root ::= \"x\" |\n missing"),
            "grammar: line 2, column 2: rule missing is not defined");
  EXPECT_EQ(ErrorOf("root ::= \"x\"\nroot ::= \"y\""),
            "grammar: line 2, column 1: rule root is defined twice");
  EXPECT_EQ(ErrorOf("root ::= \"x\" | loop\nloop ::= \"y\" loop"),
            "grammar: line 1, column 16: rule loop never ends: it recurs whatever is chosen");
  EXPECT_THAT(ErrorOf("root ::= a\na ::= b\nb ::= a"), HasSubstr("never ends"));
}

}  // namespace
}  // namespace based
