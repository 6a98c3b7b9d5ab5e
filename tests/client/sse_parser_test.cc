// Server-sent events, in whatever pieces they come.
#include "client/sse_parser.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

using testing::ElementsAre;

std::vector<std::string> EventsOf(std::string_view text, size_t piece) {
  SseParser parser;
  std::vector<std::string> events;
  for (size_t at = 0; at < text.size(); at += piece) {
    const absl::Status status = parser.Put(
        text.substr(at, piece), [&](std::string_view data) { events.emplace_back(data); });
    EXPECT_TRUE(status.ok()) << status;
  }
  return events;
}

TEST(SseParser, PiecesOfAnySizeGiveTheSameEvents) {
  const std::string text =
      "\xef\xbb\xbf"
      "data: {\"a\":1}\n\n"
      ": a comment\n\n"
      "event: message\r\nid: 7\r\nretry: 3\r\ndata:two\r\ndata: lines\r\n\r\n"
      "data:  spaces \r\rdata\n\ndata:\n\ndatum: no\n\n"
      "data: [DONE]\n\n"
      "data: cut off\n";
  for (size_t piece = 1; piece <= text.size(); ++piece) {
    EXPECT_THAT(EventsOf(text, piece),
                ElementsAre("{\"a\":1}", "two\nlines", " spaces ", "", "", "[DONE]"))
        << piece;
  }
}

TEST(SseParser, LinesAndEventsAreBounded) {
  const auto ignore = [](std::string_view) {};
  SseParser line;
  const std::string half(SseParser::kMostBytes / 2 + 1, 'x');
  EXPECT_TRUE(line.Put(half, ignore).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(line.Put(half, ignore)));
  SseParser event;
  EXPECT_TRUE(event.Put("data:" + half + "\n", ignore).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(event.Put("data:" + half + "\n", ignore)));
}

}  // namespace
}  // namespace based
