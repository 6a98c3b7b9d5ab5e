// Reading golden files, and the error measure.
#include "client/golden.h"

#include <cmath>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

TEST(ReadGolden, ReadsTheFixture) {
  const auto golden = ReadGolden(BASED_SOURCE_DIR "/tests/golden/tiny-a/golden.safetensors");
  ASSERT_TRUE(golden.ok()) << golden.status();
  EXPECT_EQ(golden->sequences, 4);
  EXPECT_EQ(golden->length, 96);
  EXPECT_EQ(golden->vocab, 64);
  EXPECT_EQ(golden->greedy_steps, 64);
  EXPECT_EQ(golden->prompt_length, 16);
  EXPECT_EQ(golden->Logits(3).size(), 96u * 64u);
}

TEST(ReadGolden, OtherFilesAreRefusedByTensor) {
  const auto golden = ReadGolden(BASED_SOURCE_DIR "/tests/golden/tiny-a/model.safetensors");
  EXPECT_EQ(golden.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(golden.status().message()), testing::HasSubstr("input_ids"));
}

TEST(LogitsError, IsTheRelativeNorm) {
  LogitsError error;
  const double ours[] = {3.0, 5.0};
  const float golden[] = {3.0f, 4.0f};
  error.Add(ours, golden);
  EXPECT_DOUBLE_EQ(error.Relative(), 0.2);
  EXPECT_EQ(error.max_abs, 1.0);
  LogitsError total;
  total.Add(error);
  total.Add(error);
  EXPECT_DOUBLE_EQ(total.Relative(), 0.2);
}

TEST(LogitsError, NanPassesNoTolerance) {
  LogitsError error;
  const double ours[] = {std::numeric_limits<double>::quiet_NaN(), 4.0};
  const float golden[] = {3.0f, 4.0f};
  error.Add(ours, golden);
  EXPECT_FALSE(error.Relative() <= 1.0);
  EXPECT_TRUE(std::isnan(error.max_abs));
  EXPECT_TRUE(std::isnan(WorseError(0.0, error.max_abs)));
  EXPECT_TRUE(std::isnan(WorseError(error.max_abs, 0.0)));
}

}  // namespace
}  // namespace based
