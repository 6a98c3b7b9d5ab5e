// A load test as JSON, and as one HTML page with plots that fetches nothing.
#ifndef BASED_CLIENT_BENCH_REPORT_H_
#define BASED_CLIENT_BENCH_REPORT_H_

#include <string>
#include <utility>
#include <vector>

#include "client/bench_stats.h"
#include "nlohmann/json.hpp"

namespace based {

// One load: the rate it was meant to have (0: closed loop) and what came of it.
struct LoadStep {
  double rate = 0;
  LoadReport report;
  bool keeps_limits = false;
};

struct BenchReport {
  // What was asked for, flag and value; and the daemon's model and device.
  std::vector<std::pair<std::string, std::string>> settings;
  bool limited = false;         // limits were given
  std::vector<LoadStep> steps;  // at least one; more of a sweep, in order of their rates
  size_t shown = 0;             // the step whose plots the page shows
};

nlohmann::ordered_json ReportJson(const BenchReport& report);
std::string ReportPage(const BenchReport& report);

}  // namespace based

#endif  // BASED_CLIENT_BENCH_REPORT_H_
