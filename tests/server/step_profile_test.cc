// Percentiles of step phases.
#include "server/step_profile.h"

#include "gtest/gtest.h"
#include "server/metrics.h"

namespace based {
namespace {

StepStats Step(int microseconds) {
  const std::chrono::microseconds time(microseconds);
  return {.decode_tokens = 3,
          .prefill_tokens = 5,
          .sequences = 4,
          .plan = time,
          .launch = 2 * time,
          .wait = 3 * time,
          .commit = 4 * time,
          .duration = 10 * time};
}

TEST(StepProfile, SumsUpThePhases) {
  Metrics metrics;
  StepProfile profile(metrics);
  for (int i = 1; i <= 100; ++i) profile.OnStep(Step(i));
  const ProfileSummary summary = profile.Summarize(std::chrono::hours(1));
  EXPECT_EQ(summary.steps, 100);
  EXPECT_NEAR(summary.decode_tokens, 3, 1e-9);
  EXPECT_NEAR(summary.prefill_tokens, 5, 1e-9);
  EXPECT_NEAR(summary.sequences, 4, 1e-9);
  const char* names[] = {"plan", "launch", "collect", "commit", "step"};
  const double factors[] = {1, 2, 3, 4, 10};
  for (size_t i = 0; i < summary.phases.size(); ++i) {
    EXPECT_EQ(summary.phases[i].phase, names[i]);
    EXPECT_NEAR(summary.phases[i].mean_us, 50.5 * factors[i], 1e-6);
    EXPECT_NEAR(summary.phases[i].p50_us, 51 * factors[i], 1e-6);
    EXPECT_NEAR(summary.phases[i].p99_us, 100 * factors[i], 1e-6);
    EXPECT_NEAR(summary.phases[i].max_us, 100 * factors[i], 1e-6);
  }
  EXPECT_NE(metrics.Render().find("based_step_seconds_count 100"), std::string::npos);
}

TEST(StepProfile, KeepsTheLatestStepsOnly) {
  Metrics metrics;
  StepProfile profile(metrics);
  for (size_t i = 0; i < StepProfile::kMostSteps; ++i) profile.OnStep(Step(1000));
  for (int i = 0; i < 10; ++i) profile.OnStep(Step(1));
  ProfileSummary summary = profile.Summarize(std::chrono::hours(1));
  EXPECT_EQ(summary.steps, static_cast<int64_t>(StepProfile::kMostSteps));
  EXPECT_LT(summary.phases[0].mean_us, 1000);
  summary = profile.Summarize(std::chrono::nanoseconds(0));
  EXPECT_EQ(summary.steps, 0);
  EXPECT_EQ(summary.phases[4].phase, "step");
}

}  // namespace
}  // namespace based
