// Synthetic models have the published shapes: as many parameters as the released checkpoints.
#include "engine/synthetic_model.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

TEST(SyntheticModel, HasThePublishedShapes) {
  for (const auto& [name, parameters] :
       {std::pair<std::string, int64_t>{"synthetic:based-360m", 362'620'928},
        {"synthetic:based-1b", 1'349'453'056}}) {
    ASSERT_TRUE(IsSynthetic(name));
    const auto config = SyntheticConfig(name);
    ASSERT_TRUE(config.ok()) << config.status();
    const auto checkpoint = SyntheticCheckpoint(name, *config);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    EXPECT_EQ(checkpoint->parameters, parameters) << name;
    for (const WeightView& weight : checkpoint->program.weights) {
      EXPECT_EQ(weight.data, nullptr);
      EXPECT_GT(weight.synthetic_stddev, 0.0f);
    }
  }
}

TEST(SyntheticModel, AnUnknownNameSaysWhichAreKnown) {
  EXPECT_FALSE(IsSynthetic("models/demo"));
  const auto config = SyntheticConfig("synthetic:based-7b");
  EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(config.status().message()),
              testing::HasSubstr("synthetic:based-360m, synthetic:based-1b"));
}

}  // namespace
}  // namespace based
