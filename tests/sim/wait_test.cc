// The wait that is predicted when a request comes against the wait that it then has: the scheduler
// under overload, with a clock that a programmed cost of steps moves on.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/engine_load.h"
#include "engine/scheduler.h"
#include "engine/step_cost.h"
#include "engine/wait_model.h"
#include "gtest/gtest.h"

namespace based {
namespace {

using Random = std::mt19937_64;

int64_t Uniform(Random& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

struct Size {
  int64_t prompt = 16;
  int64_t max_tokens = 64;
  int64_t draws = 64;  // of these
  int32_t completions = 1;
};

// Seconds of a step.
struct Costs {
  double fixed = 10e-3;
  double decode = 50e-6;
  double prefill = 20e-6;
};

struct Day {
  int32_t slots = 8;
  int32_t queue = 16;     // more that come are turned away
  double overload = 1.5;  // of what the slots can do
  int32_t burst = 1;      // requests that come at once
  Costs costs;
  std::function<Size(Random&)> size;
};

struct Wait {
  double predicted = 0;
  double real = 0;
};

class World {
 public:
  World(const Day& day, uint64_t seed)
      : day_(day),
        random_(seed),
        scheduler_({.slots = day.slots,
                    .token_budget = 256,
                    .max_spans = std::max(2, day.slots),
                    .max_samples = std::max(2, day.slots)}) {
    double tokens = 0, prompts = 0;
    for (int i = 0; i < 1000; ++i) {
      const Size size = day_.size(random_);
      tokens += static_cast<double>(size.draws * size.completions) / 1000;
      prompts += static_cast<double>(size.prompt) / 1000;
    }
    const double row = day.costs.fixed / day.slots + day.costs.decode;
    gap_ = (tokens * row + prompts * day.costs.prefill) * day.burst / day.overload;
    next_ = now_;
  }

  // Those of requests that came to a full pool once costs and endings were known.
  std::vector<Wait> Run(size_t count) {
    while (waits_.size() < count) Step();
    return waits_;
  }

 private:
  struct Request {
    Size size;
    double arrived = 0;
    double predicted = 0;
    std::shared_ptr<HeldSlots> held = std::make_shared<HeldSlots>();
    int64_t drawn = 0;
  };

  static Clock::time_point At(double seconds) {
    return Clock::time_point(
        std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds)));
  }

  // With the load as it was published when the step began.
  void Arrive() {
    for (; next_ <= now_; next_ += std::exponential_distribution<>(1 / gap_)(random_)) {
      for (int32_t i = 0; i < day_.burst; ++i) {
        if (scheduler_.queued() < day_.queue) Submit();
      }
    }
  }

  void Submit() {
    Request request{.size = day_.size(random_), .arrived = next_};
    SequenceSpec spec;
    spec.id = ++last_id_;
    spec.prompt.assign(static_cast<size_t>(request.size.prompt), 1);
    spec.max_tokens = request.size.max_tokens;
    spec.completions = request.size.completions;
    spec.eos_token_id = 0;
    spec.submitted = At(next_);
    spec.held_slots = request.held;
    request.predicted = model_.Predict(0, 1, false).value_or(0);
    model_.Queue(0, 1, false, CostOf(spec));
    requests_.emplace(spec.id, std::move(request));
    scheduler_.Submit(std::move(spec));
  }

  void Step() {
    Arrive();
    StepPlan plan;
    LimitStep(cost_, scheduler_);
    scheduler_.Plan(At(now_), plan, events_);
    Hear();
    model_.SetLoad(MeasureLoad(scheduler_, cost_));
    if (plan.empty()) {
      now_ = std::max(now_, next_);
      return;
    }
    const Costs& costs = day_.costs;
    const double seconds =
        costs.fixed + costs.decode * plan.decode_tokens + costs.prefill * plan.prefill_tokens;
    ObserveStep(StatsOf(plan), At(seconds) - At(0), cost_);
    now_ += seconds;
    StepOutput output;
    for (const SampleRow& sample : plan.table.samples) {
      output.ids.push_back(DrawOf(SlotOf(plan.table, sample.row)));
      output.finite.push_back(1);
    }
    scheduler_.Commit(output, events_);
    Hear();
  }

  static int32_t SlotOf(const StepTable& table, int32_t row) {
    for (const Span& span : table.spans) {
      if (row >= span.row && row < span.row + span.length) return span.slot;
    }
    return kNone;
  }

  int32_t DrawOf(int32_t slot) {
    for (auto& [id, request] : requests_) {
      const std::vector<int32_t> held = request.held->List();
      if (std::find(held.begin(), held.end(), slot) == held.end()) continue;
      const bool ends = request.size.completions == 1 && ++request.drawn == request.size.draws;
      return ends ? 0 : 1;
    }
    return 1;
  }

  void Hear() {
    for (const SchedulerEvent& event : events_) {
      Request& request = requests_.at(event.id);
      if (event.kind == SchedulerEvent::Kind::kStarted) {
        // Not those that found a slot free.
        const double real = now_ - request.arrived;
        if (ended_ > 3 * day_.slots && (real > 0.2 || request.predicted > 0.2)) {
          waits_.push_back({request.predicted, real});
        }
      }
      if (event.kind != SchedulerEvent::Kind::kFinished) continue;
      ++ended_;
      if (--request.size.completions <= 0) requests_.erase(event.id);
    }
    events_.clear();
  }

  const Day day_;
  Random random_;
  Scheduler scheduler_;
  StepCost cost_;
  WaitModel model_;
  double gap_ = 1;  // seconds between arrivals
  double now_ = 1000;
  double next_ = 0;
  RequestId last_id_ = 0;
  int64_t ended_ = 0;
  std::map<RequestId, Request> requests_;
  std::vector<SchedulerEvent> events_;
  std::vector<Wait> waits_;
};

struct Accuracy {
  double median = 0;      // predicted / real
  double within_two = 0;  // share
};

// Over days of that kind on a fast and a slow machine, small and large pools, short and long
// queues.
Accuracy Measure(const char* name, const std::function<Size(Random&)>& size, int32_t burst = 1) {
  std::vector<double> ratios;
  Random random(11);
  for (int i = 0; i < 12; ++i) {
    Day day{.burst = burst, .size = size};
    day.slots = i % 3 == 0 ? 4 : i % 3 == 1 ? 16 : 64;
    day.queue = static_cast<int32_t>(day.slots * Uniform(random, 1, 6) / 2);
    day.overload = 1.1 + 0.3 * (i % 4);
    if (i % 2 == 1) day.costs = {1e-3, 1e-3, 2e-4};
    World world(day, random());
    for (const Wait& wait : world.Run(400)) {
      ratios.push_back((wait.predicted + 0.01) / (wait.real + 0.01));
    }
  }
  std::sort(ratios.begin(), ratios.end());
  const auto quantile = [&](double q) {
    return ratios[static_cast<size_t>(q * static_cast<double>(ratios.size() - 1))];
  };
  const auto close =
      std::count_if(ratios.begin(), ratios.end(), [](double r) { return r >= 0.5 && r <= 2; });
  const double within = static_cast<double>(close) / static_cast<double>(ratios.size());
  std::printf(
      "%-22s predicted / real: p1 %.2f p10 %.2f p50 %.2f p90 %.2f p99 %.2f; %.1f%% within "
      "a factor of 2\n",
      name, quantile(0.01), quantile(0.1), quantile(0.5), quantile(0.9), quantile(0.99),
      100 * within);
  return {quantile(0.5), within};
}

void ExpectClose(const Accuracy& accuracy, double within_two) {
  EXPECT_GE(accuracy.median, 0.8);
  EXPECT_LE(accuracy.median, 1.25);
  EXPECT_GE(accuracy.within_two, within_two);
}

TEST(PredictedWait, OfEqualLengths) {
  const auto size = [](Random&) { return Size{.max_tokens = 100, .draws = 100}; };
  ExpectClose(Measure("equal", size), 0.95);
  ExpectClose(Measure("equal, in bursts", size, 8), 0.95);
}

TEST(PredictedWait, OfUniformLengths) {
  ExpectClose(Measure("uniform",
                      [](Random& random) {
                        const int64_t tokens = Uniform(random, 10, 300);
                        return Size{.max_tokens = tokens, .draws = tokens};
                      }),
              0.95);
}

TEST(PredictedWait, OfShortAndLong) {
  ExpectClose(Measure("short and long",
                      [](Random& random) {
                        const int64_t tokens = Uniform(random, 0, 4) == 0 ? 600 : 20;
                        return Size{.max_tokens = tokens, .draws = tokens};
                      }),
              0.9);
}

TEST(PredictedWait, OfLongPrompts) {
  ExpectClose(Measure("long prompts",
                      [](Random& random) {
                        return Size{.prompt = Uniform(random, 100, 3000), .draws = 64};
                      }),
              0.9);
}

TEST(PredictedWait, OfForks) {
  ExpectClose(Measure("forks",
                      [](Random& random) {
                        const auto n = static_cast<int32_t>(Uniform(random, 1, 4));
                        return Size{.completions = n};
                      }),
              0.9);
}

TEST(PredictedWait, OfEarlyEnds) {
  ExpectClose(Measure("ends at random",
                      [](Random& random) {
                        const double draws = std::exponential_distribution<>(1.0 / 80)(random);
                        return Size{
                            .max_tokens = 400,
                            .draws = std::clamp<int64_t>(static_cast<int64_t>(draws), 1, 400)};
                      }),
              0.8);
  ExpectClose(Measure("ends far before",
                      [](Random& random) {
                        return Size{.max_tokens = 20'000, .draws = Uniform(random, 20, 200)};
                      }),
              0.9);
  ExpectClose(Measure("ends at a third",
                      [](Random& random) {
                        const int64_t most = Uniform(random, 100, 600);
                        return Size{.max_tokens = most, .draws = most / 3};
                      }),
              0.9);
}

}  // namespace
}  // namespace based
