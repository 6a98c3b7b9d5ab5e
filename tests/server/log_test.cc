// Log lines: one per event whatever the values hold.
#include "server/log.h"

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace based {
namespace {

const std::chrono::system_clock::time_point kTime{std::chrono::seconds(1)};

TEST(FormatLogLine, KeyValue) {
  const LogField fields[] = {{"id", absl::string_view("a-1")},
                             {"text", absl::string_view("two words")},
                             {"empty", absl::string_view("")},
                             {"count", int64_t{-3}},
                             {"seconds", 0.5},
                             {"ok", true}};
  EXPECT_EQ(FormatLogLine(false, kTime, LogLevel::kInfo, "generate", fields),
            "time=1970-01-01T00:00:01.000000Z level=info event=generate id=a-1 "
            "text=\"two words\" empty=\"\" count=-3 seconds=0.5 ok=true");
}

TEST(FormatLogLine, NothingForgesALine) {
  const LogField fields[] = {
      {"v", absl::string_view("x\nlevel=error \x1B[31m\x7F \"q\" \xFF \xC2\x9B")}};
  for (bool json : {false, true}) {
    const std::string line = FormatLogLine(json, kTime, LogLevel::kWarning, "e", fields);
    for (char c : line) EXPECT_TRUE(c >= ' ' && c < 0x7F) << line;
    EXPECT_NE(line.find("\\nlevel=error"), std::string::npos);
  }
}

TEST(FormatLogLine, JsonParses) {
  const LogField fields[] = {{"text", absl::string_view("a\"b")}, {"n", int64_t{7}}};
  const auto line =
      nlohmann::json::parse(FormatLogLine(true, kTime, LogLevel::kError, "e", fields));
  EXPECT_EQ(line["text"], "a\"b");
  EXPECT_EQ(line["n"], 7);
  EXPECT_EQ(line["level"], "error");
}

TEST(ParseLogLevel, KnowsItsNames) {
  EXPECT_EQ(*ParseLogLevel("warning"), LogLevel::kWarning);
  EXPECT_FALSE(ParseLogLevel("loud").ok());
}

}  // namespace
}  // namespace based
