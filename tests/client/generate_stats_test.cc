// What --stats says of one completion and of several.
#include "client/generate_stats.h"

#include "gtest/gtest.h"

namespace based {
namespace {

DoneEvent Done(int32_t index, int64_t tokens, int64_t prefill_us, int64_t decode_us) {
  return {.index = index,
          .finish_reason = "FINISH_REASON_MAX_TOKENS",
          .usage = {.prompt_tokens = 5, .generated_tokens = tokens},
          .timings = {.queue_us = 100'000, .prefill_us = prefill_us, .decode_us = decode_us}};
}

TEST(GenerateStats, CountsFromTheFirstGeneratedToken) {
  GenerateStats stats;
  stats.Add(Done(0, 11, 150'000, 2'000'000));
  EXPECT_EQ(stats.Line(2.5),
            "prompt_tokens=5 generated_tokens=11 finish_reason=max_tokens first_token_s=0.250 "
            "total_s=2.500 tokens_per_s=5.0");
}

// Together they draw 30 tokens: one at 0.2 s, the others until 2.7 s.
TEST(GenerateStats, SeveralCompletionsShareTheTimeFromTheFirstTokenToTheLast) {
  GenerateStats stats;
  DoneEvent ended = Done(1, 9, 200'000, 900'000);
  ended.finish_reason = "FINISH_REASON_END_OF_TEXT";
  stats.Add(ended);
  stats.Add(Done(0, 11, 100'000, 2'000'000));
  stats.Add(Done(2, 10, 600'000, 2'000'000));
  EXPECT_EQ(stats.Line(3),
            "prompt_tokens=5 generated_tokens=30 finish_reason=max_tokens,end_of_text,max_tokens "
            "first_token_s=0.200 total_s=3.000 tokens_per_s=11.6");
}

TEST(GenerateStats, SaysNothingOfTokensWhereNoCompletionHasEnded) {
  EXPECT_EQ(GenerateStats().Line(1),
            "prompt_tokens=0 generated_tokens=0 finish_reason= first_token_s=0.000 total_s=1.000 "
            "tokens_per_s=0.0");
  GenerateStats one;
  one.Add(Done(0, 1, 0, 0));
  EXPECT_EQ(one.Line(1),
            "prompt_tokens=5 generated_tokens=1 finish_reason=max_tokens first_token_s=0.100 "
            "total_s=1.000 tokens_per_s=0.0");
}

}  // namespace
}  // namespace based
