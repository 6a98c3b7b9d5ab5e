#include "engine/drawn_shares.h"

#include "gtest/gtest.h"

namespace based {
namespace {

TEST(DrawnShares, NothingKnownIsAllOfIt) {
  const DrawnShares shares;
  EXPECT_EQ(shares.Left(30, 100, 0.1), 70);
  EXPECT_EQ(shares.Left(100, 100, 0.1), 0);
  EXPECT_EQ(shares.Left(0, 0, 0.1), 0);
}

TEST(DrawnShares, WhatHasAlwaysDrawnAllDrawsAll) {
  DrawnShares shares;
  for (int i = 0; i < 50; ++i) shares.Add(64, 64);
  for (const double quantile : {0.0, 0.5, 0.99}) EXPECT_EQ(shares.Left(3, 10, quantile), 7);
}

TEST(DrawnShares, QuantilesAreThoseOfWhatEnded) {
  DrawnShares shares;
  for (int round = 0; round < 40; ++round) {
    for (int i = 0; i < 50; ++i) shares.Add(1 + 2 * (i * 19 % 50), 100);
  }
  for (const double quantile : {0.1, 0.5, 0.9}) {
    EXPECT_NEAR(shares.Left(0, 1000, quantile), 1000 * quantile, 50);
    // Of those that came as far, evenly to the end.
    EXPECT_NEAR(shares.Left(600, 1000, quantile), 400 * quantile, 50);
  }
}

TEST(DrawnShares, OneThatHasOutlivedTheOthersEndsLaterAndNotInThePast) {
  DrawnShares shares;
  for (int i = 0; i < 100; ++i) shares.Add(30, 100);
  EXPECT_NEAR(shares.Left(0, 1000, 0.5), 300, 70);
  EXPECT_NEAR(shares.Left(900, 1000, 0.5), 50, 1);
  EXPECT_NEAR(shares.Left(900, 1000, 0.99), 99, 1);
}

// Clients that leave max_tokens at what is allowed.
TEST(DrawnShares, SmallSharesAreToldApart) {
  for (const int64_t drawn : {100, 400, 1600}) {
    DrawnShares shares;
    for (int i = 0; i < 100; ++i) shares.Add(drawn, 32'768);
    const auto expected = static_cast<double>(drawn);
    EXPECT_NEAR(shares.Left(0, 32'768, 0.5), expected, 0.2 * expected);
  }
}

TEST(DrawnShares, OldOnesAreForgotten) {
  DrawnShares shares;
  for (int i = 0; i < 100; ++i) shares.Add(10, 100);
  for (int i = 0; i < 1000; ++i) shares.Add(100, 100);
  EXPECT_NEAR(shares.Left(0, 1000, 0.01), 1000, 1);
}

}  // namespace
}  // namespace based
