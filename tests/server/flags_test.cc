// The daemon's command line.
#include "server/flags.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

// absl flags keep their values: every test sets those that it reads.
absl::StatusOr<DaemonOptions> Read(std::vector<const char*> arguments) {
  return ReadFlags(arguments);
}

TEST(ReadFlags, ReadsEveryForm) {
  const auto options =
      Read({"--model=/m", "--slots", "7", "--memory_budget=2GiB", "--log_format=json", "--listen",
            "[::1]:0", "--threads=3", "--drain_timeout_ms=5"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->model_dir, "/m");
  EXPECT_EQ(options->engine.slots, 7);
  EXPECT_EQ(options->engine.memory_budget, int64_t{2} << 30);
  EXPECT_EQ(options->server.listen, "[::1]:0");
  EXPECT_EQ(options->threads, 3);
  EXPECT_EQ(options->drain_timeout.count(), 5);
  EXPECT_TRUE(options->log.json);
  EXPECT_FALSE(Read({"--log_format=text", "--slots=auto", "--memory_budget=0"})->log.json);
}

TEST(ReadFlags, WrongValuesAreOneLineThatNamesTheFlag) {
  for (const char* argument :
       {"--slots=-1", "--memory_budget=x", "--memory_budget=99999999T", "--listen=host",
        "--listen=:1", "--max_queue=0", "--threads=many", "--stream_queue=0", "--max_connections=0",
        "--write_timeout_ms=0", "--token_budget=1", "--max_batch=1", "--log_level=x", "--nothing",
        "--http_listen=host", "--http_max_connections=0", "--http_timeout_ms=-1",
        "--http_cors_origin=a b", "--http_chat_template=jinja",
        "--nomodel"}) {
    const absl::Status status = Read({argument}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << argument;
    const std::string flag = std::string(argument).substr(0, std::string(argument).find('='));
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr(flag));
    EXPECT_EQ(status.message().find('\n'), absl::string_view::npos);
    // Back to good values for the next round.
    ASSERT_TRUE(
        Read({"--slots=auto", "--memory_budget=0", "--listen=127.0.0.1:0", "--max_queue=1",
              "--threads=0", "--stream_queue=1", "--max_connections=1", "--write_timeout_ms=1",
              "--token_budget=0", "--max_batch=0", "--log_level=info", "--http_listen=",
              "--http_max_connections=1", "--http_timeout_ms=0", "--http_cors_origin=",
              "--http_chat_template=auto"})
            .ok());
  }
}

TEST(ParseBytes, Units) {
  EXPECT_EQ(*ParseBytes("123"), 123);
  EXPECT_EQ(*ParseBytes("2K"), 2048);
  EXPECT_EQ(*ParseBytes("3MiB"), 3 << 20);
  EXPECT_EQ(*ParseBytes("1TB"), int64_t{1} << 40);
  for (const char* text : {"", "x", "1X", "1Mib", "-1", "1.5G", "9999999999999999999"}) {
    EXPECT_FALSE(ParseBytes(text).ok()) << text;
  }
}

TEST(HelpText, NamesEveryFlagWithItsDefault) {
  EXPECT_THAT(HelpText(), testing::HasSubstr("--listen (default 127.0.0.1:7433)"));
  EXPECT_THAT(HelpText(), testing::HasSubstr("--metrics_listen (default 127.0.0.1:7490)"));
}

}  // namespace
}  // namespace based
