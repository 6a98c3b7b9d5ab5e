#include "engine/stop_matcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace based {
namespace {

using testing::Optional;

struct Outcome {
  std::string text;
  std::optional<std::string> matched;
  bool operator==(const Outcome&) const = default;
};

// The definition, over the whole text: first end, then the longest.
Outcome Naive(const std::vector<std::string>& stops, const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    const std::string_view before = std::string_view(text).substr(0, end);
    const std::string* best = nullptr;
    for (const std::string& stop : stops) {
      const bool longer = best == nullptr || stop.size() > best->size();
      if (!stop.empty() && before.ends_with(stop) && longer) best = &stop;
    }
    if (best != nullptr) return {text.substr(0, end - best->size()), *best};
  }
  return {text, std::nullopt};
}

// How much of `text` must be held back: its longest suffix that begins a stop string.
size_t MustHold(const std::vector<std::string>& stops, std::string_view text) {
  for (size_t size = text.size(); size > 0; --size) {
    for (const std::string& stop : stops) {
      if (stop.size() > size && stop.starts_with(text.substr(text.size() - size))) return size;
    }
  }
  return 0;
}

// Feeds random pieces and checks after each that no more is held back than must be.
Outcome Feed(const std::vector<std::string>& stops, const std::string& text, std::mt19937& rng) {
  StopMatcher matcher(stops);
  Outcome outcome;
  size_t fed = 0;
  while (fed < text.size() && !outcome.matched) {
    const size_t size = std::min<size_t>(rng() % 7, text.size() - fed);
    const StopMatcher::Emit emit = matcher.Push(std::string_view(text).substr(fed, size));
    fed += size;
    outcome.text += emit.text;
    outcome.matched = emit.matched;
    const size_t held = fed - outcome.text.size();
    if (!emit.matched) {
      EXPECT_EQ(held, MustHold(stops, std::string_view(text).substr(0, fed)));
    }
  }
  outcome.text += matcher.Finish();
  return outcome;
}

std::string RandomText(std::mt19937& rng, size_t max_size, size_t letters) {
  constexpr std::string_view kCharacters[] = {"a", "b", "\xC3\xA9", "\xE2\x82\xAC"};
  std::string text;
  for (size_t n = rng() % (max_size + 1); n > 0; --n) text += kCharacters[rng() % letters];
  return text;
}

TEST(StopMatcherTest, EqualsNaiveSearchOverRandomStreamsAndCuts) {
  std::mt19937 rng(3);
  int matches = 0;
  for (int round = 0; round < 20000; ++round) {
    const size_t letters = 2 + rng() % 3;
    std::vector<std::string> stops(rng() % 17);
    for (std::string& stop : stops) stop = RandomText(rng, 8, letters);
    const std::string text = RandomText(rng, 60, letters);
    const Outcome expected = Naive(stops, text);
    ASSERT_EQ(Feed(stops, text, rng), expected) << text << testing::PrintToString(stops);
    matches += expected.matched.has_value();
  }
  EXPECT_GT(matches, 1000);
}

TEST(StopMatcherTest, HoldsBackOnlyWhatMayBecomeAStop) {
  StopMatcher matcher({"\n\nUser:"});
  EXPECT_EQ(matcher.Push("Hello").text, "Hello");
  EXPECT_EQ(matcher.Push(" there\n").text, " there");
  EXPECT_EQ(matcher.Push("\n").text, "");
  EXPECT_EQ(matcher.Push("\nUs").text, "\n");
  const StopMatcher::Emit emit = matcher.Push("er: more");
  EXPECT_EQ(emit.text, "");
  EXPECT_THAT(emit.matched, Optional(std::string("\n\nUser:")));
  EXPECT_EQ(matcher.Push("after").text, "");
  EXPECT_EQ(matcher.Finish(), "");
}

TEST(StopMatcherTest, FinishGivesBackWhatWasHeld) {
  StopMatcher matcher({"<end>"});
  EXPECT_EQ(matcher.Push("text <en").text, "text ");
  EXPECT_EQ(matcher.Finish(), "<en");
  EXPECT_EQ(matcher.Finish(), "");
}

TEST(StopMatcherTest, FirstToCompleteWinsThenTheLongest) {
  StopMatcher inner({"abcd", "bc"});
  const StopMatcher::Emit first = inner.Push("abcd");
  EXPECT_EQ(first.text, "a");
  EXPECT_THAT(first.matched, Optional(std::string("bc")));
  StopMatcher suffix({"c", "abc"});
  EXPECT_THAT(suffix.Push("xabc").matched, Optional(std::string("abc")));
}

TEST(StopMatcherTest, NoStopsHoldsNothing) {
  StopMatcher matcher({"", ""});
  EXPECT_EQ(matcher.Push("all of it").text, "all of it");
  EXPECT_EQ(matcher.Finish(), "");
}

// 16 stop strings of 256 bytes that all but match everywhere: quadratic search would take minutes.
TEST(StopMatcherTest, LinearOnTheWorstCase) {
  std::vector<std::string> stops;
  for (char last = 'b'; last < 'b' + 16; ++last) stops.push_back(std::string(255, 'a') + last);
  StopMatcher matcher(stops);
  const std::string text(2'000'000, 'a');
  EXPECT_EQ(matcher.Push(text).text.size(), text.size() - 255);
  EXPECT_THAT(matcher.Push("q").matched, Optional(stops.back()));
}

}  // namespace
}  // namespace based
