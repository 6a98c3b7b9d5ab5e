// What tenants and batch work may do to each other, over simulated minutes: the scheduler with a
// clock that a programmed cost of steps moves on.
#include <algorithm>
#include <cmath>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "engine/engine_load.h"
#include "engine/scheduler.h"
#include "engine/step_cost.h"
#include "gtest/gtest.h"

namespace based {
namespace {

// Requests that come at random.
struct Source {
  int32_t tenant = 0;
  double weight = 1;
  bool batch = false;
  double per_second = 0;
  int64_t prompt = 32;
  int64_t tokens = 64;    // max_tokens
  double end_chance = 0;  // of a token to be the last
  int32_t backlog = 0;    // instead of a rate: so many always wait
};

// Seconds of a step.
struct Costs {
  double fixed = 10e-3;
  double decode = 50e-6;
  double prefill = 20e-6;
};

class World {
 public:
  // With `costs` given, the scheduler is told what it may plan as the engine tells it.
  World(const SchedulerOptions& options, std::vector<Source> sources, uint32_t seed,
        std::optional<Costs> costs = std::nullopt)
      : scheduler_(options),
        sources_(std::move(sources)),
        random_(seed),
        costs_(costs.value_or(Costs())),
        is_measured_(costs.has_value()) {
    for (const Source& source : sources_) next_.push_back(now_ + Gap(source));
    waiting_.resize(sources_.size());
    first_token_.resize(sources_.size());
    gaps_.resize(sources_.size());
  }

  void Run(double seconds) {
    const double end = now_ + seconds;
    while (now_ < end) Step();
  }

  // Seconds from arrival to the first token, the q-quantile.
  double FirstToken(size_t source, double q) { return Quantile(first_token_[source], q); }
  // Seconds between two tokens.
  double InterToken(size_t source, double q) { return Quantile(gaps_[source], q); }
  void Forget() {
    for (auto* all : {&first_token_, &gaps_}) {
      for (auto& values : *all) values.clear();
    }
  }
  double longest_step() const { return longest_step_; }
  const std::vector<int64_t>& served() const { return scheduler_.served(); }
  int64_t parks() const { return parks_; }
  size_t started(size_t source) const { return started_.at(source); }

 private:
  struct Request {
    size_t source;
    double arrived;
    double spoke = 0;  // latest
  };

  static double Quantile(std::vector<double>& values, double q) {
    EXPECT_GT(values.size(), 100u);
    std::sort(values.begin(), values.end());
    return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1))];
  }

  double Gap(const Source& source) {
    return source.per_second > 0 ? std::exponential_distribution<>(source.per_second)(random_) : 0;
  }

  void Submit(size_t index, double arrived) {
    const Source& source = sources_[index];
    SequenceSpec spec;
    spec.id = ++last_id_;
    spec.prompt.assign(static_cast<size_t>(source.prompt), 1);
    spec.max_tokens = source.tokens;
    spec.eos_token_id = 0;
    spec.tenant = source.tenant;
    spec.weight = source.weight;
    spec.batch = source.batch;
    spec.submitted = At(arrived);
    requests_[spec.id] = {index, arrived};
    ++waiting_[index];
    scheduler_.Submit(std::move(spec));
  }

  static Clock::time_point At(double seconds) {
    return Clock::time_point(
        std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds)));
  }

  void Arrive() {
    for (size_t i = 0; i < sources_.size(); ++i) {
      const Source& source = sources_[i];
      while (waiting_[i] < source.backlog) Submit(i, now_);
      while (source.per_second > 0 && next_[i] <= now_) {
        Submit(i, next_[i]);
        next_[i] += Gap(source);
      }
    }
  }

  void Step() {
    Arrive();
    StepPlan plan;
    if (is_measured_) LimitStep(cost_, scheduler_);
    scheduler_.Plan(At(now_), plan, events_);
    Hear();
    parks_ += static_cast<int64_t>(plan.parks.size());
    if (plan.empty()) {
      now_ += 1e-3;
      return;
    }
    const double seconds =
        costs_.fixed + costs_.decode * plan.decode_tokens + costs_.prefill * plan.prefill_tokens;
    ObserveStep(StatsOf(plan), At(seconds) - At(0), cost_);
    longest_step_ = std::max(longest_step_, seconds);
    now_ += seconds;
    StepOutput output;
    for (const SampleRow& sample : plan.table.samples) {
      (void)sample;
      // Id 0 ends a completion; whose it is does not matter where all end alike.
      output.ids.push_back(std::bernoulli_distribution(sources_[0].end_chance)(random_) ? 0 : 1);
      output.finite.push_back(1);
    }
    scheduler_.Commit(output, events_);
    Hear();
  }

  void Hear() {
    for (const SchedulerEvent& event : events_) {
      Request& request = requests_.at(event.id);
      if (event.kind == SchedulerEvent::Kind::kStarted) {
        --waiting_[request.source];
        ++started_[request.source];
        continue;
      }
      if (request.spoke > 0) {
        gaps_[request.source].push_back(now_ - request.spoke);
      } else {
        first_token_[request.source].push_back(now_ - request.arrived);
      }
      request.spoke = now_;
      if (event.kind == SchedulerEvent::Kind::kFinished) requests_.erase(event.id);
    }
    events_.clear();
  }

  Scheduler scheduler_;
  const std::vector<Source> sources_;
  std::mt19937 random_;
  const Costs costs_;
  const bool is_measured_;
  StepCost cost_;
  std::vector<double> next_;      // arrival, by source
  std::vector<int32_t> waiting_;  // requests without a slot, by source
  std::map<size_t, size_t> started_;
  std::vector<std::vector<double>> first_token_;
  std::vector<std::vector<double>> gaps_;  // between tokens, by source
  std::map<RequestId, Request> requests_;
  std::vector<SchedulerEvent> events_;
  RequestId last_id_ = 0;
  double now_ = 1000;
  double longest_step_ = 0;
  int64_t parks_ = 0;
};

SchedulerOptions Options(int32_t slots, int32_t max_parked) {
  return {.slots = slots,
          .token_budget = 256,
          .max_spans = slots,
          .max_samples = slots,
          .mixed_prefill_tokens = 64,
          .max_parked = max_parked,
          .batch_patience = std::chrono::hours(10)};
}

// 16 slots draw about 1450 tokens a second, 20 requests of the kind of Source. The polite tenant
// asks for a seventh of that, the other for a half, or for five times all there is.
double FirstTokenOfPolite(int32_t max_parked, double other_per_second) {
  World world(Options(16, max_parked),
              {{.tenant = 0, .per_second = 3}, {.tenant = 1, .per_second = other_per_second}}, 7);
  world.Run(20);
  world.Forget();
  world.Run(600);
  return world.FirstToken(0, 0.99);
}

TEST(Fairness, AGreedyTenantDoesNotDelayAnother) {
  const double fair = FirstTokenOfPolite(16, 10);
  const double greedy = FirstTokenOfPolite(16, 100);
  EXPECT_LE(greedy, 1.2 * fair) << fair << " s becomes " << greedy << " s";
  // That is what parking is for.
  EXPECT_GT(FirstTokenOfPolite(0, 100), 1.2 * fair);
}

TEST(Fairness, BackloggedTenantsAreServedByWeight) {
  const std::vector<double> weights = {1, 2, 4};
  for (const int32_t max_parked : {0, 8}) {
    std::vector<Source> sources;
    for (int32_t t = 0; t < 3; ++t) {
      sources.push_back({.tenant = t,
                         .weight = weights[static_cast<size_t>(t)],
                         .prompt = 16 << t,
                         .tokens = 200 >> t,
                         .end_chance = 0.02,
                         .backlog = 5});
    }
    World world(Options(24, max_parked), sources, 3);
    world.Run(60);
    const std::vector<int64_t> before = world.served();
    world.Run(600);
    std::vector<double> shares;
    for (size_t t = 0; t < 3; ++t) {
      shares.push_back(static_cast<double>(world.served()[t] - before[t]) / weights[t]);
    }
    EXPECT_NEAR(shares[1] / shares[0], 1, 0.05) << "parked at most " << max_parked;
    EXPECT_NEAR(shares[2] / shares[0], 1, 0.05) << "parked at most " << max_parked;
  }
}

TEST(Fairness, BatchWorkDelaysInteractiveWorkByNoMoreThanAStep) {
  const Source interactive = {.per_second = 5};
  World alone(Options(16, 16), {interactive}, 5);
  alone.Run(300);
  World beside(Options(16, 16), {interactive, {.batch = true, .tokens = 500, .backlog = 50}}, 5);
  beside.Run(300);
  EXPECT_GT(beside.parks(), 0);
  EXPECT_GT(beside.started(1), 10u);  // and batch work gets on
  for (const double q : {0.5, 0.99}) {
    EXPECT_LE(beside.FirstToken(0, q), alone.FirstToken(0, q) + beside.longest_step());
  }
}

// A step of all slots takes some 30 times as long as one of an interactive row (a CPU), or less
// than three times (a GPU).
TEST(Fairness, BatchWorkAtMostDoublesTheTimeBetweenTokens) {
  for (const Costs& costs : {Costs{1e-3, 1e-3, 5e-4}, Costs{40e-3, 1e-3, 2e-4}}) {
    SchedulerOptions options = Options(64, 0);
    options.reserved_slots = 8;
    const double alone = costs.fixed + costs.decode;
    const Source interactive = {.per_second = 1e-4 / alone, .tokens = 200};
    const Source batch = {.batch = true, .tokens = 500, .backlog = 20};
    World world(options, {interactive, batch}, 5, costs);
    world.Run(5e5 * alone);
    EXPECT_LE(world.InterToken(0, 0.5), 2.05 * alone);
    // Sometimes two run.
    EXPECT_LE(world.InterToken(0, 0.99), 2.05 * (alone + costs.decode));
    EXPECT_GT(world.started(1), 100u);
    // Every batch sequence has its turn, at least in every second round.
    EXPECT_LE(world.InterToken(1, 1), 2 * 64 * 2.5 * alone);
  }
}

TEST(Fairness, BatchWorkIsNotStarvedByEndlessInteractiveWork) {
  SchedulerOptions options = Options(4, 4);
  options.batch_patience = std::chrono::seconds(5);
  World world(options, {{.backlog = 10}, {.batch = true, .per_second = 0.2}}, 9);
  world.Run(1000);
  EXPECT_GT(world.started(1), 150u);  // of about 200
  EXPECT_LE(world.FirstToken(1, 0.99), 10);
}

}  // namespace
}  // namespace based
