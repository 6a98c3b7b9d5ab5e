// The load generator without a daemon: workloads, figures, limits, the search and the page.
#include <cmath>
#include <fstream>
#include <set>

#include "absl/strings/str_cat.h"
#include "client/bench_plot.h"
#include "client/bench_report.h"
#include "client/bench_sweep.h"
#include "client/bench_workload.h"
#include "client/command.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace based {
namespace {

using testing::HasSubstr;
using testing::Not;

LengthDistribution Lengths(const std::string& text) {
  const auto lengths = LengthDistribution::Parse("prompt_length", text);
  EXPECT_TRUE(lengths.ok()) << lengths.status();
  return lengths.ok() ? *lengths : LengthDistribution();
}

TEST(LengthDistribution, DrawsWhatItSays) {
  std::mt19937_64 random(1);
  EXPECT_EQ(Lengths("7").Draw(random), 7);
  EXPECT_EQ(Lengths("fixed:9").Draw(random), 9);
  std::set<int32_t> seen;
  for (int i = 0; i < 200; ++i) seen.insert(Lengths("uniform:3,5").Draw(random));
  EXPECT_EQ(seen, (std::set<int32_t>{3, 4, 5}));
  int below = 0, largest = 0;
  for (int i = 0; i < 4000; ++i) {
    const int32_t drawn = Lengths("lognormal:100,1,400").Draw(random);
    EXPECT_GE(drawn, 1);
    below += drawn < 100;
    largest = std::max(largest, drawn);
  }
  EXPECT_NEAR(below, 2000, 150);
  EXPECT_EQ(largest, 400);
}

TEST(LengthDistribution, RefusesOthers) {
  for (const char* bad : {"", "0", "x", "fixed:1,2", "uniform:5,3", "uniform:5", "gauss:1,2",
                          "lognormal:10,-1,5", "lognormal:10,1", "2000000"}) {
    const auto lengths = LengthDistribution::Parse("prompt_length", bad);
    EXPECT_TRUE(IsUsageError(lengths.status())) << bad;
  }
}

TEST(Workload, PoissonHasItsRateAndIsRepeatable) {
  const WorkloadOptions options{.arrivals = Arrivals::kPoisson,
                                .rate = 50,
                                .prompt = Lengths("uniform:2,9"),
                                .output = Lengths("5")};
  Workload one(options, 61), two(options, 61);
  double last = 0, squares = 0;
  for (int i = 0; i < 5000; ++i) {
    const BenchRequest request = one.Next(), same = two.Next();
    EXPECT_EQ(request.at_s, same.at_s);
    EXPECT_EQ(request.prompt, same.prompt);
    EXPECT_GE(request.at_s, last);
    squares += (request.at_s - last) * (request.at_s - last);
    last = request.at_s;
    for (const int32_t id : request.prompt) EXPECT_TRUE(id >= 0 && id < 61);
  }
  EXPECT_NEAR(last, 100, 5);
  // Of an exponential gap the mean square is twice the squared mean; of a fixed one just that.
  EXPECT_NEAR(squares / 5000 * 50 * 50, 2, 0.2);
}

TEST(Workload, FixedRateAndPrefixes) {
  Workload workload({.arrivals = Arrivals::kFixed,
                     .rate = 4,
                     .prompt = Lengths("6"),
                     .output = Lengths("5"),
                     .prefixes = 2,
                     .prefix_tokens = 10},
                    1000);
  std::set<std::vector<int32_t>> prefixes, rests;
  for (int i = 0; i < 40; ++i) {
    const BenchRequest request = workload.Next();
    EXPECT_EQ(request.at_s, i / 4.0);
    ASSERT_EQ(request.prompt.size(), 16u);
    prefixes.insert({request.prompt.begin(), request.prompt.begin() + 10});
    rests.insert({request.prompt.begin() + 10, request.prompt.end()});
  }
  EXPECT_EQ(prefixes.size(), 2u);
  EXPECT_EQ(rests.size(), 40u);
}

std::string WriteTrace(const std::string& text) {
  const std::string path = testing::TempDir() + "/trace.jsonl";
  std::ofstream(path) << text;
  return path;
}

TEST(Trace, IsPlayedAsItIs) {
  const auto trace =
      ReadTrace(WriteTrace("{\"arrival_s\":0.5,\"prompt_tokens\":3,\"output_tokens\":4}\n\n"
                           "{\"arrival_s\":0.5,\"prompt_tokens\":1,\"output_tokens\":9}\n"));
  ASSERT_TRUE(trace.ok()) << trace.status();
  Workload workload({.arrivals = Arrivals::kTrace, .trace = *trace}, 61);
  const BenchRequest first = workload.Next();
  EXPECT_EQ(first.at_s, 0.5);
  EXPECT_EQ(first.prompt.size(), 3u);
  EXPECT_EQ(first.output_tokens, 4);
  EXPECT_FALSE(workload.exhausted());
  EXPECT_EQ(workload.Next().output_tokens, 9);
  EXPECT_TRUE(workload.exhausted());
}

TEST(Trace, FaultsNameTheLine) {
  const auto error = [](const std::string& text) {
    return std::string(ReadTrace(WriteTrace(text)).status().message());
  };
  const std::string good = "{\"arrival_s\":2,\"prompt_tokens\":3,\"output_tokens\":4}\n";
  EXPECT_THAT(error(good + "{\"arrival_s\":1,\"prompt_tokens\":3,\"output_tokens\":4}\n"),
              HasSubstr("trace.jsonl:2: arrival_s is 1"));
  EXPECT_THAT(error("{\"arrival_s\":1,\"output_tokens\":4}\n"), HasSubstr("prompt_tokens is miss"));
  EXPECT_THAT(error(""), HasSubstr("holds no request"));
}

// Sent late, one token of ten milliseconds, then gaps of two.
RequestRecord Record(double intended_s, double first_after_s, int tokens, double gap_s) {
  RequestRecord record{.intended_s = intended_s, .sent_s = intended_s + 0.001};
  record.first_s = intended_s + first_after_s;
  record.last_s = record.first_s + gap_s * (tokens - 1);
  record.end_s = record.last_s + 0.001;
  record.prompt_tokens = 4;
  record.output_tokens = tokens;
  record.gaps_s.assign(static_cast<size_t>(tokens - 1), static_cast<float>(gap_s));
  return record;
}

LoadResult SomeLoad() {
  LoadResult result{.begin_s = 0,
                    .end_s = 10,
                    .tokens = 1100,
                    .ended_ok = 90,
                    .client_cpu_s = 1,
                    .client_tokens = 1000};
  for (int i = 0; i < 99; ++i) result.records.push_back(Record(i * 0.1, 0.010, 11, 0.002));
  result.records.push_back(Record(9.9, 0.500, 11, 0.002));
  result.records.push_back({.intended_s = 9.95, .error = "UNAVAILABLE"});
  return result;
}

TEST(Summarize, CountsFromTheIntendedTime) {
  const LoadReport report = Summarize(SomeLoad(), {.ttft = 100});
  EXPECT_EQ(report.requests, 101);
  EXPECT_EQ(report.ok, 100);
  EXPECT_EQ(report.good, 99);
  EXPECT_EQ(report.errors.at("UNAVAILABLE"), 1);
  EXPECT_NEAR(report.ttft.Quantile(0.5), 10, 1e-3);
  EXPECT_NEAR(report.ttft.Quantile(0.99), 10, 1e-3);
  EXPECT_NEAR(report.ttft.Quantile(0.999), 500, 1e-2);
  EXPECT_NEAR(report.tpot.Quantile(0.5), 2, 1e-3);
  EXPECT_EQ(report.itl.size(), 1000u);
  EXPECT_NEAR(report.e2e.Quantile(0.5), 31, 1e-2);
  EXPECT_NEAR(report.lag.Quantile(0.5), 1, 1e-3);
  EXPECT_NEAR(report.goodput(), 9.9, 1e-9);
  EXPECT_NEAR(report.output_tokens_per_s, 110, 1e-9);
  EXPECT_NEAR(report.requests_per_s, 9, 1e-9);
  EXPECT_NEAR(report.client_us_per_token, 1000, 1e-6);
}

TEST(LatencyLimits, EachIsKept) {
  const RequestRecord record = Record(1, 0.1, 11, 0.02);
  const auto keeps = [&](const std::string& text) {
    return LatencyLimits::Parse(text)->Keeps(record);
  };
  EXPECT_TRUE(keeps("ttft:101,itl:21,tpot:21,e2e:302"));
  EXPECT_FALSE(keeps("ttft:99"));
  EXPECT_FALSE(keeps("itl:19"));
  EXPECT_FALSE(keeps("tpot:19"));
  EXPECT_FALSE(keeps("e2e:300"));
  for (const char* bad : {"ttft", "ttft:x", "ttft:0", "speed:3", "ttft:1:2"}) {
    EXPECT_TRUE(IsUsageError(LatencyLimits::Parse(bad).status())) << bad;
  }
}

TEST(Sweep, FindsTheHighestRate) {
  for (const double capacity : {0.3, 1.0, 37.0}) {
    const auto found = Sweep(1, 6, [&](double rate) -> absl::StatusOr<LoadStep> {
      return LoadStep{.rate = rate, .keeps_limits = rate <= capacity};
    });
    ASSERT_TRUE(found.ok());
    ASSERT_TRUE(found->best.has_value());
    const double best = found->steps[*found->best].rate;
    EXPECT_LE(best, capacity);
    EXPECT_GT(best, 0.95 * capacity);
    EXPECT_TRUE(std::is_sorted(found->steps.begin(), found->steps.end(),
                               [](const auto& a, const auto& b) { return a.rate < b.rate; }));
  }
  const auto none =
      Sweep(1, 6, [](double rate) -> absl::StatusOr<LoadStep> { return LoadStep{.rate = rate}; });
  EXPECT_FALSE(none->best.has_value());
}

TEST(Report, JsonAndPageHoldTheFigures) {
  BenchReport report{.settings = {{"model", "<demo> & co"}}, .limited = true};
  for (const double rate : {5.0, 10.0}) {
    report.steps.push_back({.rate = rate, .report = Summarize(SomeLoad(), {.ttft = 100})});
  }
  const auto json = ReportJson(report);
  EXPECT_EQ(json["requests"], 101);
  EXPECT_EQ(json["errors"]["UNAVAILABLE"], 1);
  EXPECT_EQ(json["sweep"].size(), 2u);
  EXPECT_NEAR(json["ttft_ms"]["p99.9"].get<double>(), 500, 1e-2);
  const std::string page = ReportPage(report);
  EXPECT_THAT(page, HasSubstr("&lt;demo&gt; &amp; co"));
  EXPECT_THAT(page, HasSubstr("Inter-token latency"));
  EXPECT_THAT(page, Not(HasSubstr("http")));  // fetches nothing
  EXPECT_THAT(page, Not(HasSubstr("nan")));
  EXPECT_THAT(page, Not(HasSubstr("inf")));
}

TEST(PlotSvg, EmptyAndSinglePointsAreDrawn) {
  for (const bool log_x : {false, true}) {
    for (const auto& points : std::vector<std::vector<std::pair<double, double>>>{
             {}, {{0, 0}}, {{10, 100}}, {{0.003, 1}, {900, 2}}}) {
      const std::string svg = PlotSvg({.title = "t", .lines = {{"l", points}}, .log_x = log_x});
      EXPECT_THAT(svg, Not(HasSubstr("nan")));
      EXPECT_THAT(svg, Not(HasSubstr("inf")));
    }
  }
}

}  // namespace
}  // namespace based
