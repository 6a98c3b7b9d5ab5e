// Runs a test body under one instruction set after another: every one that highway has compiled
// and this processor has.
#ifndef BASED_TESTS_KERNELS_CPU_EVERY_TARGET_H_
#define BASED_TESTS_KERNELS_CPU_EVERY_TARGET_H_

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "hwy/highway.h"
#include "kernels/cpu/elementwise.h"

namespace based {

class EveryTarget : public testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override {
    hwy::SetSupportedTargetsForTest(GetParam());
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    ASSERT_STREQ(TargetInUse(), hwy::TargetName(GetParam()));
  }
  void TearDown() override {
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }

  // Normal numbers, the same in every run.
  std::vector<float> Random(int64_t count) {
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = normal(random_);
    return values;
  }

  std::mt19937 random_{7};
};

inline std::string NameOfTarget(const testing::TestParamInfo<int64_t>& test) {
  return hwy::TargetName(test.param);
}

}  // namespace based

// Once in each file that has TEST_P(EveryTarget, ...).
#define BASED_ON_EVERY_TARGET()                                                                    \
  INSTANTIATE_TEST_SUITE_P(Targets, EveryTarget,                                                   \
                           testing::ValuesIn(hwy::SupportedAndGeneratedTargets()), NameOfTarget)

#endif  // BASED_TESTS_KERNELS_CPU_EVERY_TARGET_H_
