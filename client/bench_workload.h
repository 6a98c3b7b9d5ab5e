// The requests of a load test: when each is meant to be sent, and how long prompt and output are.
#ifndef BASED_CLIENT_BENCH_WORKLOAD_H_
#define BASED_CLIENT_BENCH_WORKLOAD_H_

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace based {

// Lengths in tokens, at least 1.
class LengthDistribution {
 public:
  // "128", "fixed:128", "uniform:16,256" (both included) or "lognormal:MEDIAN,SIGMA,MOST" (sigma of
  // the logarithm; longer ones are cut to MOST). A usage error naming `flag` else.
  static absl::StatusOr<LengthDistribution> Parse(absl::string_view flag, absl::string_view text);

  int32_t Draw(std::mt19937_64& random) const;

 private:
  enum class Kind : uint8_t { kUniform, kLognormal };
  Kind kind_ = Kind::kUniform;
  double low_ = 1, high_ = 1;  // uniform
  double median_ = 1, sigma_ = 0, most_ = 1;
};

enum class Arrivals : uint8_t {
  kClosed,   // each stream asks again as soon as it has been answered
  kPoisson,  // at `rate`, whatever the daemon does
  kFixed,    // every 1 / rate seconds
  kTrace,    // as the file says
};

// One line of a trace: {"arrival_s": 0.25, "prompt_tokens": 120, "output_tokens": 80}.
struct TraceLine {
  double arrival_s = 0;
  int32_t prompt_tokens = 1;
  int32_t output_tokens = 1;
};

// INVALID_ARGUMENT with file and line; arrivals must not go back in time.
absl::StatusOr<std::vector<TraceLine>> ReadTrace(const std::string& path);

struct WorkloadOptions {
  Arrivals arrivals = Arrivals::kClosed;
  double rate = 1;  // requests per second
  LengthDistribution prompt, output;
  std::vector<TraceLine> trace;
  int32_t prefixes = 0;       // prompts begin with one of so many shared prefixes; 0: with none
  int32_t prefix_tokens = 0;  // of each prefix, beside the prompt's own tokens
  uint64_t seed = 1;
};

struct BenchRequest {
  double at_s = 0;  // after the beginning of the load
  std::vector<int32_t> prompt;
  int32_t output_tokens = 1;
};

// Requests one after the other; the same options give the same requests. Not thread-safe.
class Workload {
 public:
  // Prompts are random ids of [0, vocab_size).
  Workload(WorkloadOptions options, int32_t vocab_size);

  // Whether a trace has been played to its end.
  bool exhausted() const;
  // REQUIRES: !exhausted().
  BenchRequest Next();

 private:
  std::vector<int32_t> Ids(uint64_t seed, int32_t count) const;

  const WorkloadOptions options_;
  const int32_t vocab_size_;
  std::mt19937_64 random_;
  uint64_t made_ = 0;
  double at_s_ = 0;
};

}  // namespace based

#endif  // BASED_CLIENT_BENCH_WORKLOAD_H_
