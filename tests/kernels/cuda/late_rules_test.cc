// Steps whose sampling rules are supplied while they run: the same draws as with the rules at
// Launch, and nothing that a caller does or leaves undone makes the device or a call hang.
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "kernels/cuda/cuda_backend.h"
#include "tests/kernels/cpu/synthetic_model.h"

namespace based {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int32_t kVocabulary = 1000;
constexpr int32_t kSlots = 6;
constexpr int32_t kSteps = 400;
// Far below the device's own limit: what took less did not wait for that.
constexpr std::chrono::seconds kAtOnce(5);
// Above what the test's rules come to.
constexpr RuleSizes kMost = {.counts = 64, .biases = 24, .banned = 24, .mask = true};

enum class Kind { kPlain, kAtLaunch, kLate, kVoid };

// What one slot does in a step.
struct Move {
  int32_t slot = 0;
  int32_t length = 1;
  bool from_host = false;  // its tokens; else the one that it drew in the step before
  Kind kind = Kind::kPlain;
  SampleRow sample;  // row and rules are filled in
};

struct OwnRules {
  SampleRules rules;
  std::vector<uint32_t> mask;
};

int32_t Token(int32_t step, int32_t slot, int32_t index) {
  std::minstd_rand random(static_cast<uint32_t>(1 + step * 1009 + slot * 101 + index));
  random.discard(3);
  return static_cast<int32_t>(random() % kVocabulary);
}

// Depends on the token before the draw: one wrong draw changes all that follow.
std::unique_ptr<OwnRules> RulesAfter(int32_t step, int32_t slot, int32_t token) {
  std::mt19937 random(static_cast<uint32_t>((step * kSlots + slot) * kVocabulary + token + 1));
  auto own = std::make_unique<OwnRules>();
  SampleRules& rules = own->rules;
  if (random() % 2 == 0) rules.repetition_penalty = 1.7f;
  if (random() % 2 == 0) rules.presence_penalty = 0.5f;
  if (random() % 2 == 0) rules.frequency_penalty = 0.2f;
  if (random() % 8 == 0) rules.typical_p = 0.8f;
  for (int32_t id = static_cast<int32_t>(random() % 40); id < kVocabulary; id += 20) {
    const auto kind = random() % 4;
    if (kind == 0) rules.counts.push_back({id, static_cast<int32_t>(random() % 3)});
    if (kind == 1 && rules.biases.size() < 24) rules.biases.push_back({id, 1.5f});
    if (kind == 2 && rules.banned.size() < 24) rules.banned.push_back(id);
  }
  if (random() % 4 == 0) {
    for (int32_t id = 0; id < kVocabulary; id += 3) rules.allowed.push_back(id);
  }
  if (random() % 4 == 0) return own;
  own->mask.resize((kVocabulary + 31) / 32);
  for (uint32_t& word : own->mask) word = static_cast<uint32_t>(random()) | 1;
  rules.mask = own->mask;
  return own;
}

// Decodes of all slots, which replay graphs, and steps of chunks and of some slots alone.
std::vector<std::vector<Move>> MakeScript() {
  std::mt19937 random(17);
  const auto chance = [&](uint32_t percent) { return random() % 100 < percent; };
  std::vector<std::vector<Move>> script(kSteps);
  std::vector<bool> has_draw(kSlots, false);
  for (int32_t step = 0; step < kSteps; ++step) {
    const bool ragged = chance(20);
    for (int32_t slot = 0; slot < kSlots; ++slot) {
      const bool had_draw = has_draw[static_cast<size_t>(slot)];
      has_draw[static_cast<size_t>(slot)] = false;
      if (ragged && slot > 0 && chance(30)) continue;
      Move move{.slot = slot, .from_host = !had_draw};
      if (ragged && chance(50)) {
        move.from_host = true;
        move.length = 2 + static_cast<int32_t>(random() % 6);
      }
      const auto kind = random() % 10;
      move.kind = kind < 2   ? Kind::kPlain
                  : kind < 4 ? Kind::kAtLaunch
                  : kind < 9 ? Kind::kLate
                             : Kind::kVoid;
      move.sample.params = {.temperature = chance(30) ? 0.0f : 0.9f,
                            .top_k = chance(30) ? 40 : 0,
                            .top_p = chance(30) ? 0.8f : 1.0f,
                            .seed = 5};
      move.sample.logprob = chance(40);
      if (chance(20)) move.sample.top_logprobs = 3;
      has_draw[static_cast<size_t>(slot)] = move.kind != Kind::kVoid;
      script[static_cast<size_t>(step)].push_back(move);
    }
  }
  return script;
}

class CudaLateRulesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto backend = NewCudaBackend({});
    if (absl::IsUnavailable(backend.status())) GTEST_SKIP() << backend.status();
    ASSERT_TRUE(backend.ok()) << backend.status();
    backend_ = *std::move(backend);
    program_ = synthetic_.program();
    program_.spare_tokens = 1;
    auto executable =
        backend_->Compile(program_, {.max_rows = 64, .max_spans = 8, .max_samples = 8});
    ASSERT_TRUE(executable.ok()) << executable.status();
    executable_ = *std::move(executable);
    ASSERT_TRUE(executable_->info().late_rules);
    ASSERT_TRUE(executable_->CreateSlots(kSlots).ok());
  }

  void Begin() {
    std::vector<int32_t> all;
    for (int32_t slot = 0; slot < kSlots; ++slot) all.push_back(slot);
    ASSERT_TRUE(executable_->ClearSlots(all).ok());
    position_.assign(kSlots, 0);
    last_.assign(kSlots, kNone);
    source_.assign(kSlots, kNone);
    kept_.clear();
  }

  // Ahead: inputs and late rules that depend on the step before are not known to the host.
  StepTable MakeTable(int32_t step, const std::vector<Move>& moves, bool ahead) {
    StepTable table;
    std::vector<int32_t> source(kSlots, kNone);
    for (const Move& move : moves) {
      const auto slot = static_cast<size_t>(move.slot);
      const auto row = static_cast<int32_t>(table.tokens.size());
      table.spans.push_back(
          {.slot = move.slot, .row = row, .length = move.length, .position = position_[slot]});
      for (int32_t i = 0; i < move.length; ++i) {
        const int32_t known = move.from_host ? Token(step, move.slot, i) : last_[slot];
        const bool taken = ahead && !move.from_host;
        table.tokens.push_back(taken ? kTokenFromPrevious : known);
        table.sources.push_back(taken ? source_[slot] : kNone);
      }
      position_[slot] += move.length;
      source[slot] = static_cast<int32_t>(table.samples.size());
      SampleRow sample = move.sample;
      sample.row = row + move.length - 1;
      sample.params.position = position_[slot];
      if (ahead && (move.kind == Kind::kLate || move.kind == Kind::kVoid)) {
        sample.late = kMost;
      } else if (move.kind == Kind::kLate || move.kind == Kind::kAtLaunch) {
        sample.rules = Keep(RulesOf(step, move));
      }
      table.samples.push_back(sample);
    }
    source_ = source;
    return table;
  }

  std::unique_ptr<OwnRules> RulesOf(int32_t step, const Move& move) const {
    const int32_t fed = move.from_host ? Token(step, move.slot, move.length - 1)
                                       : last_[static_cast<size_t>(move.slot)];
    return RulesAfter(step, move.slot, move.kind == Kind::kAtLaunch ? kNone : fed);
  }

  const SampleRules* Keep(std::unique_ptr<OwnRules> own) {
    kept_.push_back(std::move(own));
    return &kept_.back()->rules;
  }

  void Supply(int32_t step, const std::vector<Move>& moves) {
    std::vector<const SampleRules*> rules;
    for (const Move& move : moves) {
      if (move.kind == Kind::kLate) rules.push_back(Keep(RulesOf(step, move)));
      if (move.kind == Kind::kVoid) rules.push_back(nullptr);
    }
    if (step % 16 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    const absl::Status supplied = executable_->SupplyRules(rules);
    ASSERT_TRUE(supplied.ok()) << supplied;
    kept_.clear();  // they have been read
  }

  StepOutput Collect(const std::vector<Move>& moves) {
    StepOutput output;
    const absl::Status collected = executable_->Collect(output);
    EXPECT_TRUE(collected.ok()) << collected;
    EXPECT_EQ(output.ids.size(), moves.size());
    if (output.ids.size() != moves.size()) return output;
    for (size_t i = 0; i < moves.size(); ++i) {
      last_[static_cast<size_t>(moves[i].slot)] = output.ids[i];
    }
    return output;
  }

  std::vector<StepOutput> RunOneByOne(const std::vector<std::vector<Move>>& script) {
    Begin();
    std::vector<StepOutput> outputs;
    for (int32_t step = 0; step < kSteps && !HasFailure(); ++step) {
      const std::vector<Move>& moves = script[static_cast<size_t>(step)];
      EXPECT_TRUE(executable_->Launch(MakeTable(step, moves, /*ahead=*/false)).ok());
      outputs.push_back(Collect(moves));
    }
    return outputs;
  }

  std::vector<StepOutput> RunAhead(const std::vector<std::vector<Move>>& script) {
    Begin();
    std::vector<StepOutput> outputs;
    for (int32_t step = 0; step <= kSteps && !HasFailure(); ++step) {
      if (step < kSteps) {
        const std::vector<Move>& moves = script[static_cast<size_t>(step)];
        const absl::Status launched = executable_->Launch(MakeTable(step, moves, /*ahead=*/true));
        EXPECT_TRUE(launched.ok()) << launched;
      }
      if (step > 0) outputs.push_back(Collect(script[static_cast<size_t>(step - 1)]));
      if (step < kSteps) Supply(step, script[static_cast<size_t>(step)]);
    }
    return outputs;
  }

  // A step of one decode whose rules do not come.
  void LaunchLate() {
    StepTable table;
    table.tokens = {7};
    table.sources = {kNone};
    table.spans = {{.slot = 0, .row = 0, .length = 1, .position = late_launches_++}};
    table.samples = {{.row = 0, .params = {}, .late = kMost}};
    const absl::Status launched = executable_->Launch(table);
    ASSERT_TRUE(launched.ok()) << launched;
  }

  static void ExpectAtOnce(const std::function<void()>& act) {
    const Clock::time_point begin = Clock::now();
    act();
    EXPECT_LT(Clock::now() - begin, kAtOnce);
  }

  SyntheticModel synthetic_{{.layers = "clwlw",
                             .width = 256,
                             .window_left = 128,
                             .vocab = kVocabulary,
                             .padded_vocab = 1024,
                             .dtype = DType::kBF16,
                             .seed = 7}};
  Program program_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Executable> executable_;
  std::vector<int64_t> position_;
  std::vector<int32_t> last_;    // drawn by each slot
  std::vector<int32_t> source_;  // its sample in the step launched last
  std::vector<std::unique_ptr<OwnRules>> kept_;
  int64_t late_launches_ = 0;
};

TEST_F(CudaLateRulesTest, GiveTheDrawsOfRulesAtLaunch) {
  const std::vector<std::vector<Move>> script = MakeScript();
  const std::vector<StepOutput> expected = RunOneByOne(script);
  const std::vector<StepOutput> actual = RunAhead(script);
  ASSERT_EQ(expected.size(), script.size());
  ASSERT_EQ(actual.size(), script.size());
  int32_t replayed = 0;
  for (size_t step = 0; step < script.size(); ++step) {
    SCOPED_TRACE(testing::Message() << "step " << step);
    EXPECT_EQ(actual[step].replayed, expected[step].replayed);
    replayed += actual[step].replayed ? 1 : 0;
    for (size_t i = 0; i < script[step].size(); ++i) {
      const bool is_void = script[step][i].kind == Kind::kVoid;
      ASSERT_EQ(actual[step].ids[i], is_void ? kNone : expected[step].ids[i]) << "sample " << i;
      EXPECT_EQ(actual[step].logprobs[i], is_void ? 0 : expected[step].logprobs[i]);
      EXPECT_EQ(actual[step].finite[i], 1);
    }
    ASSERT_EQ(actual[step].top.size(), expected[step].top.size());
    for (size_t i = 0; i < actual[step].top.size(); ++i) {
      EXPECT_EQ(actual[step].top[i].id, expected[step].top[i].id);
      EXPECT_EQ(actual[step].top[i].logprob, expected[step].top[i].logprob);
    }
  }
  EXPECT_GT(replayed, kSteps / 2);
  EXPECT_LT(replayed, kSteps);
}

TEST_F(CudaLateRulesTest, AStepWithoutItsRulesIsNotCollected) {
  LaunchLate();
  ExpectAtOnce([this] {
    StepOutput output;
    EXPECT_TRUE(absl::IsInternal(executable_->Collect(output)));
    // It was given up, so the device has gone on.
    ASSERT_TRUE(executable_->Collect(output).ok());
    EXPECT_EQ(output.ids, std::vector<int32_t>({kNone}));
  });
}

TEST_F(CudaLateRulesTest, RulesThatDoNotFitAreRefusedAndTheStepEnds) {
  const SampleRules large{.banned = std::vector<int32_t>(kMost.banned + 1, 3)};
  const SampleRules fits;
  const std::vector<std::vector<const SampleRules*>> wrong = {{}, {&large}, {&fits, &fits}};
  for (const auto& rules : wrong) {
    LaunchLate();
    ExpectAtOnce([&] {
      EXPECT_TRUE(absl::IsInternal(executable_->SupplyRules(rules)));
      StepOutput output;
      ASSERT_TRUE(executable_->Collect(output).ok());
      EXPECT_EQ(output.ids, std::vector<int32_t>({kNone}));
    });
  }
  EXPECT_TRUE(executable_->SupplyRules({}).ok());
  EXPECT_TRUE(absl::IsInternal(executable_->SupplyRules({&fits})));
}

TEST_F(CudaLateRulesTest, AnExecutableMayGoWhileAStepWaits) {
  LaunchLate();
  ExpectAtOnce([this] { executable_.reset(); });
}

}  // namespace
}  // namespace based
