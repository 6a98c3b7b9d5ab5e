// What the rules of a sequence count and ban, draw by draw.
#include "engine/draw_rules.h"

#include <map>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

std::map<int32_t, int32_t> Counts(const SampleRules& rules) {
  std::map<int32_t, int32_t> counts;
  for (const TokenCount& count : rules.counts) {
    EXPECT_TRUE(counts.emplace(count.id, count.output_count).second) << "id " << count.id;
  }
  return counts;
}

TEST(DrawRulesTest, RepetitionCountsThePromptAndTheOthersTheOutput) {
  RuleSpec spec;
  spec.rules.repetition_penalty = 1.5f;
  DrawRules rules(spec, {7, 8, 7});
  EXPECT_TRUE(rules.needs_history());
  EXPECT_EQ(Counts(rules.ForDraw(0)), (std::map<int32_t, int32_t>{{7, 0}, {8, 0}}));
  for (const int32_t token : {8, 3, 8}) rules.OnToken(token);
  EXPECT_EQ(Counts(rules.ForDraw(3)), (std::map<int32_t, int32_t>{{7, 0}, {8, 2}, {3, 1}}));

  RuleSpec presence;
  presence.rules.presence_penalty = 1;
  DrawRules output_only(presence, {7, 8});
  EXPECT_THAT(output_only.ForDraw(0).counts, IsEmpty());
  output_only.OnToken(8);
  EXPECT_EQ(Counts(output_only.ForDraw(1)), (std::map<int32_t, int32_t>{{8, 1}}));
}

TEST(DrawRulesTest, ABadWordBansItsLastIdAfterTheOthers) {
  RuleSpec spec;
  spec.bad_words = {{4}, {1, 2, 3}, {2, 9}};
  DrawRules rules(spec, {1, 2});
  EXPECT_TRUE(rules.needs_history());
  // The prompt's 1, 2 do not count.
  EXPECT_THAT(rules.ForDraw(0).banned, ElementsAre(4));
  rules.OnToken(1);
  EXPECT_THAT(rules.ForDraw(1).banned, ElementsAre(4));
  rules.OnToken(2);
  EXPECT_THAT(rules.ForDraw(2).banned, UnorderedElementsAre(4, 3, 9));
  rules.OnToken(5);
  EXPECT_THAT(rules.ForDraw(3).banned, ElementsAre(4));
}

TEST(DrawRulesTest, EndingsAreBannedBeforeMinTokens) {
  RuleSpec spec;
  spec.min_tokens = 2;
  spec.endings = {0, 5};
  DrawRules rules(spec, {1});
  EXPECT_FALSE(rules.needs_history());
  EXPECT_THAT(rules.ForDraw(0).banned, ElementsAre(0, 5));
  EXPECT_THAT(rules.ForDraw(1).banned, ElementsAre(0, 5));
  EXPECT_THAT(rules.ForDraw(2).banned, IsEmpty());
}

}  // namespace
}  // namespace based
