// Random sets of options on a simulated model and on a small real one on every backend: never an
// id that is not allowed, the right reason for the end, counts that add up. Forks and scores of the
// real one.
#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "engine/engine.h"
#include "gtest/gtest.h"
#include "tests/engine/completion_recorder.h"
#include "tests/engine/test_backend.h"
#include "tests/sim/sim_executable.h"

namespace based {
namespace {

constexpr int32_t kSlots = 4;

std::vector<std::string> AllModels() {
  std::vector<std::string> names = FastBackends();
  names.insert(names.end(), {"sim_depth_1", "sim_depth_2"});
  return names;
}

class CompletionBackendsTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto model = std::make_unique<Model>();
    if (IsSimulated()) {
      model->config.vocab_size = 97;
      model->config.eos_token_id = 11;
      model->executable = std::make_unique<SimExecutable>(
          SimModel{.pipeline_depth = absl::EndsWith(GetParam(), "1") ? 1 : 2});
    } else {
      auto backend = TestBackend(GetParam());
      if (absl::IsUnavailable(backend.status())) GTEST_SKIP() << backend.status();
      ASSERT_TRUE(backend.ok()) << backend.status();
      backend_ = *std::move(backend);
      auto loaded = LoadModel({.model_dir = BASED_SOURCE_DIR "/tests/golden/tiny-a"}, *backend_);
      ASSERT_TRUE(loaded.ok()) << loaded.status();
      model = *std::move(loaded);
    }
    vocab_ = model->config.vocab_size;
    model->tokenizer = std::make_unique<LetterTokenizer>(vocab_);
    auto engine = Engine::Create(std::move(model), {.slots = kSlots}, nullptr);
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
  }

  bool IsSimulated() const { return absl::StartsWith(GetParam(), "sim"); }
  bool Chance(uint64_t percent) { return random_() % 100 < percent; }
  float Number(double low, double high) {
    return static_cast<float>(std::uniform_real_distribution<double>(low, high)(random_));
  }

  std::vector<int32_t> Prompt(size_t length) {
    std::vector<int32_t> ids(length);
    for (int32_t& id : ids) id = static_cast<int32_t>(random_() % static_cast<uint64_t>(vocab_));
    return ids;
  }

  std::shared_ptr<Recorder> Run(const Request& request) {
    auto sink = std::make_shared<Recorder>(request.n);
    const auto id = engine_->Submit(request, sink);
    EXPECT_TRUE(id.ok()) << id.status();
    if (id.ok()) {
      const absl::Status status = sink->Wait();
      EXPECT_TRUE(status.ok()) << status;
    }
    return sink;
  }

  Request RandomRequest();
  void ExpectPromises(const Request& r, const Recorder& sink);
  void ExpectLogprobs(const Request& r, const std::vector<TokenLogprob>& logprobs);
  void ExpectAllowed(const Request& r, const std::vector<int32_t>& ids);
  void ExpectReason(const Request& r, const Recorder::Choice& choice);

  std::mt19937_64 random_{20};
  int32_t vocab_ = 0;
  std::unique_ptr<Backend> backend_;  // outlives the engine
  std::unique_ptr<Engine> engine_;
};

Request CompletionBackendsTest::RandomRequest() {
  Request r = IdsRequest(Prompt(1 + random_() % 9), 1 + static_cast<int64_t>(random_() % 20));
  r.sampling.seed = random_();
  r.stop.ignore_eos = Chance(50);
  r.n = 1 + static_cast<int32_t>(random_() % 3);
  r.best_of = Chance(30) ? kSlots : r.n;
  if (Chance(40)) r.stop.min_tokens = static_cast<int64_t>(random_() % 20) % r.stop.max_tokens;
  if (Chance(30)) r.stop.token_ids = {12, 13, 14, 15, 16};
  if (Chance(30)) r.stop.strings = {"q", "ab"};
  r.stop.include_stop = Chance(50);
  SamplingParams& s = r.sampling;
  s.temperature = Chance(20) ? 0.0f : Number(0.2, 3);
  if (Chance(30)) s.top_k = 1 + static_cast<int32_t>(random_() % 30);
  if (Chance(30)) s.top_p = Number(0.3, 1);
  if (Chance(30)) s.min_p = Number(0, 0.3);
  if (Chance(30)) s.typical_p = Number(0.2, 1);
  if (Chance(30)) s.repetition_penalty = Number(0.7, 2);
  if (Chance(30)) s.presence_penalty = Number(-2, 2);
  if (Chance(30)) s.frequency_penalty = Number(-1, 2);
  if (Chance(30)) s.logit_bias = {{5, Number(-9, 9)}, {12, 3.0f}, {17, -100.0f}};
  if (Chance(30)) s.bad_words = {"c", "de"};
  // The simulated model knows bans alone.
  if (!IsSimulated() && Chance(30)) s.allowed_token_ids = {2, 3, 4, 7, 12, 16, 17, 20, 40, 41, 59};
  r.output.logprobs = Chance(40);
  r.output.prompt_logprobs = Chance(20);
  const bool scored = r.output.logprobs || r.output.prompt_logprobs;
  if (scored) r.output.top_logprobs = static_cast<int32_t>(random_() % 21);
  r.output.tokens_per_message = static_cast<int32_t>(random_() % 4);
  return r;
}

void CompletionBackendsTest::ExpectLogprobs(const Request& r,
                                            const std::vector<TokenLogprob>& logprobs) {
  const auto top = static_cast<size_t>(r.output.top_logprobs);
  for (const TokenLogprob& l : logprobs) {
    ASSERT_EQ(l.alternatives.size(), top);
    if (IsSimulated()) continue;
    EXPECT_LT(l.logprob, 0);
    EXPECT_GT(l.logprob, -100);
    if (top > 0) {
      EXPECT_LE(l.logprob, l.alternatives[0].logprob);
    }
    std::set<int32_t> ids;
    for (size_t i = 0; i < top; ++i) {
      EXPECT_TRUE(ids.insert(l.alternatives[i].id).second);
      EXPECT_TRUE(i == 0 || l.alternatives[i].logprob <= l.alternatives[i - 1].logprob);
      if (l.alternatives[i].id == l.token_id) {
        EXPECT_EQ(l.alternatives[i].logprob, l.logprob);
      }
    }
  }
}

void CompletionBackendsTest::ExpectAllowed(const Request& r, const std::vector<int32_t>& ids) {
  const std::vector<int32_t>& allowed = r.sampling.allowed_token_ids;
  for (size_t i = 0; i < ids.size(); ++i) {
    EXPECT_TRUE(ids[i] >= 0 && ids[i] < vocab_);
    EXPECT_TRUE(allowed.empty() ||
                std::find(allowed.begin(), allowed.end(), ids[i]) != allowed.end());
    if (r.sampling.bad_words.empty()) continue;
    EXPECT_NE(ids[i], 2);
    EXPECT_FALSE(i > 0 && ids[i - 1] == 3 && ids[i] == 4);
  }
}

// The completion ended for its reason, and not before.
void CompletionBackendsTest::ExpectReason(const Request& r, const Recorder::Choice& choice) {
  const Finished& done = choice.finished[0];
  const std::vector<int32_t>& ids = choice.ids;
  const int32_t eos = engine_->model().config.eos_token_id;
  const bool at_eos = done.reason == FinishReason::kEndOfText;
  const bool at_id = done.reason == FinishReason::kStopToken;
  const auto stops_at = [&](int32_t id) {
    return std::find(r.stop.token_ids.begin(), r.stop.token_ids.end(), id) !=
           r.stop.token_ids.end();
  };
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!stops_at(ids[i]) && (r.stop.ignore_eos || ids[i] != eos)) continue;
    EXPECT_TRUE(i + 1 == ids.size() && r.stop.include_stop && (at_eos || at_id)) << i;
  }
  if (at_id) {
    EXPECT_TRUE(stops_at(done.stop_token_id)) << done.stop_token_id;
  } else {
    EXPECT_EQ(done.stop_token_id, at_eos ? eos : -1);
  }
  if ((at_eos || at_id) && r.stop.include_stop) {
    EXPECT_EQ(ids.back(), done.stop_token_id);
  }
  std::string before = choice.text;
  if (done.reason == FinishReason::kStopString) {
    EXPECT_TRUE(std::find(r.stop.strings.begin(), r.stop.strings.end(), done.stop_string) !=
                r.stop.strings.end())
        << done.stop_string;
    if (r.stop.include_stop) {
      ASSERT_TRUE(before.ends_with(done.stop_string)) << before;
      before.resize(before.size() - done.stop_string.size());
    }
  } else {
    EXPECT_EQ(done.stop_string, "");
  }
  // Stops are looked for after min_tokens alone; a token is a letter.
  before.erase(0, std::min(before.size(), static_cast<size_t>(r.stop.min_tokens)));
  for (const std::string& stop : r.stop.strings) {
    EXPECT_EQ(before.find(stop), std::string::npos) << before << " holds " << stop;
  }
}

void CompletionBackendsTest::ExpectPromises(const Request& r, const Recorder& sink) {
  const auto prompt = static_cast<int64_t>(r.prompt_token_ids.size());
  EXPECT_EQ(sink.started.prompt_tokens, prompt);
  EXPECT_EQ(static_cast<int64_t>(sink.prompt_logprobs.size()),
            r.output.prompt_logprobs ? prompt - 1 : 0);
  ExpectLogprobs(r, sink.prompt_logprobs);
  for (const Recorder::Choice& choice : sink.choices) {
    ASSERT_EQ(choice.finished.size(), 1u);
    const Finished& done = choice.finished[0];
    const auto shown = static_cast<int64_t>(choice.ids.size());
    const bool hidden = !r.stop.include_stop && (done.reason == FinishReason::kStopToken ||
                                                 done.reason == FinishReason::kEndOfText);
    EXPECT_EQ(shown + (hidden ? 1 : 0), done.generated_tokens);
    EXPECT_EQ(done.prompt_tokens, prompt);
    EXPECT_EQ(r.output.logprobs ? shown : 0, static_cast<int64_t>(choice.logprobs.size()));
    ExpectLogprobs(r, choice.logprobs);
    EXPECT_LE(done.generated_tokens, r.stop.max_tokens);
    if (done.reason == FinishReason::kMaxTokens) {
      EXPECT_EQ(done.generated_tokens, r.stop.max_tokens);
    } else {
      EXPECT_GT(done.generated_tokens, r.stop.min_tokens);
    }
    if (r.stop.ignore_eos) {
      EXPECT_NE(done.reason, FinishReason::kEndOfText);
    }
    EXPECT_EQ(done.timings.decode_tokens, done.generated_tokens - 1);
    EXPECT_EQ(done.timings.prefill_tokens, prompt);
    ExpectAllowed(r, choice.ids);
    ExpectReason(r, choice);
  }
}

TEST_P(CompletionBackendsTest, RandomOptionsKeepTheirPromises) {
  for (int trial = 0; trial < 300; ++trial) {
    SCOPED_TRACE(trial);
    const Request request = RandomRequest();
    ExpectPromises(request, *Run(request));
    if (HasFailure()) return;
  }
}

// Requests at once, so that rows with rules and without share steps.
TEST_P(CompletionBackendsTest, RandomOptionsKeepTheirPromisesTogether) {
  for (int round = 0; round < 10; ++round) {
    std::vector<Request> requests;
    std::vector<std::shared_ptr<Recorder>> sinks;
    for (int i = 0; i < 12; ++i) {
      requests.push_back(RandomRequest());
      sinks.push_back(std::make_shared<Recorder>(requests.back().n));
      ASSERT_TRUE(engine_->Submit(requests.back(), sinks.back()).ok());
    }
    for (size_t i = 0; i < sinks.size(); ++i) {
      ASSERT_TRUE(sinks[i]->Wait().ok());
      ExpectPromises(requests[i], *sinks[i]);
    }
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, CompletionBackendsTest, ::testing::ValuesIn(AllModels()),
                         [](const auto& test) { return test.param; });

class CompletionModelTest : public CompletionBackendsTest {};

TEST_P(CompletionModelTest, CompletionsAreThoseOfRequestsWithTheirSeeds) {
  Request request = IdsRequest(Prompt(37), 24);
  request.sampling.temperature = 1.5f;
  request.sampling.typical_p = 0.9f;
  request.sampling.repetition_penalty = 1.2f;
  request.n = request.best_of = kSlots;
  const auto together = Run(request);
  request.n = request.best_of = 1;
  std::set<std::vector<int32_t>> distinct;
  for (size_t i = 0; i < static_cast<size_t>(kSlots); ++i) {
    request.sampling.seed = 7 + i;
    EXPECT_EQ(together->choices[i].ids, Run(request)->choices[0].ids) << i;
    distinct.insert(together->choices[i].ids);
  }
  EXPECT_EQ(distinct.size(), static_cast<size_t>(kSlots));
}

// A continuation that is scored, and the same ids as the end of a prompt.
TEST_P(CompletionModelTest, ScoresAreTheLogprobsOfThePrompt) {
  const std::vector<int32_t> ids = Prompt(300);
  Request request = IdsRequest(ids, 1);
  request.output.prompt_logprobs = true;
  request.output.top_logprobs = 1;
  const auto generated = Run(request);
  request = IdsRequest({ids.begin(), ids.begin() + 120}, 1);
  request.continuations = {{.ids = {ids.begin() + 120, ids.end()}}};
  const auto scored = Run(request);
  ASSERT_EQ(generated->prompt_logprobs.size(), 299u);
  ASSERT_EQ(scored->prompt_logprobs.size(), 180u);
  for (size_t i = 0; i < 180; ++i) {
    const TokenLogprob& score = scored->prompt_logprobs[i];
    const TokenLogprob& other = generated->prompt_logprobs[i + 119];
    EXPECT_EQ(score.token_id, ids[i + 120]);
    EXPECT_EQ(other.token_id, score.token_id);
    EXPECT_NEAR(score.logprob, other.logprob, 1e-4);
    ASSERT_EQ(other.alternatives.size(), 1u);
    EXPECT_EQ(score.most_likely, other.alternatives[0].id == score.token_id);
  }
  EXPECT_EQ(scored->choices[0].finished[0].generated_tokens, 0);
}

INSTANTIATE_TEST_SUITE_P(Backends, CompletionModelTest, ::testing::ValuesIn(FastBackends()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace based
