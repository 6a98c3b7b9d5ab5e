// Options of a request on the engine over a simulated model: logprobs, several completions, stops,
// stream shape, scoring. Random sets of them all, on every backend: completion_backends_test.cc.
#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/completion_recorder.h"
#include "tests/sim/sim_executable.h"

namespace based {
namespace {

using ::testing::HasSubstr;

constexpr int32_t kVocab = 97;
constexpr int32_t kEos = 11;
constexpr int32_t kSlots = 4;

// Says of itself that it follows no rules.
class PlainExecutable final : public Executable {
 public:
  PlainExecutable() : info_(sim_.info()) { info_.sampling_rules = info_.top_logprobs = false; }
  const ExecutableInfo& info() const override { return info_; }
  absl::Status CreateSlots(int32_t count) override { return sim_.CreateSlots(count); }
  absl::Status Launch(const StepTable& table) override { return sim_.Launch(table); }
  absl::Status Collect(StepOutput& output) override { return sim_.Collect(output); }
  absl::Status ClearSlots(absl::Span<const int32_t> slots) override {
    return sim_.ClearSlots(slots);
  }
  absl::Status CopySlots(absl::Span<const SlotCopy> copies) override {
    return sim_.CopySlots(copies);
  }
  absl::Status ExportSlot(int32_t, int64_t, absl::Span<std::byte>) override {
    return absl::OkStatus();
  }
  absl::Status ImportSlot(int32_t, int64_t, absl::Span<const std::byte>) override {
    return absl::OkStatus();
  }

 private:
  SimExecutable sim_{SimModel()};
  ExecutableInfo info_;
};

std::unique_ptr<Engine> MakeEngine(std::unique_ptr<Executable> executable,
                                   Observer* observer = nullptr) {
  auto model = std::make_unique<Model>();
  model->config.vocab_size = kVocab;
  model->config.eos_token_id = kEos;
  model->executable = std::move(executable);
  model->tokenizer = std::make_unique<LetterTokenizer>(kVocab);
  auto engine = Engine::Create(std::move(model), {.slots = kSlots}, observer);
  EXPECT_TRUE(engine.ok()) << engine.status();
  return *std::move(engine);
}

// Keeps the totals of requests, in the order of their ends.
class TotalsObserver final : public Observer {
 public:
  void OnStep(const StepStats&) override {}
  void OnSlots(int32_t, int32_t, int32_t) override {}
  void OnFirstToken(Priority, std::chrono::nanoseconds) override {}
  void OnInterToken(Priority, std::chrono::nanoseconds) override {}
  void OnFinished(Priority, const Finished&) override {}
  void OnTotals(const RequestTotals& totals) override {
    MutexLock lock(mutex_);
    totals_.push_back(totals);
  }
  void OnError(const absl::Status&) override {}
  void OnRejected(const absl::Status&) override {}

  std::vector<RequestTotals> totals() {
    MutexLock lock(mutex_);
    return totals_;
  }

 private:
  Mutex mutex_;
  std::vector<RequestTotals> totals_ ABSL_GUARDED_BY(mutex_);
};

class CompletionOptionsTest : public ::testing::TestWithParam<int32_t> {
 protected:
  std::shared_ptr<Recorder> Run(const Request& request) {
    auto sink = std::make_shared<Recorder>(request.n);
    const auto id = engine_->Submit(request, sink);
    EXPECT_TRUE(id.ok()) << id.status();
    if (id.ok()) {
      EXPECT_TRUE(sink->Wait().ok());
    }
    return sink;
  }

  std::unique_ptr<Engine> engine_ =
      MakeEngine(std::make_unique<SimExecutable>(SimModel{.pipeline_depth = GetParam()}));
};

INSTANTIATE_TEST_SUITE_P(PipelineDepth, CompletionOptionsTest, ::testing::Values(1, 2));

TEST_P(CompletionOptionsTest, LogprobsAreOfTheTokensTheyStandBeside) {
  Request request = IdsRequest({3, 4, 5}, 20);
  request.output.logprobs = true;
  request.output.prompt_logprobs = true;
  request.output.top_logprobs = 2;
  const auto sink = Run(request);
  std::vector<int32_t> all = {3, 4, 5};
  const Recorder::Choice& choice = sink->choices[0];
  all.insert(all.end(), choice.ids.begin(), choice.ids.end());
  std::vector<TokenLogprob> logprobs = sink->prompt_logprobs;
  logprobs.insert(logprobs.end(), choice.logprobs.begin(), choice.logprobs.end());
  ASSERT_EQ(all.size(), 23u);
  ASSERT_EQ(logprobs.size(), 22u);
  uint64_t state = kSimEmptyState;
  for (size_t i = 0; i + 1 < all.size(); ++i) {
    state = SimState(state, all[i]);
    EXPECT_EQ(logprobs[i].token_id, all[i + 1]);
    EXPECT_EQ(logprobs[i].logprob, SimLogprob(state, all[i + 1]));
    ASSERT_EQ(logprobs[i].alternatives.size(), 2u);
    EXPECT_EQ(logprobs[i].alternatives[1].logprob, SimLogprob(state, 1));
  }
}

TEST_P(CompletionOptionsTest, CompletionsAreThoseOfRequestsWithTheirSeeds) {
  Request request = IdsRequest({1, 2, 3}, 12);
  request.n = request.best_of = kSlots;
  const auto together = Run(request);
  request.n = request.best_of = 1;
  for (int32_t i = 0; i < kSlots; ++i) {
    request.sampling.seed = 7 + static_cast<uint64_t>(i);
    const auto alone = Run(request);
    const Recorder::Choice& choice = together->choices[static_cast<size_t>(i)];
    EXPECT_EQ(choice.ids, alone->choices[0].ids);
    EXPECT_EQ(choice.text, alone->choices[0].text);
    ASSERT_EQ(choice.finished.size(), 1u);
    EXPECT_EQ(choice.finished[0].generated_tokens, 12);
  }
}

// Whether a step waits for what its rules depend on, or the rules follow it, is not to be seen.
TEST_P(CompletionOptionsTest, DrawsThatDependOnEarlierOnesAreThoseOfAStepAtATime) {
  auto at_a_time = MakeEngine(std::make_unique<SimExecutable>(SimModel{.pipeline_depth = 1}));
  for (int32_t i = 0; i < 8; ++i) {
    Request request = IdsRequest({1, 2, i}, 60);
    request.n = request.best_of = kSlots;
    request.output.logprobs = i % 2 == 0;
    request.sampling.frequency_penalty = 0.5f;
    if (i % 4 >= 2) {
      request.constraint = {.kind = ConstraintAsk::Kind::kRegex,
                            .text = "([abc]{2}(defgh|xyz)|[p-t]){4,12}z"};
    }
    const auto drawn = Run(request);
    std::swap(engine_, at_a_time);
    const auto expected = Run(request);
    std::swap(engine_, at_a_time);
    for (int32_t k = 0; k < kSlots; ++k) {
      const auto at = static_cast<size_t>(k);
      EXPECT_EQ(drawn->choices[at].ids, expected->choices[at].ids) << "request " << i;
      EXPECT_FALSE(drawn->choices[at].ids.empty());
    }
  }
}

TEST_P(CompletionOptionsTest, ManyForksShareFewSlotsWithoutDeadlock) {
  std::vector<std::shared_ptr<Recorder>> sinks;
  for (int32_t i = 0; i < 30; ++i) {
    Request request = IdsRequest({i, 2, 3}, 8);
    request.n = request.best_of = 1 + i % kSlots;
    sinks.push_back(std::make_shared<Recorder>(request.n));
    ASSERT_TRUE(engine_->Submit(request, sinks.back()).ok());
  }
  for (const auto& sink : sinks) {
    EXPECT_TRUE(sink->Wait().ok());
    for (const auto& choice : sink->choices) EXPECT_EQ(choice.ids.size(), 8u);
  }
}

TEST_P(CompletionOptionsTest, BestOfReturnsTheMostLikelyBestFirst) {
  Request request = IdsRequest({1, 2, 3}, 6);
  request.output.logprobs = true;
  request.n = request.best_of = kSlots;
  const auto all = Run(request);
  std::vector<double> sums;
  for (const auto& choice : all->choices) sums.push_back(choice.finished[0].cumulative_logprob);
  std::sort(sums.rbegin(), sums.rend());
  request.n = 2;
  const auto best = Run(request);
  for (size_t i = 0; i < 2; ++i) {
    const Recorder::Choice& choice = best->choices[i];
    ASSERT_EQ(choice.finished.size(), 1u);
    EXPECT_EQ(choice.finished[0].cumulative_logprob, sums[i]);
    double sum = 0;
    for (const TokenLogprob& l : choice.logprobs) sum += l.logprob;
    EXPECT_EQ(sum, sums[i]);
    EXPECT_EQ(choice.ids.size(), 6u);
    Request alone = request;
    alone.n = alone.best_of = 1;
    alone.sampling.seed = choice.finished[0].seed;
    const auto again = Run(alone);
    EXPECT_EQ(again->choices[0].ids, choice.ids);
    EXPECT_EQ(again->choices[0].finished[0].seed, choice.finished[0].seed);
  }
}

TEST_P(CompletionOptionsTest, MinTokensHoldsOffStopsAndIncludeStopKeepsThem) {
  Request request = IdsRequest({9}, 60);
  const auto whole = Run(request);
  const std::vector<int32_t>& ids = whole->choices[0].ids;
  const std::string& text = whole->choices[0].text;
  request.stop.strings = {text.substr(4, 2)};
  const auto cut = Run(request);
  const size_t at = text.find(request.stop.strings[0]);
  EXPECT_EQ(cut->choices[0].text, text.substr(0, at));
  request.stop.include_stop = true;
  EXPECT_EQ(Run(request)->choices[0].text, text.substr(0, at + 2));
  EXPECT_EQ(cut->choices[0].finished[0].reason, FinishReason::kStopString);
  request.stop.min_tokens = 30;
  const auto late = Run(request);
  const size_t second = text.find(request.stop.strings[0], 30);
  EXPECT_EQ(late->choices[0].text, text.substr(0, second == std::string::npos ? 60 : second + 2));

  request.stop = {.max_tokens = 60, .token_ids = {ids[3]}, .ignore_eos = true};
  request.stop.include_stop = true;
  const auto with = Run(request);
  const auto first = std::find(ids.begin(), ids.end(), ids[3]) + 1;
  EXPECT_EQ(with->choices[0].ids, std::vector<int32_t>(ids.begin(), first));
  request.stop.min_tokens = 50;
  const auto long_one = Run(request);
  EXPECT_GE(long_one->choices[0].ids.size(), 50u);
  EXPECT_EQ(
      std::count(long_one->choices[0].ids.begin(), long_one->choices[0].ids.begin() + 50, ids[3]),
      0);
}

TEST_P(CompletionOptionsTest, WhoLeavesNothingToALaterDrawIsNamed) {
  Request request = IdsRequest({9}, 60);
  request.sampling.allowed_token_ids = {4};
  request.sampling.bad_words = {"eee"};
  request.sampling.repetition_penalty = 2;
  request.stop.min_tokens = 1;
  auto sink = std::make_shared<Recorder>(1);
  ASSERT_TRUE(engine_->Submit(request, sink).ok());
  EXPECT_EQ(sink->Wait(), absl::FailedPreconditionError(
                              "no token is left to draw: sampling.allowed_token_ids and "
                              "sampling.bad_words together exclude all"));
  EXPECT_EQ(sink->choices[0].text, "ee");
}

TEST_P(CompletionOptionsTest, EchoComesBeforeEachCompletion) {
  Request request = IdsRequest({0, 1, 2}, 5);
  const auto plain = Run(request);
  request.output.echo = true;
  request.n = request.best_of = 2;
  const auto echoed = Run(request);
  EXPECT_EQ(echoed->choices[0].text, "abc" + plain->choices[0].text);
  EXPECT_EQ(echoed->choices[1].text.substr(0, 3), "abc");
  EXPECT_EQ(echoed->choices[1].ids.size(), 8u);
}

TEST_P(CompletionOptionsTest, DeltasHoldTheTokensAskedFor) {
  Request request = IdsRequest({1}, 10);
  request.output.tokens_per_message = 4;
  EXPECT_THAT(Run(request)->choices[0].delta_tokens, ::testing::ElementsAre(4, 4, 2));
  request.output.tokens_per_message = 0;
  request.output.delta_interval = std::chrono::minutes(1);
  EXPECT_THAT(Run(request)->choices[0].delta_tokens, ::testing::ElementsAre(10));
}

TEST_P(CompletionOptionsTest, ATimedDeltaGoesOutWithoutANextToken) {
  Request request = IdsRequest({1}, 1'000'000);
  request.output.delta_interval = std::chrono::milliseconds(1);
  auto sink = std::make_shared<Recorder>(1);
  const auto id = engine_->Submit(request, sink);
  ASSERT_TRUE(id.ok());
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  engine_->Cancel(*id, absl::CancelledError("enough"));
  EXPECT_EQ(sink->Wait().code(), absl::StatusCode::kCancelled);
  EXPECT_GT(sink->choices[0].delta_tokens.size(), 0u);
}

TEST_P(CompletionOptionsTest, ScoringSaysHowLikelyTheRestIsAndDrawsNothing) {
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 700; ++i) ids.push_back(i % kVocab);
  Request request = IdsRequest({ids.begin(), ids.begin() + 200}, 5);
  request.continuations = {{.ids = {ids.begin() + 200, ids.end()}}};
  const auto sink = Run(request);
  ASSERT_EQ(sink->prompt_logprobs.size(), 500u);
  uint64_t state = kSimEmptyState;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i >= 200) {
      const TokenLogprob& score = sink->prompt_logprobs[i - 200];
      EXPECT_EQ(score.token_id, ids[i]);
      EXPECT_EQ(score.logprob, SimLogprob(state, ids[i]));
      const SampleParams greedy{.temperature = 0};
      EXPECT_EQ(score.most_likely, SimDraw(SimModel(), state, greedy) == ids[i]);
    }
    state = SimState(state, ids[i]);
  }
  EXPECT_EQ(sink->choices[0].finished[0].generated_tokens, 0);
}

// A scored request generates nothing and has no totals.
TEST(CompletionOptionsTotals, AreOfAllCompletions) {
  TotalsObserver observer;
  const auto engine = MakeEngine(std::make_unique<SimExecutable>(SimModel()), &observer);
  Request request = IdsRequest({1, 2}, 7);
  request.n = 2;
  request.best_of = 3;
  Request scored = IdsRequest({1, 2}, 5);
  scored.continuations = {{.ids = {3}}};
  for (const Request& each : {request, scored}) {
    const auto sink = std::make_shared<Recorder>(each.n);
    ASSERT_TRUE(engine->Submit(each, sink).ok());
    EXPECT_TRUE(sink->Wait().ok());
  }
  const std::vector<RequestTotals> totals = observer.totals();
  ASSERT_EQ(totals.size(), 1u);
  EXPECT_EQ(totals[0].completions, 2);
  EXPECT_EQ(totals[0].max_tokens, 7);
  EXPECT_EQ(totals[0].generated_tokens, 3 * 7);
}

struct BadInput {
  std::string expected;
  std::function<void(Request&)> spoil;
};

void ExpectRefused(const std::vector<BadInput>& cases) {
  const auto engine = MakeEngine(std::make_unique<SimExecutable>(SimModel()));
  for (const BadInput& c : cases) {
    Request request = IdsRequest({1}, 5);
    c.spoil(request);
    const auto id = engine->Submit(request, std::make_shared<Recorder>(1));
    EXPECT_EQ(id.status().code(), absl::StatusCode::kInvalidArgument) << c.expected;
    EXPECT_THAT(std::string(id.status().message()), HasSubstr(c.expected));
  }
}

TEST(CompletionOptionsInput, ContradictionsAreNamed) {
  ExpectRefused({
      {"n is 5; expected at most the 4 slots", [](Request& r) { r.n = r.best_of = 5; }},
      {"best_of is 5; expected at most the 4 slots", [](Request& r) { r.best_of = 5; }},
      {"n is 65; expected a number in [1, 64]", [](Request& r) { r.n = 65; }},
      {"n is 0; expected", [](Request& r) { r.n = 0; }},
      {"best_of is 1; expected a number in [2 (n), 64]", [](Request& r) { r.n = 2; }},
      {"best_of is 2; expected best_of * stop.max_tokens",
       [](Request& r) { r.best_of = 2, r.stop.max_tokens = 600'000; }},
      {"output.top_logprobs is 21; expected a number in [0, 20]",
       [](Request& r) { r.output.logprobs = true, r.output.top_logprobs = 21; }},
      {"output.top_logprobs is 3; expected 0 unless",
       [](Request& r) { r.output.top_logprobs = 3; }},
      {"stop.min_tokens is 6; expected a number in [0, 5]",
       [](Request& r) { r.stop.min_tokens = 6; }},
      {"a key of sampling.logit_bias is 97; expected a token id in [0, 97)",
       [](Request& r) {
         r.sampling.logit_bias = {{97, 1.0f}};
       }},
      {"sampling.logit_bias[3] is 101; expected a number in [-100, 100]",
       [](Request& r) {
         r.sampling.logit_bias = {{3, 101.0f}};
       }},
      {"a key of sampling.logit_bias is 3 twice; expected each id once",
       [](Request& r) {
         r.sampling.logit_bias = {{3, 1.0f}, {4, 1.0f}, {3, 1.0f}};
       }},
      {"output.tokens_per_message is 65537; expected a number in [1, 65536]",
       [](Request& r) { r.output.tokens_per_message = 65'537; }},
      {"sampling.allowed_token_ids[0] is -1;",
       [](Request& r) { r.sampling.allowed_token_ids = {-1}; }},
      {"sampling.bad_words[0] is 0 bytes long;", [](Request& r) { r.sampling.bad_words = {""}; }},
      {"sampling.typical_p is 0;", [](Request& r) { r.sampling.typical_p = 0; }},
      {"sampling.repetition_penalty is 0;", [](Request& r) { r.sampling.repetition_penalty = 0; }},
      {"sampling.presence_penalty is 11;", [](Request& r) { r.sampling.presence_penalty = 11; }},
      {"sampling.frequency_penalty is nan;",
       [](Request& r) { r.sampling.frequency_penalty = std::nanf(""); }},
      {"output.delta_interval_ms is -1;",
       [](Request& r) { r.output.delta_interval = std::chrono::milliseconds(-1); }},
  });
}

TEST(CompletionOptionsInput, FieldsThatLeaveNothingToDrawAreNamed) {
  ExpectRefused({
      {"sampling.allowed_token_ids and stop.min_tokens leave no token for the first draw; expected",
       [](Request& r) {
         r.sampling.allowed_token_ids = {4}, r.stop.token_ids = {4}, r.stop.min_tokens = 2;
       }},
      {"sampling.allowed_token_ids and sampling.bad_words leave no token for the first draw;",
       [](Request& r) {
         r.sampling.allowed_token_ids = {4, 5}, r.sampling.bad_words = {"e", "f", "gh"};
       }},
      {"sampling.allowed_token_ids and constraint.choice leave no token for the first draw;",
       [](Request& r) {
         r.sampling.allowed_token_ids = {kEos, 5};
         r.constraint = {.kind = ConstraintAsk::Kind::kChoice, .choices = {"ab"}};
       }},
      {"sampling.allowed_token_ids and grammar of the file leave no token for the first draw;",
       [](Request& r) {
         r.sampling.allowed_token_ids = {5};
         r.constraint = {
             .kind = ConstraintAsk::Kind::kRegex, .text = "[a-c]+", .field = "grammar of the file"};
       }},
  });
}

TEST(CompletionOptionsInput, ContinuationsThatDoNotFitAreNamed) {
  ExpectRefused({
      {"continuations[1] is 0 tokens long; expected at least 1",
       [](Request& r) {
         r.continuations = {{.ids = {1}}, {}};
       }},
      {"continuations[0][1] is 97; expected a token id in [0, 97)",
       [](Request& r) {
         r.continuations = {{.ids = {1, 97}}};
       }},
      {"continuations[1].parent is 1; expected the index of an earlier one",
       [](Request& r) {
         r.continuations = {{.ids = {1}}, {.ids = {1}, .parent = 1}};
       }},
      {"continuations[1].shared is 3; expected a number in (0, 3)",
       [](Request& r) {
         r.continuations = {{.ids = {1, 2}}, {.ids = {1}, .shared = 3}};
       }},
      {"continuations[2].shared is 2; expected a number in (2, 4)",
       [](Request& r) {
         r.continuations = {
             {.ids = {1, 2}}, {.ids = {3, 4}, .shared = 2}, {.ids = {5}, .parent = 1, .shared = 2}};
       }},
      {"continuations[0].unscored is 1; expected a number in [0, 1)",
       [](Request& r) { r.continuations = {{.ids = {1}, .unscored = 1}}; }},
  });
}

TEST(CompletionOptionsInput, WhatTheBackendWouldIgnoreIsUnimplemented) {
  const auto engine = MakeEngine(std::make_unique<PlainExecutable>());
  struct Case {
    std::string field;
    std::function<void(Request&)> set;
  };
  const std::vector<Case> cases = {
      {"sampling.typical_p", [](Request& r) { r.sampling.typical_p = 0.5f; }},
      {"sampling.repetition_penalty", [](Request& r) { r.sampling.repetition_penalty = 2; }},
      {"sampling.presence_penalty", [](Request& r) { r.sampling.presence_penalty = 1; }},
      {"sampling.frequency_penalty", [](Request& r) { r.sampling.frequency_penalty = 1; }},
      {"sampling.logit_bias",
       [](Request& r) {
         r.sampling.logit_bias = {{1, 1.0f}};
       }},
      {"sampling.bad_words", [](Request& r) { r.sampling.bad_words = {"a"}; }},
      {"sampling.allowed_token_ids", [](Request& r) { r.sampling.allowed_token_ids = {1}; }},
      {"stop.min_tokens", [](Request& r) { r.stop.min_tokens = 1; }},
      {"output.top_logprobs",
       [](Request& r) { r.output.logprobs = true, r.output.top_logprobs = 1; }},
  };
  for (const Case& c : cases) {
    Request request = IdsRequest({1}, 5);
    c.set(request);
    const auto id = engine->Submit(request, std::make_shared<Recorder>(1));
    EXPECT_EQ(id.status().code(), absl::StatusCode::kUnimplemented) << c.field;
    EXPECT_THAT(std::string(id.status().message()), HasSubstr(c.field + " is set"));
  }
}

}  // namespace
}  // namespace based
