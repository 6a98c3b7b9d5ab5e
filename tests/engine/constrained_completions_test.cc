// Completions under a constraint, on the demo model and every backend: whole texts match, cut ones
// begin one that does, and batching, forks and what needs no draw change nothing.
#include <atomic>
#include <chrono>
#include <memory>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/engine.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/engine/completion_recorder.h"
#include "tests/engine/test_backend.h"

namespace based {
namespace {

using Kind = ConstraintAsk::Kind;
using ::testing::HasSubstr;

class Counts final : public Observer {
 public:
  void OnStep(const StepStats& stats) override {
    forced += stats.forced_tokens;
    rows += stats.forced_rows;
  }
  void OnSlots(int32_t, int32_t, int32_t) override {}
  void OnFirstToken(Priority, std::chrono::nanoseconds) override {}
  void OnInterToken(Priority, std::chrono::nanoseconds) override {}
  void OnFinished(Priority, const Finished&) override {}
  void OnError(const absl::Status&) override {}
  void OnRejected(const absl::Status&) override { ++rejected; }
  void OnConstraint(const absl::Status& status, bool reused, std::chrono::nanoseconds) override {
    ++(!status.ok() ? refused : reused ? reuses : compiled);
  }

  std::atomic<int64_t> forced{0}, rows{0};
  std::atomic<int32_t> rejected{0}, refused{0}, reuses{0}, compiled{0};
};

class ConstrainedCompletionsTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto backend = TestBackend(GetParam());
    if (absl::IsUnavailable(backend.status())) GTEST_SKIP() << backend.status();
    ASSERT_TRUE(backend.ok()) << backend.status();
    backend_ = *std::move(backend);
    auto model = LoadModel({.model_dir = BASED_SOURCE_DIR "/models/demo"}, *backend_);
    ASSERT_TRUE(model.ok()) << model.status();
    auto engine = Engine::Create(*std::move(model), {.slots = 8}, &counts_);
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
  }

  std::shared_ptr<Recorder> Submit(const Request& request) {
    auto sink = std::make_shared<Recorder>(request.n);
    const auto id = engine_->Submit(request, sink);
    EXPECT_TRUE(id.ok()) << id.status();
    return sink;
  }

  std::shared_ptr<Recorder> Run(const Request& request) {
    auto sink = Submit(request);
    const absl::Status end = sink->Wait();
    EXPECT_TRUE(end.ok()) << end;
    return sink;
  }

  absl::Status Refusal(Request request) {
    return engine_->Submit(std::move(request), std::make_shared<Recorder>(1)).status();
  }

  Counts counts_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Engine> engine_;
};

Request Ask(Kind kind, const std::string& text, uint64_t seed = 1, int64_t max_tokens = 400) {
  Request request;
  request.prompt_text = "She said that";
  request.sampling.seed = seed;
  request.sampling.temperature = 0.9f;
  request.stop.max_tokens = max_tokens;
  request.output.token_ids = true;
  request.constraint = {.kind = kind, .text = text};
  return request;
}

const char* const kList = R"(root ::= "[" item ("," " "? item){0,5} "]"
item ::= [1-9][0-9]{0,3} | "\"" [a-z]{1,8} "\"" | "{\"colour\":\"" ("red" | "green") "\"}" | root)";

bool IsWhole(const Finished& finished) {
  return finished.reason == FinishReason::kEndOfText ||
         finished.reason == FinishReason::kConstraint;
}

TEST_P(ConstrainedCompletionsTest, WholeTextsMatchAndCutOnesAreBeginnings) {
  int32_t whole = 0;
  for (uint64_t seed = 0; seed < 12; ++seed) {
    Request request = Ask(Kind::kGrammar, kList, seed, seed % 3 == 0 ? 6 : 400);
    request.n = request.best_of = 3;
    if (seed % 2 == 1) request.sampling.repetition_penalty = 1.2f;
    if (seed % 4 >= 2) request.output.logprobs = true;
    const auto sink = Run(request);
    for (const Recorder::Choice& choice : sink->choices) {
      ASSERT_EQ(choice.finished.size(), 1u);
      const Finished& finished = choice.finished[0];
      EXPECT_EQ(finished.generated_tokens,
                static_cast<int64_t>(choice.ids.size()) +
                    (finished.reason == FinishReason::kEndOfText ? 1 : 0));
      EXPECT_EQ(choice.logprobs.size(), request.output.logprobs ? choice.ids.size() : 0);
      const bool parses = nlohmann::json::accept(choice.text);
      EXPECT_EQ(parses, IsWhole(finished)) << choice.text;
      if (parses) ++whole;
      EXPECT_EQ(choice.text.substr(0, 1), "[");
    }
  }
  EXPECT_GE(whole, 12);
}

TEST_P(ConstrainedCompletionsTest, OneOfTheChoicesComes) {
  const std::vector<std::string> choices = {"yes", "no", "yes, of course", "perhaps",
                                            "\u6f22 or \u00e9"};
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Request request = Ask(Kind::kChoice, "", seed);
    request.constraint.choices = choices;
    request.sampling.temperature = 3;
    const auto sink = Run(request);
    EXPECT_THAT(choices, testing::Contains(sink->choices[0].text));
    EXPECT_TRUE(IsWhole(sink->choices[0].finished[0]));
    seen.insert(sink->choices[0].text);
  }
  EXPECT_GE(seen.size(), 3u);
}

// The same tokens alone, beside others, and with its texts' forced parts fed in whatever spans.
TEST_P(ConstrainedCompletionsTest, BatchingChangesNoToken) {
  std::vector<Request> requests;
  for (uint64_t seed = 0; seed < 8; ++seed)
    requests.push_back(Ask(Kind::kGrammar, kList, seed, 80));
  std::vector<std::vector<int32_t>> alone;
  for (const Request& request : requests) alone.push_back(Run(request)->choices[0].ids);
  std::vector<std::shared_ptr<Recorder>> together;
  for (const Request& request : requests) together.push_back(Submit(request));
  for (size_t i = 0; i < requests.size(); ++i) {
    ASSERT_TRUE(together[i]->Wait().ok());
    EXPECT_EQ(together[i]->choices[0].ids, alone[i]) << i;
  }
}

TEST_P(ConstrainedCompletionsTest, WhatCanOnlyFollowIsNotDrawn) {
  const std::string fixed = "The whale swam slowly towards the harbour of Nantucket, ";
  const Request request = Ask(Kind::kGrammar, absl::StrCat("root ::= [AB] \"", fixed, "\" [0-9]"));
  const auto sink = Run(request);
  EXPECT_TRUE(std::regex_match(sink->choices[0].text, std::regex("[AB]" + fixed + "[0-9]")));
  EXPECT_EQ(sink->choices[0].finished[0].reason, FinishReason::kConstraint);
  const auto tokens = static_cast<int64_t>(sink->choices[0].ids.size());
  EXPECT_EQ(sink->choices[0].finished[0].generated_tokens, tokens);
  EXPECT_GT(counts_.forced, tokens / 2);
  EXPECT_GT(counts_.rows, tokens / 2);
  // With logprobs each is drawn: other tokens perhaps, the same text.
  const int64_t forced = counts_.forced;
  Request drawn = request;
  drawn.output.logprobs = true;
  const auto slow = Run(drawn);
  EXPECT_EQ(slow->choices[0].text.substr(1, fixed.size()), fixed);
  EXPECT_EQ(counts_.forced, forced);
}

TEST_P(ConstrainedCompletionsTest, StopsCutAndMinTokensDelayNothingThatMustEnd) {
  Request request = Ask(Kind::kGrammar, R"(root ::= "abc STOP def" [0-9])");
  request.stop.strings = {"STOP"};
  const auto stopped = Run(request);
  EXPECT_EQ(stopped->choices[0].text, "abc ");
  EXPECT_EQ(stopped->choices[0].finished[0].reason, FinishReason::kStopString);
  Request must_end = Ask(Kind::kGrammar, R"(root ::= "yes" [0-9])");
  must_end.stop.min_tokens = 100;
  EXPECT_EQ(Run(must_end)->choices[0].finished[0].reason, FinishReason::kConstraint);
  // Where it may go on, it does.
  Request may_end = Ask(Kind::kGrammar, "root ::= [0-9]+", 3, 50);
  may_end.stop.ignore_eos = true;
  const auto longest = Run(may_end);
  EXPECT_EQ(longest->choices[0].finished[0].reason, FinishReason::kMaxTokens);
  EXPECT_TRUE(std::regex_match(longest->choices[0].text, std::regex("[0-9]{50,}")));
}

// A stop id in text that can only follow is no reason to stop before min_tokens.
TEST_P(ConstrainedCompletionsTest, ForcedTextDoesNotStopBeforeMinTokens) {
  const std::string text = "the quick brown fox jumps over the lazy dog";
  const Tokenizer& tokenizer = *engine_->model().tokenizer;
  const auto ids = tokenizer.Encode(text);
  ASSERT_TRUE(ids.ok() && ids->size() > 8);
  Request request = Ask(Kind::kRegex, text);
  request.stop.token_ids = {(*ids)[4]};
  const auto stopped = Run(request);
  EXPECT_EQ(stopped->choices[0].finished[0].reason, FinishReason::kStopToken);
  request.stop.min_tokens = 8;
  const auto whole = Run(request);
  EXPECT_EQ(whole->choices[0].text, text);
  EXPECT_EQ(whole->choices[0].finished[0].reason, FinishReason::kConstraint);
}

TEST_P(ConstrainedCompletionsTest, ConstraintsAreCompiledOnce) {
  for (int i = 0; i < 3; ++i) Run(Ask(Kind::kGrammar, "root ::= \"a\" [0-9]"));
  Run(Ask(Kind::kGrammar, "root ::= \"b\" [0-9]"));
  EXPECT_EQ(counts_.compiled, 2);
  EXPECT_EQ(counts_.reuses, 2);
}

TEST_P(ConstrainedCompletionsTest, BadOnesAreRefusedByName) {
  const auto expect = [this](const Request& request, const std::string& message) {
    const absl::Status status = Refusal(request);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  };
  expect(Ask(Kind::kGrammar, "root ::= (\"a\""), "constraint.grammar: ");
  expect(Ask(Kind::kGrammar, "root ::= \"a\" root"), "constraint.grammar: ");
  expect(Ask(Kind::kChoice, ""), "constraint.choice: ");
  Request empty = Ask(Kind::kChoice, "");
  empty.constraint.choices = {""};
  expect(empty, "only the empty text matches");
  Request named = Ask(Kind::kGrammar, "root ::=\n  [a");
  named.constraint.field = "guided_grammar";
  expect(named, "guided_grammar: ");
  EXPECT_EQ(counts_.refused, 5);
  EXPECT_EQ(counts_.rejected, 5);
}

TEST_P(ConstrainedCompletionsTest, ATokenThatNothingLeavesIsSaid) {
  Request request = Ask(Kind::kGrammar, "root ::= [a-c] \"x\"");
  request.sampling.allowed_token_ids = *engine_->model().tokenizer->Encode("y");
  EXPECT_EQ(Refusal(request),
            absl::InvalidArgumentError("sampling.allowed_token_ids and constraint.grammar leave no "
                                       "token for the first draw; expected at least one"));
  request.sampling.allowed_token_ids = *engine_->model().tokenizer->Encode("b");
  const auto sink = Submit(request);
  EXPECT_EQ(sink->Wait(), absl::FailedPreconditionError(
                              "no token is left to draw: sampling.allowed_token_ids and "
                              "constraint.grammar together exclude all"));
}

INSTANTIATE_TEST_SUITE_P(All, ConstrainedCompletionsTest, ::testing::ValuesIn(FastBackends()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace based
