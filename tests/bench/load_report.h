// What a load prints: rates, quantiles of first-token and inter-token times, processor time.
#ifndef BASED_TESTS_BENCH_LOAD_REPORT_H_
#define BASED_TESTS_BENCH_LOAD_REPORT_H_

#include <cstdint>
#include <vector>

#include "tests/bench/serve_load.h"

namespace based {

// A point in time, with the processor seconds used until then.
struct Moment {
  Clock::time_point when;
  double server = 0;
  double client = 0;  // of this process

  // `server_pid` 0: this process serves.
  static Moment Now(int32_t server_pid);
};

std::vector<float> GapsBetween(const std::vector<LoadStream::Record>& records,
                               Clock::time_point from, Clock::time_point to);

// Prints name=value pairs of what was heard between `begin` and `end`, without a line's end.
void PrintLoad(const std::vector<LoadStream::Record>& records, const Moment& begin,
               const Moment& end);

}  // namespace based

#endif  // BASED_TESTS_BENCH_LOAD_REPORT_H_
