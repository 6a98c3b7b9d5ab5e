// Conversations in sessions against one request with the whole conversation as its prompt: the same
// tokens, bit for bit, however the conversation is cut into calls, among neighbours, parked,
// forked, and after calls that failed. On real backends and on a simulated model with one and two
// steps in flight.
#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/engine.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/completion_recorder.h"
#include "tests/engine/test_backend.h"
#include "tests/sim/sim_executable.h"

namespace based {
namespace {

using ::testing::HasSubstr;

class SessionsTest : public ::testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Engine> MakeEngine(EngineOptions options) {
    auto model = std::make_unique<Model>();
    if (absl::StartsWith(GetParam(), "sim")) {
      model->config.vocab_size = 61;
      model->config.eos_token_id = 60;
      auto executable = std::make_unique<SimExecutable>(
          SimModel{.vocab_size = 61, .pipeline_depth = absl::EndsWith(GetParam(), "1") ? 1 : 2});
      executables_.push_back(executable.get());
      model->executable = std::move(executable);
    } else {
      auto backend = TestBackend(GetParam());
      if (absl::IsUnavailable(backend.status())) return nullptr;
      EXPECT_TRUE(backend.ok()) << backend.status();
      auto loaded = LoadModel({.model_dir = BASED_SOURCE_DIR "/tests/golden/tiny-a"}, **backend);
      EXPECT_TRUE(loaded.ok()) << loaded.status();
      model = *std::move(loaded);
      backends_.push_back(*std::move(backend));
    }
    model->tokenizer = std::make_unique<LetterTokenizer>(model->config.vocab_size);
    auto engine = Engine::Create(std::move(model), options, nullptr);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *std::move(engine);
  }
  void SetUp() override {
    quiet_ = MakeEngine({.slots = 1});
    if (quiet_ == nullptr) GTEST_SKIP() << "no device";
    engine_ = MakeEngine({.slots = 3});
  }
  void TearDown() override {
    for (const SimExecutable* executable : executables_) EXPECT_EQ(executable->error(), "");
  }

  int32_t Below(int32_t n) { return static_cast<int32_t>(random_() % static_cast<uint32_t>(n)); }
  bool Chance(int32_t percent) { return Below(100) < percent; }
  std::vector<int32_t> Ids(int32_t count) {
    std::vector<int32_t> ids(static_cast<size_t>(count));
    for (int32_t& id : ids) id = Below(60);
    return ids;
  }

  // A turn with random options; it ends in every way that there is.
  Request RandomTurn(std::vector<int32_t> prompt) {
    Request request = IdsRequest(std::move(prompt), 1 + Below(12));
    request.sampling.seed = random_();
    request.sampling.temperature = Chance(20) ? 0.0f : 1.0f;
    request.stop.ignore_eos = Chance(50);
    request.stop.include_stop = Chance(50);
    if (Chance(40)) request.stop.token_ids = Ids(8);
    if (Chance(40)) request.stop.strings = {"a", "th", "e", "x"};
    if (Chance(20)) request.stop.min_tokens = Below(static_cast<int32_t>(request.stop.max_tokens));
    if (Chance(30)) request.sampling.repetition_penalty = 1.7f;
    if (Chance(20)) request.sampling.frequency_penalty = 0.9f;
    if (Chance(20)) request.priority = Priority::kBatch;
    request.output.logprobs = Chance(30);
    request.output.prompt_logprobs = Chance(20);
    return request;
  }

  static std::shared_ptr<Recorder> Send(Engine& engine, const Request& request) {
    auto recorder = std::make_shared<Recorder>(1);
    const absl::StatusOr<RequestId> id = engine.Submit(request, recorder);
    EXPECT_TRUE(id.ok()) << id.status();
    return recorder;
  }

  // What the turn gives in one request with `history` before its prompt.
  void ExpectAsOneRequest(const std::vector<int32_t>& history, Request turn, Recorder& actual) {
    ASSERT_TRUE(actual.Wait().ok());
    const size_t own = turn.prompt_token_ids.size();
    turn.session = {};
    turn.priority = Priority::kInteractive;
    turn.prompt_token_ids.insert(turn.prompt_token_ids.begin(), history.begin(), history.end());
    const auto expected = Send(*quiet_, turn);
    ASSERT_TRUE(expected->Wait().ok());
    EXPECT_EQ(actual.choices[0].ids, expected->choices[0].ids);
    EXPECT_EQ(actual.choices[0].text, expected->choices[0].text);
    const Finished& finished = actual.choices[0].finished.at(0);
    const Finished& same = expected->choices[0].finished.at(0);
    EXPECT_EQ(finished.reason, same.reason);
    EXPECT_EQ(finished.stop_string, same.stop_string);
    EXPECT_EQ(finished.generated_tokens, same.generated_tokens);
    EXPECT_EQ(finished.cumulative_logprob, same.cumulative_logprob);
    EXPECT_EQ(finished.prompt_tokens, same.prompt_tokens);
    EXPECT_EQ(finished.reused_tokens + finished.timings.prefill_tokens, finished.prompt_tokens);
    EXPECT_LE(finished.timings.prefill_tokens, static_cast<int64_t>(own) + 1);
    if (!turn.output.prompt_logprobs) return;
    ASSERT_EQ(actual.prompt_logprobs.size(), own == 0 ? 0 : own - 1);
    const size_t skipped = expected->prompt_logprobs.size() - actual.prompt_logprobs.size();
    for (size_t i = 0; i < actual.prompt_logprobs.size(); ++i) {
      EXPECT_EQ(actual.prompt_logprobs[i].logprob, expected->prompt_logprobs[skipped + i].logprob);
    }
  }

  int64_t TokensOf(const std::string& id) {
    const absl::StatusOr<SessionInfo> info = engine_->sessions()->Get("", id);
    return info.ok() ? info->tokens : -1;
  }
  absl::Status SubmitStatus(const Request& request) {
    return engine_->Submit(request, std::make_shared<Recorder>(1)).status();
  }

  std::mt19937_64 random_{17};
  std::vector<std::unique_ptr<Backend>> backends_;  // outlive their engines
  std::vector<const SimExecutable*> executables_;
  std::unique_ptr<Engine> quiet_;
  std::unique_ptr<Engine> engine_;
};

INSTANTIATE_TEST_SUITE_P(Models, SessionsTest,
                         ::testing::Values("cpu", "reference", "sim_depth_1", "sim_depth_2"));

TEST_P(SessionsTest, ConversationsAreAsOneRequestEach) {
  constexpr int32_t kConversations = 6;
  std::vector<std::vector<int32_t>> history(kConversations);
  for (int32_t turn = 0; turn < 8; ++turn) {
    // All at once: more than there are slots, some of them batch work that is parked.
    std::vector<Request> requests;
    std::vector<std::shared_ptr<Recorder>> recorders;
    for (int32_t i = 0; i < kConversations; ++i) {
      Request request = RandomTurn(Ids(1 + Below(turn % 3 == 0 ? 40 : 4)));
      request.session = {.id = absl::StrCat("c", i), .create = turn == 0, .tokens = {}};
      if (Chance(50)) request.session.tokens = static_cast<int64_t>(history[i].size());
      requests.push_back(std::move(request));
      recorders.push_back(Send(*engine_, requests.back()));
    }
    for (int32_t i = 0; i < kConversations; ++i) {
      SCOPED_TRACE(absl::StrCat("turn ", turn, " of conversation ", i));
      const auto at = static_cast<size_t>(i);
      ExpectAsOneRequest(history[at], requests[at], *recorders[at]);
      const std::vector<int32_t>& prompt = requests[at].prompt_token_ids;
      const std::vector<int32_t>& drawn = recorders[at]->choices[0].ids;
      history[at].insert(history[at].end(), prompt.begin(), prompt.end());
      history[at].insert(history[at].end(), drawn.begin(), drawn.end());
      EXPECT_EQ(TokensOf(absl::StrCat("c", i)), static_cast<int64_t>(history[at].size()));
      EXPECT_EQ(recorders[at]->choices[0].finished.at(0).session_tokens,
                TokensOf(absl::StrCat("c", i)));
    }
  }
  EXPECT_EQ(engine_->sessions()->use().resumed, 7 * kConversations);
}

TEST_P(SessionsTest, AStopThatIsNotPartOfItLeavesNothingToGoOnFrom) {
  Request request = IdsRequest({1, 2, 3}, 5);
  for (int32_t id = 0; id < 61; ++id) request.stop.token_ids.push_back(id);
  request.session = {.id = "s", .create = true, .tokens = {}};
  ASSERT_TRUE(Send(*engine_, request)->Wait().ok());
  EXPECT_EQ(TokensOf("s"), 3);
  request.session.create = false;
  request.prompt_token_ids.clear();
  const absl::Status status = SubmitStatus(request);
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(status.ToString(), HasSubstr("token_ids.ids is empty; session 's' ended at a stop"));
  EXPECT_FALSE(engine_->sessions()->Get("", "s")->busy);
  // With it, there is.
  request.prompt_token_ids = {5};
  request.stop.include_stop = true;
  const auto shown = Send(*engine_, request);
  ASSERT_TRUE(shown->Wait().ok());
  EXPECT_EQ(TokensOf("s"), 5);
  request.prompt_token_ids.clear();
  const auto recorder = Send(*engine_, request);
  ExpectAsOneRequest({1, 2, 3, 5, shown->choices[0].ids.at(0)}, request, *recorder);
}

TEST_P(SessionsTest, WhatFailsLeavesTheSessionAsItWas) {
  std::vector<int32_t> history;
  for (int32_t turn = 0; turn < 6; ++turn) {
    Request request = RandomTurn(Ids(5));
    request.session = {.id = "s", .create = turn == 0, .tokens = {}};
    Request endless = IdsRequest(Ids(3), 1'000'000);
    endless.session = request.session;
    const auto cut = std::make_shared<Recorder>(1);
    if (turn % 2 == 0) {
      endless.deadline = Clock::now() + std::chrono::milliseconds(20);
      const auto id = engine_->Submit(endless, cut);
      ASSERT_TRUE(id.ok() || absl::IsDeadlineExceeded(id.status())) << id.status();
      if (id.ok()) {
        EXPECT_TRUE(absl::IsDeadlineExceeded(cut->Wait()));
      }
    } else {
      const auto id = engine_->Submit(endless, cut);
      ASSERT_TRUE(id.ok()) << id.status();
      EXPECT_TRUE(absl::IsAborted(SubmitStatus(request)));
      engine_->Cancel(*id, absl::CancelledError("gone"));
      EXPECT_TRUE(absl::IsCancelled(cut->Wait()));
    }
    EXPECT_EQ(TokensOf("s"), turn == 0 ? -1 : static_cast<int64_t>(history.size()));
    const auto recorder = Send(*engine_, request);
    ExpectAsOneRequest(history, request, *recorder);
    const std::vector<int32_t>& drawn = recorder->choices[0].ids;
    history.insert(history.end(), request.prompt_token_ids.begin(), request.prompt_token_ids.end());
    history.insert(history.end(), drawn.begin(), drawn.end());
  }
}

TEST_P(SessionsTest, ForksGoTheirOwnWays) {
  Request request = IdsRequest(Ids(20), 10);
  request.session = {.id = "trunk", .create = true, .tokens = {}};
  const auto first = Send(*engine_, request);
  ASSERT_TRUE(first->Wait().ok());
  std::vector<int32_t> history = request.prompt_token_ids;
  history.insert(history.end(), first->choices[0].ids.begin(), first->choices[0].ids.end());
  std::vector<Request> requests;
  std::vector<std::shared_ptr<Recorder>> recorders;
  for (int32_t i = 0; i < 4; ++i) {
    const std::string id = absl::StrCat("branch", i);
    ASSERT_TRUE(engine_->sessions()->Fork("", "trunk", id).ok());
    Request turn = RandomTurn(Ids(4));
    turn.session.id = id;
    requests.push_back(turn);
  }
  for (const Request& turn : requests) recorders.push_back(Send(*engine_, turn));
  for (size_t i = 0; i < requests.size(); ++i) {
    ExpectAsOneRequest(history, requests[i], *recorders[i]);
  }
}

TEST_P(SessionsTest, RefusalsNameTheirReason) {
  Request request = IdsRequest({1, 2}, 3);
  request.session.id = "s";
  EXPECT_TRUE(absl::IsNotFound(SubmitStatus(request)));
  request.session.create = true;
  request.n = request.best_of = 2;
  EXPECT_THAT(SubmitStatus(request).ToString(), HasSubstr("n is 2; expected 1 with state.session"));
  request.n = 1;
  EXPECT_THAT(SubmitStatus(request).ToString(), HasSubstr("best_of is 2; expected 1"));
  request.best_of = 1;
  // What is refused for another reason makes no session and no room for one.
  request.sampling.top_p = 2;
  EXPECT_TRUE(absl::IsInvalidArgument(SubmitStatus(request)));
  EXPECT_EQ(engine_->sessions()->use().created, 0);
  request.sampling.top_p = 1;
  ASSERT_TRUE(Send(*engine_, request)->Wait().ok());
  EXPECT_TRUE(absl::IsAlreadyExists(SubmitStatus(request)));
  request.tenant = "another";
  request.session.create = false;
  EXPECT_TRUE(absl::IsNotFound(SubmitStatus(request)));
}

TEST_P(SessionsTest, DrainAndExitWithSessionsInUse) {
  for (const char* id : {"a", "b", "c", "d"}) {
    Request request = IdsRequest({1, 2}, 1'000'000);
    request.session = {.id = id, .create = true, .tokens = {}};
    Send(*engine_, request);
  }
  EXPECT_FALSE(engine_->Drain(std::chrono::milliseconds(20)));
  EXPECT_EQ(engine_->sessions()->use().sessions, 0);
}

// Where every token is fed by itself, calls and one request feed alike: bit for bit on a GPU too.
class GoingOnTest : public SessionsTest {};

std::vector<std::string> AllModels() {
  std::vector<std::string> names = {"cpu", "reference", "sim_depth_1", "sim_depth_2"};
#ifdef BASED_WITH_CUDA
  names.push_back("cuda");
#endif
  return names;
}

INSTANTIATE_TEST_SUITE_P(Models, GoingOnTest, ::testing::ValuesIn(AllModels()));

// The cut of a generation into calls does not show: same seed, empty prompts.
TEST_P(GoingOnTest, AGenerationGoesOnFromItsLastToken) {
  const std::vector<int32_t> prompt = Ids(9);
  const auto whole = Send(*quiet_, IdsRequest(prompt, 40));
  ASSERT_TRUE(whole->Wait().ok());
  std::vector<int32_t> drawn;
  for (const int64_t part : {1, 2, 17, 1, 19}) {
    Request request = IdsRequest(drawn.empty() ? prompt : std::vector<int32_t>(), part);
    request.session = {.id = "s", .create = drawn.empty(), .tokens = {}};
    const auto recorder = Send(*engine_, request);
    ASSERT_TRUE(recorder->Wait().ok());
    EXPECT_EQ(recorder->started.prompt_tokens, static_cast<int64_t>(9 + drawn.size()));
    EXPECT_EQ(recorder->started.reused_tokens,
              drawn.empty() ? 0 : static_cast<int64_t>(9 + drawn.size()) - 1);
    const std::vector<int32_t>& ids = recorder->choices[0].ids;
    drawn.insert(drawn.end(), ids.begin(), ids.end());
  }
  EXPECT_EQ(drawn, whole->choices[0].ids);
}

// Stops come at any phase of the state; with two steps in flight it is stepped back over the one
// that went on.
TEST_P(GoingOnTest, AStopThatIsPartOfItIsNoCut) {
  for (int32_t round = 0; round < 6; ++round) {
    const std::string id = absl::StrCat("s", round);
    const std::vector<int32_t> prompt = Ids(3 + round);
    const auto whole = Send(*quiet_, IdsRequest(prompt, 120));
    ASSERT_TRUE(whole->Wait().ok());
    const std::vector<int32_t>& expected = whole->choices[0].ids;
    const auto neighbour = Send(*engine_, IdsRequest(Ids(5), 300));
    std::vector<int32_t> drawn;
    while (drawn.size() < expected.size()) {
      Request request = IdsRequest(drawn.empty() ? prompt : std::vector<int32_t>(),
                                   static_cast<int64_t>(expected.size() - drawn.size()));
      request.stop.token_ids = Ids(6);
      request.stop.strings = {"q", "lo", "c"};
      request.stop.include_stop = true;
      request.session = {.id = id, .create = drawn.empty(), .tokens = {}};
      const auto recorder = Send(*engine_, request);
      ASSERT_TRUE(recorder->Wait().ok());
      const std::vector<int32_t>& ids = recorder->choices[0].ids;
      drawn.insert(drawn.end(), ids.begin(), ids.end());
      ASSERT_EQ(drawn,
                std::vector<int32_t>(expected.begin(),
                                     expected.begin() + static_cast<ptrdiff_t>(drawn.size())));
    }
    ASSERT_TRUE(neighbour->Wait().ok());
  }
}

}  // namespace
}  // namespace based
