// CheckStepTable: a sound table with one thing broken at a time.
#include "kernels/step_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace based {
namespace {

using ::testing::HasSubstr;

constexpr StepLimits kLimits = {.options = {.max_rows = 6, .max_spans = 3, .max_samples = 4},
                                .slots = 5,
                                .embed_rows = 12,
                                .vocab_size = 10,
                                .previous_samples = 2,
                                .late_rules = true};

StepTable SoundTable() {
  return {.tokens = {11, 0, 3, kTokenFromPrevious},
          .sources = {kNone, kNone, kNone, 1},
          .spans = {{.slot = 4, .row = 0, .length = 3, .position = 0},
                    {.slot = 0, .row = 3, .length = 1, .position = 77}},
          .samples = {{.row = 2, .params = {}},
                      {.row = 3, .params = {}, .sample = false, .logprob = true, .target = 9},
                      {.row = 3, .params = {}, .late = RuleSizes()}}};
}

const SampleRules kNoRules;

struct Damage {
  const char* name;
  std::function<void(StepTable&)> apply;
  const char* message;
};

const std::vector<Damage>& Damages() {
  static const auto* damages = new std::vector<Damage>{
      {"no_rows", [](StepTable& t) { t = {}; }, "0 rows"},
      {"many_rows", [](StepTable& t) { t.tokens.resize(7); }, "7 rows, expected 1 to 6"},
      {"many_spans", [](StepTable& t) { t.spans.resize(4); }, "4 spans, most 3"},
      {"many_samples", [](StepTable& t) { t.samples.resize(5); }, "5 samples, most 4"},
      {"token_high", [](StepTable& t) { t.tokens[1] = 12; }, "tokens[1] is 12"},
      {"token_low", [](StepTable& t) { t.tokens[1] = -2; }, "tokens[1] is -2"},
      {"source_high", [](StepTable& t) { t.sources[3] = 2; }, "sources[3]"},
      {"source_low", [](StepTable& t) { t.sources[3] = kNone; }, "sources[3]"},
      {"source_missing", [](StepTable& t) { t.sources.clear(); }, "sources[3]"},
      {"slot_high", [](StepTable& t) { t.spans[1].slot = 5; }, "spans[1].slot is 5 of 5"},
      {"slot_low", [](StepTable& t) { t.spans[0].slot = -1; }, "spans[0].slot is -1"},
      {"slot_twice", [](StepTable& t) { t.spans[1].slot = 4; }, "spans[1].slot 4 has an earlier"},
      {"gap", [](StepTable& t) { t.spans[1].row = 2; }, "spans[1] has row 2"},
      {"empty_span", [](StepTable& t) { t.spans[0].length = 0; }, "spans[0] has row 0, length 0"},
      {"position", [](StepTable& t) { t.spans[1].position = -1; }, "position -1"},
      {"uncovered", [](StepTable& t) { t.spans.pop_back(); }, "spans cover 3 of 4 rows"},
      {"sample_row", [](StepTable& t) { t.samples[0].row = 4; }, "samples[0].row is 4 of 4"},
      {"target_high", [](StepTable& t) { t.samples[1].target = 10; }, "samples[1].target is 10"},
      {"target_low", [](StepTable& t) { t.samples[1].target = -2; }, "samples[1].target is -2"},
      {"logprob_of_nothing", [](StepTable& t) { t.samples[1].target = kNone; },
       "samples[1] asks for a logprob of no id"},
      {"late_twice", [](StepTable& t) { t.samples[2].rules = &kNoRules; },
       "samples[2] has late rules and others"},
      {"late_for_nothing", [](StepTable& t) { t.samples[2].sample = false; },
       "samples[2] has late rules and no draw"}};
  return *damages;
}

TEST(StepCheckTest, SoundTablePasses) {
  const absl::Status status = CheckStepTable(SoundTable(), kLimits);
  EXPECT_TRUE(status.ok()) << status;
}

class DamagedStepTest : public ::testing::TestWithParam<Damage> {};

TEST_P(DamagedStepTest, IsRefusedByName) {
  StepTable table = SoundTable();
  GetParam().apply(table);
  const absl::Status status = CheckStepTable(table, kLimits);
  ASSERT_TRUE(absl::IsInternal(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().message));
}

// A bit for each of the 10 ids; the padding of the last word is the caller's.
TEST(StepCheckTest, AMaskHasTheWordsOfTheVocabulary) {
  StepTable table = SoundTable();
  const std::vector<uint32_t> words = {0xFFFFFFFF, 0};
  SampleRules rules;
  table.samples[0].rules = &rules;
  EXPECT_TRUE(CheckStepTable(table, kLimits).ok());
  rules.mask = absl::MakeConstSpan(words).first(1);
  EXPECT_TRUE(CheckStepTable(table, kLimits).ok());
  rules.mask = words;
  const absl::Status status = CheckStepTable(table, kLimits);
  ASSERT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("samples[0].rules->mask has 2 words, expected 1 for 10 ids"));
}

TEST(StepCheckTest, LateRulesAreRefusedWhereNobodyTakesThem) {
  StepLimits limits = kLimits;
  limits.late_rules = false;
  const absl::Status status = CheckStepTable(SoundTable(), limits);
  ASSERT_TRUE(absl::IsInternal(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("samples[2] has late rules, which this backend does not take"));
}

TEST(StepCheckTest, LateRulesKeepToTheirSizes) {
  const std::vector<uint32_t> words = {0xFFFFFFFF, 0};
  const RuleSizes most{.counts = 1, .biases = 2, .banned = 3, .mask = true};
  SampleRules rules{.counts = {{1, 1}}, .biases = {{2, 1}, {3, 1}}, .banned = {4, 5, 6}};
  rules.mask = absl::MakeConstSpan(words).first(1);
  EXPECT_TRUE(CheckLateRules(rules, most, 10).ok());
  for (const RuleSizes less : {RuleSizes{0, 2, 3, true}, RuleSizes{1, 1, 3, true},
                               RuleSizes{1, 2, 2, true}, RuleSizes{1, 2, 3, false}}) {
    const absl::Status status = CheckLateRules(rules, less, 10);
    EXPECT_TRUE(absl::IsInternal(status)) << status;
  }
  rules.mask = words;
  EXPECT_TRUE(absl::IsInvalidArgument(CheckLateRules(rules, most, 10)));
}

INSTANTIATE_TEST_SUITE_P(Damages, DamagedStepTest, ::testing::ValuesIn(Damages()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace based
