#include "kernels/cpu/thread_pool.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace based {
namespace {

TEST(ThreadPoolTest, CoversEveryItemOnceInPartsOfTheirOwn) {
  for (const int32_t threads : {1, 2, 3, 5}) {
    ThreadPool pool(threads);
    ASSERT_EQ(pool.threads(), threads);
    for (const int64_t items : {0, 1, 2, 5, 17, 1000}) {
      for (const int64_t grain : {0, 1, 4, 2000}) {
        std::vector<int32_t> visits(static_cast<size_t>(items), 0);
        std::atomic<int32_t> calls{0};
        pool.For(items, grain, [&](int64_t begin, int64_t end, int32_t thread) {
          ++calls;
          EXPECT_TRUE(thread >= 0 && thread < threads);
          EXPECT_TRUE(end - begin == items || end - begin >= grain);
          for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
        });
        for (const int32_t count : visits) EXPECT_EQ(count, 1);
        EXPECT_LE(calls.load(), threads);
      }
    }
  }
}

// Loops follow each other without a pause, and after pauses in which the workers fall asleep.
TEST(ThreadPoolTest, ManyLoopsLoseNothing) {
  ThreadPool pool(4);
  int64_t total = 0;
  for (int round = 0; round < 20; ++round) {
    for (int loop = 0; loop < 500; ++loop) {
      std::vector<int64_t> sums(4 * 8, 0);
      pool.For(64, 1, [&](int64_t begin, int64_t end, int32_t thread) {
        for (int64_t i = begin; i < end; ++i) sums[static_cast<size_t>(thread) * 8] += i;
      });
      for (const int64_t sum : sums) total += sum;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(total, int64_t{20} * 500 * (64 * 63 / 2));
}

// Where all threads are at hand each runs its own part, but for one that is still looking for more
// to do in the loop before.
TEST(ThreadPoolTest, ThreadsKeepTheirParts) {
  constexpr int32_t kThreads = 4;
  constexpr int32_t kLoops = 200;
  ThreadPool pool(kThreads);
  std::atomic<int32_t> own{0};
  for (int32_t loop = 0; loop < kLoops; ++loop) {
    std::atomic<int32_t> begun{0};
    pool.For(10 * kThreads, 1, [&](int64_t begin, int64_t, int32_t thread) {
      own += begin == 10 * thread ? 1 : 0;
      ++begun;
      while (begun < kThreads) std::this_thread::yield();
    });
  }
  EXPECT_GT(own, kLoops * kThreads / 2);
}

TEST(ThreadPoolTest, SleepsWhenIdle) {
  ThreadPool pool(4);
  std::atomic<int64_t> sum{0};
  pool.For(4, 1, [&](int64_t begin, int64_t, int32_t) { sum += begin; });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const std::clock_t before = std::clock();  // processor time of all threads
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const double used = static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
  EXPECT_LT(used, 0.01);  // spinning would use up to 0.9
}

}  // namespace
}  // namespace based
