#include "kernels/weights.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace based {
namespace {

// Every fp16 bit pattern against the definition: (-1)^sign * fraction * 2^exponent.
TEST(WeightsTest, WidensEveryHalf) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const int exponent = static_cast<int>(bits >> 10 & 31);
    const int fraction = static_cast<int>(bits & 1023);
    const float widened = HalfToFloat(static_cast<uint16_t>(bits));
    ASSERT_EQ(std::signbit(widened), (bits & 0x8000) != 0) << bits;
    if (exponent == 31) {
      ASSERT_EQ(std::isnan(widened), fraction != 0) << bits;
      ASSERT_EQ(std::isinf(widened), fraction == 0) << bits;
      continue;
    }
    const double magnitude =
        exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    ASSERT_EQ(std::abs(static_cast<double>(widened)), magnitude) << bits;
  }
}

TEST(WeightsTest, WidensBFloat16) {
  EXPECT_EQ(BFloat16ToFloat(0x3F80), 1.0f);
  EXPECT_EQ(BFloat16ToFloat(0xC049), -3.140625f);
  EXPECT_EQ(BFloat16ToFloat(0x0001), std::ldexp(1.0f, -133));
  EXPECT_TRUE(std::isnan(BFloat16ToFloat(0x7FC0)));
}

// Rows of each type, read from an odd address as in a mapped file.
TEST(WeightsTest, ReadsPartsOfUnalignedWeights) {
  const std::vector<float> singles = {1.5f, -2.25f, 3.0f, 0x1p-130f, 5.0f, -6.5f};
  const std::vector<uint16_t> halves = {0x3E00, 0xC080, 0x4200, 0x0001, 0x4500, 0xC680};
  const std::vector<uint16_t> bfloats = {0x3FC0, 0xC010, 0x4040, 0x0001, 0x40A0, 0xC0D0};
  std::vector<uint8_t> memory(1 + 6 * sizeof(float));
  const auto widened = [&](DType dtype, const void* data) {
    std::memcpy(memory.data() + 1, data, static_cast<size_t>(6 * DTypeBytes(dtype)));
    const WeightView view{
        .name = "w", .data = memory.data() + 1, .dtype = dtype, .rows = 2, .cols = 3};
    std::vector<double> part(3);
    WidenValues(view, 3, 3, part.data());
    EXPECT_EQ(WidenWeight<float>(view)[5], -6.5f);
    EXPECT_EQ(WidenWeight<double>(view)[1], -2.25);
    return part;
  };
  EXPECT_EQ(widened(DType::kF32, singles.data()), (std::vector<double>{0x1p-130, 5, -6.5}));
  EXPECT_EQ(widened(DType::kF16, halves.data()), (std::vector<double>{0x1p-24, 5, -6.5}));
  EXPECT_EQ(widened(DType::kBF16, bfloats.data()), (std::vector<double>{0x1p-133, 5, -6.5}));
}

}  // namespace
}  // namespace based
