// Command lines of `based`: flags to the request that is sent.
#include "kernels/base/command_line.h"

#include "client/generate_command.h"
#include "client/generate_flags.h"
#include "client/generate_remote.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

absl::StatusOr<CommandLine> Parse(std::vector<const char*> arguments) {
  return ParseCommandLine(arguments, GenerateFlagGroups());
}

absl::StatusOr<v1::GenerateRequest> RequestFromFlags(const CommandLine& line) {
  const absl::StatusOr<GenerateOptions> options = GenerateOptionsFromFlags(line);
  if (!options.ok()) return options.status();
  return ToProto(*options);
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

TEST(GenerateFlags, EverySamplingAndOutputFlagReachesItsField) {
  const auto line =
      Parse({"--prompt=hi", "--typical_p=0.5", "--repetition_penalty=1.5", "--presence_penalty=0.5",
             "--frequency_penalty=-0.5", "--logit_bias=3:1.5,4:-2", "--bad_words=a,b",
             "--bad_words=c", "--allowed_token_ids=1,2", "--min_tokens=3", "--include_stop",
             "--n=2", "--best_of=4", "--logprobs", "--top_logprobs=5", "--echo",
             "--prompt_logprobs", "--tokens_per_message=6", "--delta_interval_ms=7"});
  ASSERT_TRUE(line.ok()) << line.status();
  const auto request = RequestFromFlags(*line);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->sampling().typical_p(), 0.5f);
  EXPECT_EQ(request->sampling().repetition_penalty(), 1.5f);
  EXPECT_EQ(request->sampling().presence_penalty(), 0.5f);
  EXPECT_EQ(request->sampling().frequency_penalty(), -0.5f);
  EXPECT_EQ(request->sampling().logit_bias().at(3), 1.5f);
  EXPECT_EQ(request->sampling().logit_bias().at(4), -2.0f);
  EXPECT_THAT(request->sampling().bad_words(), testing::ElementsAre("a,b", "c"));
  EXPECT_THAT(request->sampling().allowed_token_ids(), testing::ElementsAre(1, 2));
  EXPECT_EQ(request->stop().min_tokens(), 3);
  EXPECT_TRUE(request->stop().include_stop());
  EXPECT_EQ(request->n(), 2);
  EXPECT_EQ(request->best_of(), 4);
  EXPECT_TRUE(request->output().logprobs());
  EXPECT_EQ(request->output().top_logprobs(), 5);
  EXPECT_TRUE(request->output().echo());
  EXPECT_TRUE(request->output().prompt_logprobs());
  EXPECT_EQ(request->output().tokens_per_message(), 6);
  EXPECT_EQ(request->output().delta_interval_ms(), 7);
}

TEST(GenerateFlags, ConstraintPriorityTenantAndStateReachTheirFields) {
  const auto line = Parse({"--prompt=hi", "--choice=yes", "--choice=no", "--priority=batch",
                           "--tenant=t", "--session=s", "--create_session", "--session_tokens=0",
                           "--snapshot=p", "--save_snapshot", "--nooutput_text"});
  ASSERT_TRUE(line.ok()) << line.status();
  const auto request = RequestFromFlags(*line);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_THAT(request->constraint().choice().values(), testing::ElementsAre("yes", "no"));
  EXPECT_EQ(request->priority(), v1::PRIORITY_BATCH);
  EXPECT_EQ(request->tenant(), "t");
  EXPECT_EQ(request->state().session(), "s");
  EXPECT_TRUE(request->state().create_session());
  EXPECT_TRUE(request->state().has_session_tokens());
  EXPECT_EQ(request->state().snapshot(), "p");
  EXPECT_TRUE(request->state().save_snapshot());
  EXPECT_TRUE(request->output().has_text());
  EXPECT_FALSE(request->output().text());
}

TEST(GenerateFlags, TwoConstraintsAndUnknownPrioritiesAreUsageErrors) {
  for (const std::vector<const char*>& flags :
       {std::vector<const char*>{"--prompt=a", "--json_value", "--regex=a"},
        std::vector<const char*>{"--prompt=a", "--priority=urgent"}}) {
    const auto line = Parse(flags);
    ASSERT_TRUE(line.ok());
    EXPECT_TRUE(IsUsageError(RequestFromFlags(*line).status()));
  }
}

TEST(GenerateFlags, ABiasGivenTwiceIsAUsageErrorThatNamesTheId) {
  for (const char* bias : {"--logit_bias=1:1,1:2", "--logit_bias=1:1,2:0,01:1"}) {
    const auto line = Parse({"--prompt=a", bias});
    ASSERT_TRUE(line.ok());
    const absl::Status status = RequestFromFlags(*line).status();
    EXPECT_TRUE(IsUsageError(status));
    EXPECT_THAT(std::string(status.message()),
                testing::HasSubstr("--logit_bias holds the id 1 twice"));
  }
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
  const std::string help = FlagsHelp(GenerateCommand({}, {}).flags);
  EXPECT_THAT(help, testing::HasSubstr("Sampling:"));
  EXPECT_THAT(help, testing::HasSubstr("--max_tokens (default 256)"));
}

}  // namespace
}  // namespace based
