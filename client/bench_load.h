// Sends a workload to a daemon and keeps the times of every answer. Times count from when a request
// was meant to be sent, not from when the client got to it: a stall of daemon or client shows in
// all requests that it delayed (no coordinated omission).
#ifndef BASED_CLIENT_BENCH_LOAD_H_
#define BASED_CLIENT_BENCH_LOAD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/bench_transport.h"
#include "client/bench_workload.h"

namespace based {

struct LoadOptions {
  WorkloadOptions workload;
  int32_t concurrency = 32;  // streams of a closed loop
  double warmup_s = 0;       // requests of this time are not counted
  double duration_s = 10;    // of the counted time; requests sent in it are waited for
  int64_t requests = 0;      // most requests, warm-up included; 0: no limit
};

// Seconds since the load began.
struct RequestRecord {
  double intended_s = 0;
  double sent_s = 0;
  double first_s = 0;  // first token
  double last_s = 0;   // last token
  double end_s = 0;
  int32_t prompt_tokens = 0;
  int32_t output_tokens = 0;
  int32_t counted_tokens = 0;  // that came within the counted time
  std::vector<float> gaps_s;   // between messages with tokens
  std::string error;           // as LoadListener::OnEnd has it; empty: none
};

struct LoadResult {
  std::vector<RequestRecord> records;  // counted ones, in the order of their intended times
  // The counted time. It ends with the last request where that is sooner than the duration.
  double begin_s = 0, end_s = 0;
  // Of every request, those of the warm-up included: what came within the counted time.
  int64_t tokens = 0;
  int64_t ended_ok = 0;
  double load_s = 0;          // the whole load
  double client_cpu_s = 0;    // of this process, over the whole load
  int64_t client_tokens = 0;  // over the whole load
  std::string first_error;    // message of the first request that failed
};

// An open loop ends with an error when so many requests are under way.
inline constexpr int64_t kMostLoadInFlight = 65'536;

// Runs to the end of the load. RESOURCE_EXHAUSTED when the daemon is kMostLoadInFlight requests
// behind the rate.
absl::StatusOr<LoadResult> RunLoad(LoadTransport& transport, const LoadOptions& options,
                                   int32_t vocab_size);

}  // namespace based

#endif  // BASED_CLIENT_BENCH_LOAD_H_
