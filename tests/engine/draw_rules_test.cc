// What the rules of a sequence count and ban, draw by draw.
#include "engine/draw_rules.h"

#include <algorithm>
#include <map>
#include <random>

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

TEST(DrawRulesTest, TheFewestFieldsThatLeaveNoIdAreNamed) {
  constexpr char kAllowed[] = "sampling.allowed_token_ids";
  constexpr char kWords[] = "sampling.bad_words";
  constexpr char kMin[] = "stop.min_tokens";
  RuleSpec spec;
  spec.vocab_size = 40;
  spec.rules.allowed = {3, 33};
  spec.bad_words = {{33}, {3, 3}};
  spec.min_tokens = 1;
  spec.endings = {5};
  DrawRules rules(spec, {1});
  EXPECT_THAT(rules.FieldsThatLeaveNone(0), IsEmpty());
  rules.OnToken(3);
  EXPECT_THAT(rules.FieldsThatLeaveNone(1), ElementsAre(kAllowed, kWords));
  spec.endings = {3, 5};
  EXPECT_THAT(DrawRules(spec, {1}).FieldsThatLeaveNone(0), ElementsAre(kAllowed, kWords, kMin));
  // Another field is not named where these do without it.
  spec.endings = {3, 33};
  EXPECT_THAT(DrawRules(spec, {1}).FieldsThatLeaveNone(0), ElementsAre(kAllowed, kMin));
  EXPECT_THAT(DrawRules(spec, {1}).FieldsThatLeaveNone(1), IsEmpty());
  spec.rules.allowed = {};
  EXPECT_THAT(DrawRules(spec, {1}).FieldsThatLeaveNone(0), IsEmpty());
  spec.vocab_size = 2;
  spec.min_tokens = 0;
  spec.bad_words = {{0}, {1}};
  EXPECT_THAT(DrawRules(spec, {1}).FieldsThatLeaveNone(0), ElementsAre(kWords));
}

// What may not come next, and what was seen how often, by the book: from the whole sequence.
TEST(DrawRulesTest, RandomSequencesGiveWhatTheWholeOfThemSays) {
  std::mt19937 random(31);
  const auto id = [&random] { return static_cast<int32_t>(random() % 5); };
  const auto ids = [&](size_t least, size_t most) {
    std::vector<int32_t> list(least + random() % (most - least + 1));
    for (int32_t& one : list) one = id();
    return list;
  };
  for (int trial = 0; trial < 300; ++trial) {
    RuleSpec spec;
    if (random() % 2 == 0) spec.rules.repetition_penalty = 1.5f;
    spec.rules.frequency_penalty = 0.5f;
    for (size_t words = random() % 4; words > 0; --words) spec.bad_words.push_back(ids(1, 4));
    spec.min_tokens = static_cast<int64_t>(random() % 6);
    spec.endings = {4};
    const std::vector<int32_t> prompt = ids(1, 6);
    DrawRules rules(spec, prompt);
    std::vector<int32_t> output;
    for (int64_t draw = 0; draw < 12; ++draw) {
      const SampleRules& now = rules.ForDraw(draw);
      std::map<int32_t, int32_t> seen;
      if (spec.rules.repetition_penalty != 1) {
        for (const int32_t token : prompt) seen[token];
      }
      for (const int32_t token : output) ++seen[token];
      EXPECT_EQ(Counts(now), seen);
      for (int32_t next = 0; next < 5; ++next) {
        std::vector<int32_t> then = output;
        then.push_back(next);
        bool banned = next == 4 && draw < spec.min_tokens;
        for (const auto& word : spec.bad_words) {
          banned = banned || (word.size() <= then.size() &&
                              std::equal(word.rbegin(), word.rend(), then.rbegin()));
        }
        EXPECT_EQ(std::count(now.banned.begin(), now.banned.end(), next) > 0, banned);
      }
      output.push_back(id());
      rules.OnToken(output.back());
    }
  }
}

}  // namespace
}  // namespace based
