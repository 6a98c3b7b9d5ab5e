#include "engine/constraint/constraint_cache.h"

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/constraint/choice.h"
#include "gtest/gtest.h"
#include "tests/engine/constraint/small_vocabulary.h"

namespace based {
namespace {

ConstraintCache::Result Compile(const std::string& text) {
  static const std::shared_ptr<const TokenTrie> trie = ByteTrie({});
  return Constraint::Compile(*ChoiceGrammar({text}), trie, ConstraintLimits());
}

// Gets the choice of `text` alone; counts compilations.
std::shared_ptr<const Constraint> Get(ConstraintCache& cache, const std::string& kind,
                                      const std::string& text, int* compiled) {
  const auto result = cache.Get(kind, text, [&] {
    ++*compiled;
    return Compile(text);
  });
  EXPECT_TRUE(result.ok());
  return *result;
}

TEST(ConstraintCache, EqualContentIsCompiledOnce) {
  ConstraintCache cache(4, 1 << 30);
  int compiled = 0;
  const auto first = Get(cache, "choice", "a", &compiled);
  EXPECT_EQ(Get(cache, "choice", "a", &compiled), first);
  EXPECT_EQ(compiled, 1);
  EXPECT_NE(Get(cache, "choice", "b", &compiled), first);
  EXPECT_NE(Get(cache, "regex", "a", &compiled), first);
  EXPECT_EQ(compiled, 3);
}

TEST(ConstraintCache, TheLeastRecentlyUsedGoesFirst) {
  ConstraintCache cache(2, 1 << 30);
  int compiled = 0;
  const auto a = Get(cache, "choice", "a", &compiled);
  Get(cache, "choice", "b", &compiled);
  Get(cache, "choice", "a", &compiled);
  Get(cache, "choice", "c", &compiled);
  EXPECT_EQ(cache.size(), 2u);
  EXPECT_EQ(compiled, 3);
  EXPECT_EQ(Get(cache, "choice", "a", &compiled), a);
  EXPECT_EQ(compiled, 3);
  Get(cache, "choice", "b", &compiled);
  EXPECT_EQ(compiled, 4);
  // What is gone from the cache stays with those who use it.
  ConstraintMatcher matcher(a);
  EXPECT_TRUE(matcher.Accept('a'));
}

TEST(ConstraintCache, MasksCount) {
  int compiled = 0;
  const int64_t one = (*Compile("a"))->bytes() + 100;
  ConstraintCache cache(100, 2 * one);
  const auto a = Get(cache, "choice", "a", &compiled);
  Get(cache, "choice", "b", &compiled);
  EXPECT_EQ(cache.size(), 2u);
  ConstraintMatcher matcher(a);
  matcher.Mask();
  EXPECT_GT(a->bytes() + 100, one);
  Get(cache, "choice", "a", &compiled);
  EXPECT_EQ(cache.size(), 1u);
  EXPECT_EQ(compiled, 2);
}

TEST(ConstraintCache, RefusalsAreNotKept) {
  ConstraintCache cache(4, 1 << 30);
  const auto refuse = [] { return ConstraintCache::Result(absl::InvalidArgumentError("no")); };
  EXPECT_EQ(cache.Get("regex", "(", refuse).status().message(), "no");
  EXPECT_EQ(cache.size(), 0u);
  EXPECT_TRUE(cache.Get("regex", "(", [] { return Compile("a"); }).ok());
}

TEST(ConstraintCache, ManyThreadsCompileOnce) {
  ConstraintCache cache(4, 1 << 30);
  std::atomic<int> compiled = 0;
  std::atomic<int> started = 0;
  std::vector<std::shared_ptr<const Constraint>> results(8);
  std::vector<std::thread> threads;
  for (auto& result : results) {
    threads.emplace_back([&] {
      ++started;
      result = *cache.Get("choice", "a", [&] {
        while (started < 8) std::this_thread::yield();
        ++compiled;
        return Compile("a");
      });
      // The masks are shared too.
      ConstraintMatcher matcher(result);
      EXPECT_EQ(matcher.Mask()['a' / 32], 1u << ('a' % 32));
      EXPECT_TRUE(matcher.Accept('a'));
      EXPECT_TRUE(matcher.MustEnd());
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(compiled, 1);
  for (const auto& result : results) EXPECT_EQ(result, results[0]);
}

}  // namespace
}  // namespace based
