#include "engine/constraint/grammar.h"

#include <string>
#include <vector>

#include "engine/utf8.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// Whether the automaton takes `text`, state set by state set.
bool Takes(const ByteFsa& fsa, const std::string& text) {
  std::vector<bool> in(fsa.states.size(), false);
  in[0] = true;
  for (const char byte : text) {
    std::vector<bool> next(fsa.states.size(), false);
    for (size_t s = 0; s < in.size(); ++s) {
      if (!in[s]) continue;
      for (const ByteFsa::Edge& edge : fsa.states[s].edges) {
        if (edge.bytes[static_cast<uint8_t>(byte)]) next[edge.target] = true;
      }
    }
    in = next;
  }
  for (size_t s = 0; s < in.size(); ++s) {
    if (in[s] && fsa.states[s].accepting) return true;
  }
  return false;
}

const ByteFsa& FsaOf(const Grammar& grammar, Grammar::Node node) {
  return grammar.nodes()[node].fsa;
}

TEST(Grammar, CodePointsAreExactlyThoseOfTheRanges) {
  const std::vector<std::vector<CodePointRange>> cases = {
      {{0, 0x10FFFF}},
      {{'a', 'z'}, {0xE9, 0xE9}},
      {{0x7F, 0x80}, {0x7FF, 0x800}, {0xFFFF, 0x10000}},
      {{0x3040, 0x30FF}, {0x1F600, 0x1F64F}},
      {{0xD700, 0xE001}},
      {{0x12345, 0x10F0F0}},
      {{0x850, 0xFFE1}},
      {{0x10FFFF, 0x110005}},
  };
  for (const std::vector<CodePointRange>& ranges : cases) {
    Grammar grammar;
    const ByteFsa fsa = FsaOf(grammar, grammar.CodePoints(ranges));
    for (char32_t c = 0; c <= 0x10FFFF; c += c < 0x3000 || c % 64 < 2 || c % 64 > 62 ? 1 : 3) {
      if (c >= 0xD800 && c <= 0xDFFF) continue;
      bool wanted = false;
      for (const CodePointRange& range : ranges) wanted |= c >= range.first && c <= range.last;
      std::string text;
      AppendUtf8(c, &text);
      ASSERT_EQ(Takes(fsa, text), wanted) << "U+" << std::hex << static_cast<uint32_t>(c);
    }
  }
}

TEST(Grammar, CodePointsAreWellFormedUtf8) {
  Grammar grammar;
  const ByteFsa fsa = FsaOf(grammar, grammar.CodePoints({{0, 0x10FFFF}}));
  for (const char* text :
       {"\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xED\xBF\xBF", "\xF0\x8F\xBF\xBF",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\x80", "\xC3", "\xE2\x82", "ab"}) {
    EXPECT_FALSE(Takes(fsa, text)) << text;
  }
}

TEST(Grammar, CodePointsOfNothingMatchNothing) {
  Grammar grammar;
  const Grammar::Rule surrogates = grammar.NewRule("surrogates");
  grammar.Define(surrogates, grammar.CodePoints({{0xD800, 0xDFFF}}));
  const Grammar::Rule none = grammar.NewRule("none");
  grammar.Define(none, grammar.CodePoints({}));
  EXPECT_THAT(grammar.RulesWithoutEnd(), ElementsAre(surrogates, none));
}

TEST(Grammar, RulesWithoutEnd) {
  Grammar grammar;
  const Grammar::Rule list = grammar.NewRule("list");        // "" | "a" list
  const Grammar::Rule endless = grammar.NewRule("endless");  // "a" endless
  const Grammar::Rule user = grammar.NewRule("user");        // list endless
  const Grammar::Rule undefined = grammar.NewRule("undefined");
  const Grammar::Rule maybe = grammar.NewRule("maybe");  // endless*
  const Grammar::Rule twice = grammar.NewRule("twice");  // undefined{2}
  const Grammar::Node a = grammar.Bytes("a");
  grammar.Define(list,
                 grammar.Choice({grammar.Bytes(""), grammar.Sequence({a, grammar.Use(list)})}));
  grammar.Define(endless, grammar.Sequence({a, grammar.Use(endless)}));
  grammar.Define(user, grammar.Sequence({grammar.Use(list), grammar.Use(endless)}));
  grammar.Define(maybe, grammar.Repeat(grammar.Use(endless), 0, Grammar::kUnbounded));
  grammar.Define(twice, grammar.Repeat(grammar.Use(undefined), 2, 2));
  EXPECT_THAT(grammar.RulesWithoutEnd(), ElementsAre(endless, user, undefined, twice));
  grammar.Define(undefined, grammar.OneOf(ByteSet().set('x')));
  EXPECT_THAT(grammar.RulesWithoutEnd(), ElementsAre(endless, user));
  EXPECT_THAT(Grammar().RulesWithoutEnd(), IsEmpty());
}

}  // namespace
}  // namespace based
