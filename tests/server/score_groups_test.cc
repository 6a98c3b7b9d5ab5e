// Groups of pairs: every pair's scores come out of what the engine says of the group, and what
// texts begin with in common stands in the group once.
#include "server/score_groups.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <utility>

namespace based {
namespace {

// The text of each continuation of the group's request, whole.
std::vector<std::vector<int32_t>> TextsOf(const Request& request) {
  std::vector<std::vector<int32_t>> texts;
  for (const Continuation& own : request.continuations) {
    std::vector<int32_t> text = request.prompt_token_ids;
    if (!texts.empty()) {
      EXPECT_LT(own.parent, static_cast<int32_t>(texts.size()));
      const auto parent = static_cast<size_t>(own.parent);
      const int64_t from = parent == 0 ? 0 : request.continuations[parent].shared;
      EXPECT_GT(own.shared, from);
      EXPECT_LT(own.shared, static_cast<int64_t>(texts[parent].size()));
      text = texts[parent];
      text.resize(static_cast<size_t>(own.shared));
    }
    EXPECT_GE(own.unscored, 0);
    EXPECT_LT(own.unscored, static_cast<int64_t>(own.ids.size()));
    text.insert(text.end(), own.ids.begin(), own.ids.end());
    texts.push_back(std::move(text));
  }
  return texts;
}

// What an engine says of the group: the score of a token is the number of tokens before it.
std::vector<std::vector<TokenLogprob>> Hear(const Request& request) {
  std::vector<std::vector<TokenLogprob>> heard;
  const std::vector<std::vector<int32_t>> texts = TextsOf(request);
  for (size_t i = 0; i < texts.size(); ++i) {
    const Continuation& own = request.continuations[i];
    std::vector<TokenLogprob>& scores = heard.emplace_back();
    for (size_t at = texts[i].size() - own.ids.size() + static_cast<size_t>(own.unscored);
         at < texts[i].size(); ++at) {
      scores.push_back({.token_id = texts[i][at], .logprob = static_cast<double>(at)});
    }
  }
  return heard;
}

// Tokens of the group's request.
int64_t Tokens(const ScoreGroup& group) {
  auto tokens = static_cast<int64_t>(group.request.prompt_token_ids.size());
  for (const Continuation& own : group.request.continuations) {
    tokens += static_cast<int64_t>(own.ids.size());
  }
  return tokens;
}

void CheckGroups(const std::vector<ScoreText>& texts, const std::vector<ScoreGroup>& groups) {
  std::map<int, int> seen;
  for (const ScoreGroup& group : groups) {
    ASSERT_GE(group.pairs.size(), 1u);
    ASSERT_LE(group.pairs.size(), ScoreGroup::kMostPairs);
    ASSERT_LE(group.request.continuations.size(), group.pairs.size());
    const auto heard = Hear(group.request);
    for (const ScoreGroup::Pair& pair : group.pairs) {
      ++seen[pair.index];
      const ScoreText& text = texts[static_cast<size_t>(pair.index)];
      const std::vector<TokenLogprob> tokens = group.TokensOf(pair, heard);
      const auto from = static_cast<size_t>(text.scored_from);
      ASSERT_EQ(tokens.size(), text.ids.size() - from);
      for (size_t i = 0; i < tokens.size(); ++i) {
        EXPECT_EQ(tokens[i].token_id, text.ids[from + i]);
        EXPECT_EQ(tokens[i].logprob, static_cast<double>(from + i));
      }
    }
  }
  ASSERT_EQ(seen.size(), texts.size());
  for (const auto& [index, times] : seen) EXPECT_EQ(times, 1) << "pair " << index;
}

std::vector<int32_t> Range(int32_t begin, int32_t end) {
  std::vector<int32_t> ids;
  for (int32_t id = begin; id < end; ++id) ids.push_back(id);
  return ids;
}

std::vector<int32_t> Joined(std::vector<int32_t> a, const std::vector<int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(ScoreGroupsTest, ContextsThatDifferInTheirLastTokenAreOneGroup) {
  std::vector<ScoreText> texts;
  for (int32_t i = 0; i < 8; ++i) {
    texts.push_back({.ids = Joined(Range(0, 60), {100 + i, 7}), .scored_from = 61});
  }
  const std::vector<ScoreGroup> groups = GroupTexts(texts, 4);
  ASSERT_EQ(groups.size(), 1u);
  CheckGroups(texts, groups);
  EXPECT_EQ(Tokens(groups[0]), 60 + 8 * 2);
}

TEST(ScoreGroupsTest, WhatSomeShareBeyondTheOthersStandsOnce) {
  const std::vector<int32_t> all = Range(0, 20);
  const std::vector<int32_t> left = Joined(all, Range(100, 130));
  const std::vector<int32_t> right = Joined(all, Range(200, 240));
  // In any order; the fourth is what the third begins with, the fifth the third again.
  const std::vector<ScoreText> texts = {
      {.ids = Joined(right, {1, 2, 3}), .scored_from = 20},
      {.ids = Joined(left, {1, 2}), .scored_from = 50},
      {.ids = Joined(left, {3, 4, 5}), .scored_from = 10},
      {.ids = left, .scored_from = 49},
      {.ids = Joined(left, {3, 4, 5}), .scored_from = 52},
      {.ids = Joined(right, {9}), .scored_from = 60},
      {.ids = {5, 6}, .scored_from = 1},
  };
  const std::vector<ScoreGroup> groups = GroupTexts(texts, 2);
  ASSERT_EQ(groups.size(), 2u);
  CheckGroups(texts, groups);
  EXPECT_EQ(Tokens(groups[0]), 20 + 30 + 2 + 3 + 40 + 3 + 1);
  EXPECT_EQ(groups[0].request.continuations.size(), 4u);
  EXPECT_EQ(groups[0].request.prompt_token_ids.size(), 10u);  // nobody asks for their scores
}

TEST(ScoreGroupsTest, AFewTokensInCommonAreNotWorthACopy) {
  const std::vector<ScoreText> apart = {{.ids = {1, 2, 3, 4, 5, 6, 7, 8}, .scored_from = 4},
                                        {.ids = {1, 2, 3, 4, 5, 6, 7, 9}, .scored_from = 4}};
  EXPECT_EQ(GroupTexts(apart, 8).size(), 2u);
  // Beyond the ten tokens of all, two share four more: those stand with each, unless they are of
  // the text that the others start from, where they take no state of their own.
  std::vector<ScoreText> texts;
  for (const std::vector<int32_t>& end : {std::vector<int32_t>{20, 21, 22, 23, 1},
                                          {20, 21, 22, 23, 2},
                                          {30, 31, 32, 33, 1},
                                          {30, 31, 32, 33, 2}}) {
    texts.push_back({.ids = Joined(Range(0, 10), end), .scored_from = 10});
  }
  const std::vector<ScoreGroup> groups = GroupTexts(texts, 8);
  ASSERT_EQ(groups.size(), 1u);
  CheckGroups(texts, groups);
  EXPECT_EQ(Tokens(groups[0]), 10 + 5 + 1 + 5 + 5);
}

TEST(ScoreGroupsTest, OneSlotKeepsNoState) {
  const std::vector<ScoreText> texts(3, {.ids = Range(0, 40), .scored_from = 30});
  EXPECT_EQ(GroupTexts(texts, 1).size(), 3u);
  const std::vector<ScoreGroup> together = GroupTexts(texts, 2);
  ASSERT_EQ(together.size(), 1u);
  EXPECT_EQ(Tokens(together[0]), 40);
}

TEST(ScoreGroupsTest, RandomTextsGiveEveryPairItsOwn) {
  std::mt19937 random(11);
  const auto below = [&random](size_t n) { return random() % n; };
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<ScoreText> texts;
    for (size_t count = 1 + below(100); count > 0; --count) {
      ScoreText text;
      if (!texts.empty() && below(10) > 0) {
        text.ids = texts[below(texts.size())].ids;
        text.ids.resize(1 + below(text.ids.size()));
      }
      for (size_t more = below(20); more > 0 || text.ids.size() < 2; more -= more > 0 ? 1 : 0) {
        text.ids.push_back(static_cast<int32_t>(below(3)));
      }
      text.scored_from = static_cast<int64_t>(1 + below(text.ids.size() - 1));
      texts.push_back(std::move(text));
    }
    CheckGroups(texts, GroupTexts(texts, static_cast<int32_t>(1 + below(4))));
  }
}

}  // namespace
}  // namespace based
