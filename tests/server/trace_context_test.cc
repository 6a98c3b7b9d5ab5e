// W3C traceparent.
#include "server/trace_context.h"

#include "gtest/gtest.h"

namespace based {
namespace {

constexpr char kTrace[] = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr char kParent[] = "00f067aa0ba902b7";

std::string Header(const std::string& version, const std::string& flags,
                   const std::string& rest = "") {
  return version + "-" + kTrace + "-" + kParent + "-" + flags + rest;
}

TEST(ParseTraceparent, TakesWhatTheStandardAllows) {
  for (const std::string& header :
       {Header("00", "01"), Header("01", "03"), Header("cc", "09", "-more")}) {
    const TraceContext trace = ParseTraceparent(header);
    EXPECT_EQ(trace.trace_id, kTrace) << header;
    EXPECT_EQ(trace.parent_id, kParent);
    EXPECT_TRUE(trace.sampled);
  }
  EXPECT_FALSE(ParseTraceparent(Header("00", "00")).sampled);
}

TEST(ParseTraceparent, IgnoresTheRest) {
  const std::string zeros(32, '0');
  for (const std::string& header :
       {std::string(), Header("ff", "01"), Header("00", "01", "-more"), Header("00", "01", "x"),
        Header("00", "1"), Header("0", "01"), Header("00", "0g"),
        "00-" + zeros + "-" + kParent + "-01", std::string("00-") + kTrace + "-0000000000000000-01",
        std::string("00-4BF92F3577B34DA6A3CE929D0E0E4736-") + kParent + "-01",
        std::string("00_") + kTrace + "-" + kParent + "-01", Header("00", "01").replace(5, 1, "\n"),
        std::string(100000, '-')}) {
    EXPECT_EQ(ParseTraceparent(header).trace_id, "") << header.substr(0, 80);
  }
}

}  // namespace
}  // namespace based
