// Command lines of `based`: flags to the request that is sent.
#include "kernels/base/command_line.h"

#include "client/remote.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

absl::StatusOr<CommandLine> Parse(std::vector<const char*> arguments) {
  return ParseCommandLine(arguments, GenerateCommand().flags);
}

TEST(GenerateFlags, BecomeTheRequest) {
  const auto line = Parse({"--prompt", "hi", "--temperature=0", "--stop", "a", "--stop=b",
                           "--stop_token_ids=4,5", "--ignore_eos", "--max_tokens=9"});
  ASSERT_TRUE(line.ok()) << line.status();
  const auto request = RequestFromFlags(*line);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->text(), "hi");
  EXPECT_TRUE(request->sampling().has_temperature());
  EXPECT_EQ(request->sampling().temperature(), 0.0f);
  EXPECT_FALSE(request->sampling().has_top_p());
  EXPECT_FALSE(request->sampling().has_seed());
  EXPECT_EQ(request->stop().max_tokens(), 9);
  EXPECT_THAT(request->stop().strings(), testing::ElementsAre("a", "b"));
  EXPECT_THAT(request->stop().token_ids(), testing::ElementsAre(4, 5));
  EXPECT_TRUE(request->stop().ignore_eos());
}

TEST(GenerateFlags, TwoPromptsAreAUsageError) {
  const auto line = Parse({"--prompt=a", "--prompt_file=b", "--stop_token_ids="});
  ASSERT_TRUE(line.ok());
  EXPECT_TRUE(IsUsageError(RequestFromFlags(*line).status()));
}

TEST(ParseCommandLine, RefusesWhatTheCommandDoesNotKnow) {
  EXPECT_THAT(std::string(Parse({"--golden=x"}).status().message()),
              testing::HasSubstr("unknown flag --golden"));
  EXPECT_THAT(std::string(Parse({"--max_tokens"}).status().message()),
              testing::HasSubstr("needs a value"));
  EXPECT_FALSE(Parse({"--top_k=1.5"}).ok());
}

TEST(ParseCommandLine, TakesWordsAndHelp) {
  const auto line = Parse({"once", "--help", "--", "--upon"});
  ASSERT_TRUE(line.ok());
  EXPECT_TRUE(line->help);
  EXPECT_THAT(line->positional, testing::ElementsAre("once", "--upon"));
}

TEST(FlagsHelp, ShowsHeadingsDefaultsAndText) {
  const std::string help = FlagsHelp(GenerateCommand().flags);
  EXPECT_THAT(help, testing::HasSubstr("Sampling:"));
  EXPECT_THAT(help, testing::HasSubstr("--max_tokens (default 256)"));
}

}  // namespace
}  // namespace based
