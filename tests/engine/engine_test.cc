// The engine's threads over a simulated model: every ending, the queue's bound, drain and faults.
#include "engine/engine.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/refusal.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/collecting_sink.h"
#include "tests/sim/sim_executable.h"

namespace based {
namespace {

using ::testing::HasSubstr;

constexpr int32_t kVocab = 97;

// Id i is the one byte 'a' + i % 26; ids 90 and above are the two halves of "é" in turn.
class LetterTokenizer final : public Tokenizer {
 public:
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text) const override {
    std::vector<int32_t> ids;
    for (const char c : text) ids.push_back((c - 'a' + 26) % 26);
    return ids;
  }
  std::string_view Bytes(int32_t id, bool) const override {
    static constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz";
    static constexpr std::string_view kHalves = "\xc3\xa9";
    if (id >= 90) return kHalves.substr(static_cast<size_t>(id % 2), 1);
    return kLetters.substr(static_cast<size_t>(id % 26), 1);
  }
  int32_t size() const override { return kVocab; }
};

struct EngineSetup {
  EngineOptions options{.slots = 4};
  SimModel sim;
  bool tokenizer = true;
  int32_t bos = 5;
  int32_t eos = -1;
  int64_t fail_at = -1;
};

std::unique_ptr<Engine> MakeEngine(const EngineSetup& setup) {
  auto model = std::make_unique<Model>();
  model->name = "sim";
  model->config.vocab_size = kVocab;
  model->config.bos_token_id = setup.bos;
  model->config.eos_token_id = setup.eos;
  auto executable = std::make_unique<SimExecutable>(setup.sim);
  executable->FailAt(setup.fail_at);
  model->executable = std::move(executable);
  if (setup.tokenizer) model->tokenizer = std::make_unique<LetterTokenizer>();
  auto engine = Engine::Create(std::move(model), setup.options, nullptr);
  EXPECT_TRUE(engine.ok()) << engine.status();
  return *std::move(engine);
}

Request IdsRequest(std::vector<int32_t> ids, int64_t max_tokens) {
  Request request;
  request.prompt_is_text = false;
  request.prompt_token_ids = std::move(ids);
  request.stop.max_tokens = max_tokens;
  request.sampling.seed = 7;
  request.output = {.text = false, .token_ids = true};
  return request;
}

std::vector<int32_t> Alone(const std::vector<int32_t>& prompt, int64_t count) {
  uint64_t state = kSimEmptyState;
  for (const int32_t token : prompt) state = SimState(state, token);
  std::vector<int32_t> ids;
  SampleParams params{.seed = 7};
  for (int64_t i = 0; i < count; ++i) {
    params.position = static_cast<int64_t>(prompt.size()) + i;
    ids.push_back(SimDraw(SimModel(), state, params));
    state = SimState(state, ids.back());
  }
  return ids;
}

void ExpectSlotsFree(const Engine& engine) {
  for (int i = 0; i < 2000 && engine.capacity().slots_active > 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(engine.capacity().slots_active, 0);
  EXPECT_EQ(engine.capacity().slots_free, engine.capacity().slots_total);
}

class EngineTest : public ::testing::TestWithParam<int32_t> {
 protected:
  EngineSetup Base() const {
    EngineSetup setup;
    setup.sim.pipeline_depth = GetParam();
    return setup;
  }
};

INSTANTIATE_TEST_SUITE_P(PipelineDepth, EngineTest, ::testing::Values(1, 2));

TEST_P(EngineTest, ManyRequestsGetTheTokensTheyWouldGetAlone) {
  const auto engine = MakeEngine(Base());
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (int32_t i = 0; i < 50; ++i) {
    sinks.push_back(std::make_shared<CollectingSink>());
    ASSERT_TRUE(engine->Submit(IdsRequest({i, i + 1, 3}, 1 + i), sinks.back()).ok());
  }
  for (int32_t i = 0; i < 50; ++i) {
    CollectingSink& sink = *sinks[static_cast<size_t>(i)];
    ASSERT_TRUE(sink.WaitForEnd());
    EXPECT_EQ(sink.token_ids(), Alone({i, i + 1, 3}, 1 + i));
    ASSERT_TRUE(sink.finished().has_value());
    EXPECT_EQ(sink.finished()->reason, FinishReason::kMaxTokens);
    EXPECT_EQ(sink.finished()->generated_tokens, 1 + i);
    EXPECT_EQ(sink.finished()->prompt_tokens, 3);
    EXPECT_EQ(sink.started()->seed, 7u);
    EXPECT_EQ(sink.endings(), 1);
  }
  ExpectSlotsFree(*engine);
}

TEST_P(EngineTest, TextIsValidUtf8AndStopsBeforeTheStopString) {
  const auto engine = MakeEngine(Base());
  Request request = IdsRequest({1, 2}, 200);
  request.output = {.text = true};
  auto whole = std::make_shared<CollectingSink>();
  ASSERT_TRUE(engine->Submit(request, whole).ok());
  ASSERT_TRUE(whole->WaitForEnd());
  EXPECT_EQ(FindInvalidUtf8(whole->text()), std::string::npos);
  const std::string stop = whole->text().substr(40, 3);
  request.stop.strings = {stop};
  auto cut = std::make_shared<CollectingSink>();
  ASSERT_TRUE(engine->Submit(request, cut).ok());
  ASSERT_TRUE(cut->WaitForEnd());
  ASSERT_TRUE(cut->finished().has_value());
  EXPECT_EQ(cut->finished()->reason, FinishReason::kStopString);
  EXPECT_EQ(cut->finished()->stop_string, stop);
  EXPECT_EQ(cut->text(), whole->text().substr(0, whole->text().find(stop)));
  EXPECT_LT(cut->finished()->generated_tokens, 200);
  ExpectSlotsFree(*engine);
}

TEST_P(EngineTest, EndOfTextAndStopIdsEndTheOutputUnseen) {
  const std::vector<int32_t> alone = Alone({9}, 30);
  EngineSetup setup = Base();
  setup.eos = alone[12];
  const auto first =
      static_cast<size_t>(std::find(alone.begin(), alone.end(), setup.eos) - alone.begin());
  const auto engine = MakeEngine(setup);
  auto ended = std::make_shared<CollectingSink>();
  ASSERT_TRUE(engine->Submit(IdsRequest({9}, 30), ended).ok());
  Request ignoring = IdsRequest({9}, 30);
  ignoring.stop.ignore_eos = true;
  auto whole = std::make_shared<CollectingSink>();
  ASSERT_TRUE(engine->Submit(ignoring, whole).ok());
  Request stopping = ignoring;
  stopping.stop.token_ids = {setup.eos};
  auto stopped = std::make_shared<CollectingSink>();
  ASSERT_TRUE(engine->Submit(stopping, stopped).ok());
  for (const auto& sink : {ended, whole, stopped}) ASSERT_TRUE(sink->WaitForEnd());
  const std::vector<int32_t> before(alone.begin(), alone.begin() + static_cast<int64_t>(first));
  EXPECT_EQ(ended->token_ids(), before);
  EXPECT_EQ(ended->finished()->reason, FinishReason::kEndOfText);
  EXPECT_EQ(ended->finished()->generated_tokens, static_cast<int64_t>(first) + 1);
  EXPECT_EQ(stopped->token_ids(), before);
  EXPECT_EQ(stopped->finished()->reason, FinishReason::kStopToken);
  EXPECT_EQ(stopped->finished()->stop_token_id, setup.eos);
  EXPECT_EQ(whole->token_ids(), alone);
}

TEST_P(EngineTest, CancelDeadlineAndSlowReaderEachEndOnceAndFreeTheSlot) {
  const auto engine = MakeEngine(Base());
  auto cancelled = std::make_shared<CollectingSink>();
  const auto id = engine->Submit(IdsRequest({1}, 1'000'000), cancelled);
  ASSERT_TRUE(id.ok());
  Request hurried = IdsRequest({2}, 1'000'000);
  hurried.deadline = Clock::now() + std::chrono::milliseconds(20);
  auto late = std::make_shared<CollectingSink>();
  ASSERT_TRUE(engine->Submit(hurried, late).ok());
  auto slow = std::make_shared<CollectingSink>(/*capacity=*/10);
  ASSERT_TRUE(engine->Submit(IdsRequest({3}, 1'000'000), slow).ok());
  ASSERT_TRUE(cancelled->WaitForDeltas(5));
  engine->Cancel(*id, absl::CancelledError("client gone"));
  engine->Cancel(*id, absl::CancelledError("client gone"));
  for (const auto& sink : {cancelled, late, slow}) ASSERT_TRUE(sink->WaitForEnd());
  EXPECT_EQ(cancelled->error().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(late->error().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(slow->error().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(slow->token_ids().size(), 10u);
  ExpectSlotsFree(*engine);
  for (const auto& sink : {cancelled, late, slow}) EXPECT_EQ(sink->endings(), 1);
}

TEST_P(EngineTest, AFullQueueRefusesAtOnceAndKeepsWhatItTook) {
  EngineSetup setup = Base();
  setup.options = {.slots = 1, .max_queue = 3};
  const auto engine = MakeEngine(setup);
  auto holder = std::make_shared<CollectingSink>();
  const auto holder_id = engine->Submit(IdsRequest({1}, 1'000'000), holder);
  ASSERT_TRUE(holder->WaitForDeltas(1));
  std::vector<std::shared_ptr<CollectingSink>> taken;
  absl::Status refused;
  for (int i = 0; i < 4; ++i) {
    auto sink = std::make_shared<CollectingSink>();
    const auto id = engine->Submit(IdsRequest({2}, 4), sink);
    if (id.ok()) {
      taken.push_back(sink);
    } else {
      refused = id.status();
      EXPECT_EQ(sink->endings(), 0);
    }
  }
  EXPECT_EQ(taken.size(), 3u);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  engine->Cancel(*holder_id, absl::CancelledError("done"));
  for (const auto& sink : taken) {
    ASSERT_TRUE(sink->WaitForEnd());
    EXPECT_EQ(sink->token_ids(), Alone({2}, 4));
  }
}

TEST_P(EngineTest, DrainFinishesWhatFitsAndCutsTheRest) {
  const auto engine = MakeEngine(Base());
  auto brief = std::make_shared<CollectingSink>();
  ASSERT_TRUE(engine->Submit(IdsRequest({1}, 10), brief).ok());
  EXPECT_TRUE(engine->Drain(std::chrono::minutes(1)));
  EXPECT_TRUE(brief->finished().has_value());
  const auto refused = engine->Submit(IdsRequest({1}, 10), std::make_shared<CollectingSink>());
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kUnavailable);

  const auto second = MakeEngine(Base());
  auto endless = std::make_shared<CollectingSink>();
  ASSERT_TRUE(second->Submit(IdsRequest({1}, 1'000'000), endless).ok());
  ASSERT_TRUE(endless->WaitForDeltas(1));
  EXPECT_FALSE(second->Drain(std::chrono::milliseconds(10)));
  EXPECT_EQ(endless->error().code(), absl::StatusCode::kUnavailable);
}

TEST_P(EngineTest, ADeviceFaultEndsEverythingWithUnavailable) {
  EngineSetup setup = Base();
  setup.fail_at = 20;
  const auto engine = MakeEngine(setup);
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (int32_t i = 0; i < 8; ++i) {
    auto sink = std::make_shared<CollectingSink>();
    const auto id = engine->Submit(IdsRequest({i}, 1'000'000), sink);
    // The device may fail before all are submitted; those are refused the same way.
    if (id.ok()) {
      sinks.push_back(sink);
    } else {
      EXPECT_EQ(id.status().code(), absl::StatusCode::kUnavailable);
    }
  }
  ASSERT_FALSE(sinks.empty());
  for (const auto& sink : sinks) {
    ASSERT_TRUE(sink->WaitForEnd());
    EXPECT_EQ(sink->error().code(), absl::StatusCode::kUnavailable);
  }
  EXPECT_EQ(engine->health().code(), absl::StatusCode::kUnavailable);
  const auto refused = engine->Submit(IdsRequest({1}, 1), std::make_shared<CollectingSink>());
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kUnavailable);
  ExpectSlotsFree(*engine);
}

TEST_P(EngineTest, LogitsThatAreNotFiniteEndThatRequestAlone) {
  EngineSetup setup = Base();
  setup.sim.nonfinite_every = 40;
  const auto engine = MakeEngine(setup);
  int failed = 0;
  for (int32_t i = 0; i < 20; ++i) {
    auto sink = std::make_shared<CollectingSink>();
    ASSERT_TRUE(engine->Submit(IdsRequest({i}, 40), sink).ok());
    ASSERT_TRUE(sink->WaitForEnd());
    if (!sink->finished()) {
      ++failed;
      EXPECT_EQ(sink->error().code(), absl::StatusCode::kInternal);
      EXPECT_TRUE(IsNonFiniteLogits(sink->error()));
    }
  }
  EXPECT_GT(failed, 0);
  EXPECT_LT(failed, 20);
  EXPECT_TRUE(engine->health().ok());
}

TEST(EngineInput, AnEmptyPromptStartsFromBeginOfText) {
  const auto engine = MakeEngine(EngineSetup());
  auto sink = std::make_shared<CollectingSink>();
  ASSERT_TRUE(engine->Submit(IdsRequest({}, 6), sink).ok());
  ASSERT_TRUE(sink->WaitForEnd());
  EXPECT_EQ(sink->token_ids(), Alone({5}, 6));
}

TEST(EngineInput, EveryBadFieldIsNamedWithItsValueAndLimit) {
  const auto engine = MakeEngine(EngineSetup());
  struct Case {
    std::string expected;
    std::function<void(Request&)> spoil;
  };
  const float nan = std::nanf("");
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<Case> cases = {
      {"sampling.temperature is nan; expected a number in [0, 100]",
       [=](Request& r) { r.sampling.temperature = nan; }},
      {"sampling.temperature is -1;", [](Request& r) { r.sampling.temperature = -1; }},
      {"sampling.temperature is inf;", [=](Request& r) { r.sampling.temperature = infinity; }},
      {"sampling.top_k is -3; expected 0", [](Request& r) { r.sampling.top_k = -3; }},
      {"sampling.top_p is 0; expected a number in (0, 1]",
       [](Request& r) { r.sampling.top_p = 0; }},
      {"sampling.top_p is nan", [=](Request& r) { r.sampling.top_p = nan; }},
      {"sampling.min_p is 1.5; expected a number in [0, 1]",
       [](Request& r) { r.sampling.min_p = 1.5f; }},
      {"stop.max_tokens is 0; expected a number in [1, 1000000]",
       [](Request& r) { r.stop.max_tokens = 0; }},
      {"stop.max_tokens is 1000001;", [](Request& r) { r.stop.max_tokens = 1'000'001; }},
      {"stop.strings is 17 strings long; expected at most 16",
       [](Request& r) { r.stop.strings.assign(17, "x"); }},
      {"stop.strings[1] is 0 bytes long; expected 1 to 256 bytes",
       [](Request& r) {
         r.stop.strings = {"x", ""};
       }},
      {"stop.strings[0] is 257 bytes long;",
       [](Request& r) { r.stop.strings = {std::string(257, 'x')}; }},
      {"stop.strings[0] is not UTF-8 at byte 1;", [](Request& r) { r.stop.strings = {"a\xff"}; }},
      {"stop.token_ids[0] is 97; expected a token id in [0, 97)",
       [](Request& r) { r.stop.token_ids = {97}; }},
      {"token_ids.ids[1] is -1; expected a token id in [0, 97)",
       [](Request& r) {
         r.prompt_token_ids = {1, -1};
       }},
      {"token_ids.ids is 1000001 tokens long; expected at most 1000000",
       [](Request& r) { r.prompt_token_ids.assign(1'000'001, 1); }},
      {"text is not UTF-8 at byte 2; expected UTF-8 text",
       [](Request& r) { r.prompt_is_text = true, r.prompt_text = "ab\xc3"; }},
  };
  for (const Case& c : cases) {
    Request request = IdsRequest({1}, 5);
    c.spoil(request);
    auto sink = std::make_shared<CollectingSink>();
    const auto id = engine->Submit(request, sink);
    EXPECT_EQ(id.status().code(), absl::StatusCode::kInvalidArgument) << c.expected;
    EXPECT_THAT(std::string(id.status().message()), HasSubstr(c.expected));
    EXPECT_EQ(sink->endings(), 0);
  }
}

TEST(EngineInput, WithoutATokenizerTextIsAFailedPrecondition) {
  EngineSetup setup;
  setup.tokenizer = false;
  setup.bos = -1;
  const auto engine = MakeEngine(setup);
  Request text;
  text.prompt_text = "hello";
  Request output = IdsRequest({1}, 5);
  output.output.text = true;
  Request stops = IdsRequest({1}, 5);
  stops.stop.strings = {"x"};
  for (const Request& request : {text, output, stops}) {
    const auto id = engine->Submit(request, std::make_shared<CollectingSink>());
    EXPECT_EQ(id.status().code(), absl::StatusCode::kFailedPrecondition);
  }
  const auto empty = engine->Submit(IdsRequest({}, 5), std::make_shared<CollectingSink>());
  EXPECT_EQ(empty.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(empty.status().message()), HasSubstr("begin-of-text"));
}

TEST(EngineSlots, AreCountedExactlyFromTheBudget) {
  auto make = [](const EngineOptions& options) {
    auto model = std::make_unique<Model>();
    model->config.vocab_size = kVocab;
    model->executable = std::make_unique<SimExecutable>(SimModel());
    return Engine::Create(std::move(model), options, nullptr);
  };
  const int64_t slot_bytes = SimExecutable(SimModel()).info().slot_bytes;
  const auto exact = make({.memory_budget = 10 * slot_bytes});
  ASSERT_TRUE(exact.ok());
  EXPECT_EQ((*exact)->capacity().slots_total, 10);
  const auto almost = make({.memory_budget = 10 * slot_bytes - 1});
  ASSERT_TRUE(almost.ok());
  EXPECT_EQ((*almost)->capacity().slots_total, 9);
  const auto none = make({.memory_budget = slot_bytes - 1});
  EXPECT_EQ(none.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(none.status().message()), HasSubstr("not enough memory for one slot"));
  const auto too_many = make({.slots = 11, .memory_budget = 10 * slot_bytes});
  EXPECT_EQ(too_many.status().code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace based
