// What the guard lets pass, whole and cut anywhere.
#include "server/header_guard.h"

#include <string>

#include "gtest/gtest.h"

namespace based {
namespace {

constexpr char kPreface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
constexpr uint8_t kData = 0, kHeaders = 1, kSettings = 4, kContinuation = 9;
constexpr uint8_t kAck = 1;

std::string Frame(uint8_t kind, size_t bytes, uint8_t flags = 0) {
  std::string frame;
  for (const size_t part : {bytes >> 16, bytes >> 8, bytes}) frame += static_cast<char>(part);
  frame += static_cast<char>(kind);
  frame += static_cast<char>(flags);
  return frame + std::string(4 + bytes, '\1');
}

std::string Frames(int count, const std::string& frame) {
  std::string all;
  for (int i = 0; i < count; ++i) all += frame;
  return all;
}

// Whether a guard of 1,000 bytes lets all of it pass, in pieces of any size.
bool Passes(const std::string& frames, bool has_spoken = true) {
  const std::string bytes = kPreface + frames;
  bool first = false;
  for (const size_t piece : {bytes.size(), size_t{1}, size_t{7}}) {
    HeaderGuard guard(1000);
    bool passes = true;
    for (size_t at = 0; at < bytes.size(); at += piece) {
      passes = guard.Pass(absl::string_view(bytes).substr(at, piece), [&] { return has_spoken; });
    }
    if (piece == bytes.size()) first = passes;
    EXPECT_EQ(passes, first) << "in pieces of " << piece;
  }
  return first;
}

const std::string kAcknowledged = Frame(kSettings, 12) + Frame(kSettings, 0, kAck);

TEST(HeaderGuard, AHeaderBlockHasItsLimitHoweverItIsCut) {
  EXPECT_TRUE(Passes(kAcknowledged + Frame(kHeaders, 991)));
  EXPECT_FALSE(Passes(kAcknowledged + Frame(kHeaders, 992)));
  const std::string half = Frame(kHeaders, 491);
  EXPECT_TRUE(Passes(kAcknowledged + half + Frame(kContinuation, 491)));
  EXPECT_FALSE(Passes(kAcknowledged + half + Frame(kContinuation, 492)));
  // Empty ones count too.
  EXPECT_FALSE(Passes(kAcknowledged + half + Frames(56, Frame(kContinuation, 0))));
}

TEST(HeaderGuard, EveryBlockHasTheWholeLimit) {
  EXPECT_TRUE(
      Passes(kAcknowledged + Frames(100, Frame(kHeaders, 500) + Frame(kContinuation, 400))));
}

TEST(HeaderGuard, BeforeTheSettingsAreAcknowledgedAllBlocksShareIt) {
  EXPECT_TRUE(Passes(Frames(10, Frame(kHeaders, 91))));
  EXPECT_FALSE(Passes(Frames(11, Frame(kHeaders, 91))));
  EXPECT_TRUE(Passes(Frames(10, Frame(kHeaders, 91)) + kAcknowledged + Frame(kHeaders, 991)));
  // Settings are no acknowledgement, nor is one of settings that were not sent yet.
  EXPECT_FALSE(Passes(Frame(kSettings, 12) + Frames(11, Frame(kHeaders, 91))));
  EXPECT_FALSE(Passes(kAcknowledged + Frames(11, Frame(kHeaders, 91)), false));
}

TEST(HeaderGuard, NothingElseIsLimited) {
  EXPECT_TRUE(Passes(Frames(3, Frame(kData, 70'000))));
  // What looks like a frame within another is none.
  std::string data = Frame(kData, 1009);
  data.replace(9, 9, Frame(kHeaders, 5000).substr(0, 9));
  EXPECT_TRUE(Passes(data));
}

TEST(HeaderGuard, WhoWentBeyondItStaysOut) {
  HeaderGuard guard(1000);
  const auto spoken = [] { return true; };
  EXPECT_TRUE(guard.Pass(kPreface + kAcknowledged, spoken));
  EXPECT_FALSE(guard.Pass(Frame(kHeaders, 5000), spoken));
  EXPECT_FALSE(guard.Pass(Frame(kHeaders, 10), spoken));
}

}  // namespace
}  // namespace based
