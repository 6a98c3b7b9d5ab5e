// Counted in steps: what is cancelled, or whose deadline passes, is in the steps that are in flight
// then and in no later one, and its slots are free when the last of those has been collected.
#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/engine.h"
#include "gtest/gtest.h"
#include "tests/engine/completion_recorder.h"
#include "tests/sim/sim_executable.h"

namespace based {
namespace {

// A simulated model that calls `hook(number of the step, its table)` within each launch.
class HookedExecutable final : public Executable {
 public:
  using Hook = std::function<void(int32_t, const StepTable&)>;
  HookedExecutable(const SimModel& model, Hook hook) : sim_(model), hook_(std::move(hook)) {}

  const ExecutableInfo& info() const override { return sim_.info(); }
  absl::Status CreateSlots(int32_t count) override { return sim_.CreateSlots(count); }
  absl::Status Launch(const StepTable& table) override {
    hook_(steps_++, table);
    return sim_.Launch(table);
  }
  absl::Status SupplyRules(absl::Span<const SampleRules* const> rules) override {
    return sim_.SupplyRules(rules);
  }
  absl::Status Collect(StepOutput& output) override { return sim_.Collect(output); }
  absl::Status ClearSlots(absl::Span<const int32_t> slots) override {
    return sim_.ClearSlots(slots);
  }
  absl::Status CopySlots(absl::Span<const SlotCopy> copies) override {
    return sim_.CopySlots(copies);
  }
  absl::Status ExportSlot(int32_t slot, int64_t position, absl::Span<std::byte> image) override {
    return sim_.ExportSlot(slot, position, image);
  }
  absl::Status ImportSlot(int32_t slot, int64_t position,
                          absl::Span<const std::byte> image) override {
    return sim_.ImportSlot(slot, position, image);
  }

 private:
  SimExecutable sim_;
  Hook hook_;
  int32_t steps_ = 0;
};

struct Case {
  int32_t depth = 1;
  bool expires = false;  // by its deadline; else it is cancelled
  int32_t completions = 1;
  bool has_session = false;
  int32_t at = 0;  // steps that it is part of before
};

struct Steps {
  int32_t more = -1;  // launched with it after the one in which it was cancelled
  // To the first that was launched with its slots free, from its last or from the one in flight
  // when it was cancelled: a step that learns what decodes cost has no row of a sequence that
  // prefills.
  int32_t to_free = -1;
};

Steps StepsAfterCancel(const Case& test) {
  std::atomic<RequestId> victim = 0;
  std::atomic<bool> done = false;
  Engine* engine = nullptr;
  Request request = IdsRequest(std::vector<int32_t>(60, 7), 1'000'000);
  request.n = request.best_of = test.completions;
  if (test.has_session) request.session = {.id = "s", .create = true, .tokens = {}};
  request.held_slots = std::make_shared<HeldSlots>();
  if (test.expires) request.deadline = Clock::now() + std::chrono::milliseconds(100);

  // Of the engine thread alone.
  Steps steps;
  int32_t seen = 0, cancelled_at = -1, last = -1;
  std::set<int32_t> slots;
  const auto hook = [&](int32_t step, const StepTable& table) {
    if (victim == 0 || done) return;
    const std::vector<int32_t> held = request.held_slots->List();
    if (cancelled_at >= 0 && held.empty()) {
      steps = {.more = last - cancelled_at, .to_free = step - std::max(last, cancelled_at)};
      done = true;
      return;
    }
    slots.insert(held.begin(), held.end());
    for (const Span& span : table.spans) {
      if (slots.contains(span.slot)) last = step;
    }
    if (cancelled_at >= 0 || held.empty() || seen++ < test.at) return;
    cancelled_at = step;
    if (test.expires) {
      std::this_thread::sleep_until(request.deadline);
    } else {
      engine->Cancel(victim, absl::CancelledError("gone"));
    }
  };
  auto model = std::make_unique<Model>();
  model->config.vocab_size = SimModel().vocab_size;
  model->tokenizer = std::make_unique<LetterTokenizer>(SimModel().vocab_size);
  model->compile = {.max_rows = 8, .max_spans = 8, .max_samples = 8};
  model->executable =
      std::make_unique<HookedExecutable>(SimModel{.pipeline_depth = test.depth}, hook);
  auto made = Engine::Create(std::move(model), {.slots = 6}, nullptr);
  EXPECT_TRUE(made.ok()) << made.status();
  engine = made->get();
  // Keeps the steps going.
  const auto neighbour = std::make_shared<Recorder>(1);
  EXPECT_TRUE(engine->Submit(IdsRequest({1}, 1'000'000), neighbour).ok());
  const auto recorder = std::make_shared<Recorder>(test.completions);
  const auto id = engine->Submit(request, recorder);
  EXPECT_TRUE(id.ok()) << id.status();
  victim = *id;
  const absl::Status end = recorder->Wait();
  EXPECT_EQ(end.code(),
            test.expires ? absl::StatusCode::kDeadlineExceeded : absl::StatusCode::kCancelled);
  for (int i = 0; i < 10'000 && !done; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  made->reset();  // its thread has ended
  return steps;
}

// A step that is being launched may be the first of two.
void ExpectAtMostWhatIsInFlight(const Steps& steps, int32_t depth) {
  EXPECT_GE(steps.to_free, 1);  // it came to that
  EXPECT_LE(steps.more, depth - 1);
  EXPECT_LE(steps.to_free, depth);
}

TEST(Cancellation, FreesSlotsWhenTheStepsInFlightRetire) {
  for (const int32_t depth : {1, 2}) {
    for (const int32_t completions : {1, 3}) {
      for (const bool has_session : {false, true}) {
        if (has_session && completions > 1) continue;
        // While its prompt is fed, at its last chunk, its first draw, and later.
        for (const int32_t at : {0, 1, 5, 8, 9, 10, 25}) {
          const Case test = {depth, false, completions, has_session, at};
          SCOPED_TRACE(absl::StrCat("depth ", depth, ", completions ", completions, ", session ",
                                    has_session, ", step ", at));
          ExpectAtMostWhatIsInFlight(StepsAfterCancel(test), depth);
        }
      }
    }
  }
}

TEST(Cancellation, ADeadlineDoesToo) {
  for (const int32_t depth : {1, 2}) {
    for (const int32_t at : {0, 5, 25}) {
      SCOPED_TRACE(absl::StrCat("depth ", depth, ", step ", at));
      ExpectAtMostWhatIsInFlight(StepsAfterCancel({depth, true, 1, false, at}), depth);
    }
  }
}

}  // namespace
}  // namespace based
