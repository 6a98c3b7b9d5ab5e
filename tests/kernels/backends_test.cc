#include "kernels/backends.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/status/status.h"

namespace based {
namespace {

TEST(BackendsTest, MakesTheKindAskedFor) {
  for (const std::string kind : {"cpu", "reference"}) {
    const auto backend = NewBackend({.kind = kind, .threads = 1});
    ASSERT_TRUE(backend.ok()) << backend.status();
    EXPECT_EQ((*backend)->name(), kind);
  }
}

TEST(BackendsTest, RefusesAnUnknownKindByName) {
  const auto backend = NewBackend({.kind = "tpu"});
  ASSERT_TRUE(absl::IsInvalidArgument(backend.status())) << backend.status();
  EXPECT_THAT(std::string(backend.status().message()), ::testing::HasSubstr("\"tpu\""));
}

// A device index that no machine has stands for a machine without a usable device.
TEST(BackendsTest, AutoTakesTheCpuWhereCudaIsUnavailable) {
  const BackendOptions options{.kind = "auto", .threads = 1, .device = 9999};
  const auto automatic = NewBackend(options);
  ASSERT_TRUE(automatic.ok()) << automatic.status();
  EXPECT_EQ((*automatic)->name(), "cpu");

  const auto cuda = NewBackend({.kind = "cuda", .device = 9999});
  EXPECT_TRUE(absl::IsUnavailable(cuda.status())) << cuda.status();
}

}  // namespace
}  // namespace based
