#include "client/bench_stats.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "client/command.h"

namespace based {
namespace {

float Milliseconds(double seconds) { return static_cast<float>(1e3 * seconds); }

double TpotOf(const RequestRecord& record) {
  if (record.output_tokens < 2) return 0;
  return (record.last_s - record.first_s) / (record.output_tokens - 1);
}

}  // namespace

Sample::Sample(std::vector<float> values) : values_(std::move(values)) {
  std::sort(values_.begin(), values_.end());
  if (values_.empty()) return;
  mean_ =
      std::accumulate(values_.begin(), values_.end(), 0.0) / static_cast<double>(values_.size());
}

double Sample::Quantile(double q) const {
  if (values_.empty()) return 0;
  const double rank = std::ceil(q * static_cast<double>(values_.size()));
  return values_[static_cast<size_t>(std::clamp(rank - 1, 0.0, static_cast<double>(size() - 1)))];
}

absl::StatusOr<LatencyLimits> LatencyLimits::Parse(absl::string_view text) {
  LatencyLimits limits;
  for (const absl::string_view part : absl::StrSplit(text, ',', absl::SkipWhitespace())) {
    const std::vector<absl::string_view> words = absl::StrSplit(part, ':');
    std::optional<double>* limit = nullptr;
    if (words[0] == "ttft") limit = &limits.ttft;
    if (words[0] == "itl") limit = &limits.itl;
    if (words[0] == "tpot") limit = &limits.tpot;
    if (words[0] == "e2e") limit = &limits.e2e;
    double value = 0;
    if (words.size() != 2 || limit == nullptr || !absl::SimpleAtod(words[1], &value) ||
        !(value > 0)) {
      return UsageError(absl::StrCat("--goodput holds '", part,
                                     "'; expected milliseconds of ttft, itl, tpot or e2e, e.g. "
                                     "ttft:200,itl:20"));
    }
    *limit = value;
  }
  return limits;
}

bool LatencyLimits::Keeps(const RequestRecord& record) const {
  if (!record.error.empty()) return false;
  const auto within = [](const std::optional<double>& limit, double seconds) {
    return !limit || 1e3 * seconds <= *limit;
  };
  return within(ttft, record.first_s - record.intended_s) &&
         within(e2e, record.end_s - record.intended_s) && within(tpot, TpotOf(record)) &&
         (!itl || within(itl, Sample(record.gaps_s).Quantile(0.99)));
}

double LoadReport::good_share() const {
  return requests == 0 ? 0 : static_cast<double>(good) / static_cast<double>(requests);
}

LoadReport Summarize(const LoadResult& result, const LatencyLimits& limits) {
  LoadReport report;
  std::vector<float> ttft, e2e, tpot, itl, lag;
  for (const RequestRecord& record : result.records) {
    ++report.requests;
    report.good += limits.Keeps(record);
    lag.push_back(Milliseconds(record.sent_s - record.intended_s));
    if (!record.error.empty()) {
      ++report.errors[record.error];
      continue;
    }
    ++report.ok;
    report.prompt_tokens += record.prompt_tokens;
    report.output_tokens += record.output_tokens;
    ttft.push_back(Milliseconds(record.first_s - record.intended_s));
    e2e.push_back(Milliseconds(record.end_s - record.intended_s));
    if (record.output_tokens > 1) tpot.push_back(Milliseconds(TpotOf(record)));
    for (const float gap : record.gaps_s) itl.push_back(Milliseconds(gap));
  }
  report.ttft = Sample(std::move(ttft));
  report.e2e = Sample(std::move(e2e));
  report.tpot = Sample(std::move(tpot));
  report.itl = Sample(std::move(itl));
  report.lag = Sample(std::move(lag));
  report.seconds = std::max(result.end_s - result.begin_s, 1e-9);
  report.requests_per_s = static_cast<double>(result.ended_ok) / report.seconds;
  report.output_tokens_per_s = static_cast<double>(result.tokens) / report.seconds;
  report.client_cores = result.client_cpu_s / std::max(result.load_s, 1e-9);
  report.client_us_per_token =
      1e6 * result.client_cpu_s / static_cast<double>(std::max<int64_t>(result.client_tokens, 1));
  report.first_error = result.first_error;
  return report;
}

std::string ReportText(const LoadReport& report, bool limited) {
  std::string text = absl::StrFormat(
      "requests       %d in %.1f s, %d ok\n"
      "throughput     %.2f requests/s, %.1f output tokens/s\n",
      report.requests, report.seconds, report.ok, report.requests_per_s,
      report.output_tokens_per_s);
  if (limited) {
    absl::StrAppendFormat(&text, "goodput        %.2f requests/s, %.2f%% of requests\n",
                          report.goodput(), 100 * report.good_share());
  }
  for (const auto& [code, count] : report.errors) {
    absl::StrAppendFormat(&text, "error          %s: %d\n", code, count);
  }
  if (!report.first_error.empty())
    absl::StrAppend(&text, "first error    ", report.first_error, "\n");
  absl::StrAppendFormat(&text, "%-12s %10s %10s %10s %10s %10s\n", "ms", "mean", "p50", "p90",
                        "p99", "p99.9");
  const std::pair<const char*, const Sample*> rows[] = {{"TTFT", &report.ttft},
                                                        {"ITL", &report.itl},
                                                        {"TPOT", &report.tpot},
                                                        {"e2e", &report.e2e},
                                                        {"sent late by", &report.lag}};
  for (const auto& [name, sample] : rows) {
    absl::StrAppendFormat(&text, "%-12s %10.2f %10.2f %10.2f %10.2f %10.2f\n", name, sample->mean(),
                          sample->Quantile(0.5), sample->Quantile(0.9), sample->Quantile(0.99),
                          sample->Quantile(0.999));
  }
  absl::StrAppendFormat(&text, "client         %.2f us of processor per token, %.2f cores\n",
                        report.client_us_per_token, report.client_cores);
  return text;
}

}  // namespace based
