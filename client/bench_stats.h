// Figures of a load test.
#ifndef BASED_CLIENT_BENCH_STATS_H_
#define BASED_CLIENT_BENCH_STATS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/bench_load.h"

namespace based {

// Sorted values, milliseconds.
class Sample {
 public:
  explicit Sample(std::vector<float> values);
  size_t size() const { return values_.size(); }
  double mean() const { return mean_; }
  // The smallest value that at least a share `q` of the values does not exceed; 0 without values.
  double Quantile(double q) const;

 private:
  std::vector<float> values_;
  double mean_ = 0;
};

// Milliseconds; absent: no limit.
struct LatencyLimits {
  std::optional<double> ttft, itl, tpot, e2e;

  // "ttft:200,itl:20"; a usage error else.
  static absl::StatusOr<LatencyLimits> Parse(absl::string_view text);
  // Whether a request ended with OK within the limits; itl holds for 99% of its gaps.
  bool Keeps(const RequestRecord& record) const;
};

struct LoadReport {
  double seconds = 0;  // of the counted time
  // Per second of it, whatever requests they belong to.
  double requests_per_s = 0, output_tokens_per_s = 0;
  // Of the requests that were meant to be sent within it.
  int64_t requests = 0, ok = 0, good = 0;
  std::map<std::string, int64_t> errors;         // by what the protocol calls them
  int64_t prompt_tokens = 0, output_tokens = 0;  // of requests that ended with OK
  // From the intended time of sending. Of requests that ended with OK.
  Sample ttft{{}}, e2e{{}};
  Sample tpot{{}};  // per request: first to last token over the tokens after the first
  Sample itl{{}};   // between messages
  Sample lag{{}};   // how much later than intended the client sent
  double client_us_per_token = 0;
  double client_cores = 0;  // processor seconds of the client per second
  std::string first_error;

  double goodput() const { return static_cast<double>(good) / seconds; }  // good requests per s
  double good_share() const;  // of all requests, those with errors included
};

LoadReport Summarize(const LoadResult& result, const LatencyLimits& limits);

// One row per figure, for a terminal.
std::string ReportText(const LoadReport& report, bool limited);

}  // namespace based

#endif  // BASED_CLIENT_BENCH_STATS_H_
