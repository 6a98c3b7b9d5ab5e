// When a batch sends, and what it says of its progress.
#include "client/batch_progress.h"
#include "client/batch_window.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::StartsWith;

const BatchWindow::Clock::time_point kStart{std::chrono::hours(1)};

TEST(BatchWindow, FillsUpToItsSize) {
  const BatchWindow window(10, kStart);
  EXPECT_TRUE(window.MaySend(kStart, 9, 1));
  EXPECT_FALSE(window.MaySend(kStart, 9, 2));
  EXPECT_TRUE(window.MaySend(kStart, 0, 64));  // wider than the window: alone
}

TEST(BatchWindow, WaitsAsLongAsTheDaemonAsks) {
  BatchWindow window(10, kStart);
  window.Refused(kStart, 4, milliseconds(1000));
  EXPECT_FALSE(window.MaySend(kStart + milliseconds(999), 0, 1));
  EXPECT_TRUE(window.MaySend(kStart + milliseconds(1250), 3, 1));
  EXPECT_FALSE(window.MaySend(kStart + milliseconds(1250), 4, 1));
  window.Succeeded(kStart + milliseconds(1250));
  EXPECT_TRUE(window.MaySend(kStart + milliseconds(1250), 4, 1));
}

TEST(BatchWindow, TriesALostDaemonOneCallAtATime) {
  BatchWindow window(10, kStart);
  window.Lost(kStart, kStart - milliseconds(5));
  const auto gate = window.gate();
  window.Lost(kStart + milliseconds(1), kStart - milliseconds(3));  // of the same fall
  EXPECT_EQ(window.gate(), gate);
  EXPECT_FALSE(window.MaySend(kStart, 0, 1));
  EXPECT_TRUE(window.MaySend(gate, 0, 1));
  EXPECT_FALSE(window.MaySend(gate, 1, 1));
  auto now = gate;
  for (int i = 0; i < 20; ++i) {
    window.Lost(now, now);
    EXPECT_TRUE(window.lost());
    EXPECT_GT(window.gate(), now);
    EXPECT_LE(window.gate() - now, std::chrono::seconds(4));
    now = window.gate();
  }
  EXPECT_EQ(window.contact(), kStart);
  window.Admitted(now);
  EXPECT_FALSE(window.lost());
  EXPECT_EQ(window.contact(), now);
  EXPECT_TRUE(window.MaySend(now, 9, 1));
}

TEST(BatchProgress, SaysRateAndTimeLeft) {
  const BatchProgress progress{.lines = 20'000,
                               .finished = 5'000,
                               .failed = 2,
                               .in_flight = 72,
                               .finished_now = 4'000,
                               .tokens_now = 80'000,
                               .work_now = 300,
                               .work_left = 600,
                               .seconds = 40};
  const std::string text = ProgressText(progress);
  EXPECT_THAT(text, StartsWith("5,000/20,000 lines  25.0%  100.0 lines/s  2000 tokens/s"));
  EXPECT_THAT(text, HasSubstr("in flight 72  failed 2  left 1:20"));
  EXPECT_THAT(ProgressBar(progress, 8), StartsWith("[##......] 5,000"));
}

TEST(BatchProgress, KnowsWhatItDoesNotKnow) {
  EXPECT_THAT(ProgressText({.lines = 3, .work_left = 3}), HasSubstr("left ?"));
  EXPECT_THAT(ProgressText({}), HasSubstr("100.0%"));
  EXPECT_EQ(DurationText(59.6), "1:00");
  EXPECT_EQ(DurationText(7389), "2:03:09");
}

}  // namespace
}  // namespace based
