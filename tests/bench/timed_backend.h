// A backend without arithmetic whose steps take programmed time, so that a load run measures the
// daemon and not a model. Steps run one after another as on a device: Launch returns at once,
// Collect sleeps until the step's time has passed. A slot's state is a hash of its tokens, so that
// what a sequence draws depends on all it was fed.
#ifndef BASED_TESTS_BENCH_TIMED_BACKEND_H_
#define BASED_TESTS_BENCH_TIMED_BACKEND_H_

#include <chrono>
#include <cstdint>
#include <memory>

#include "kernels/backend.h"

namespace based {

// A step of d decoding rows and p others takes fixed + d * decode + p * prefill.
struct TimedOptions {
  std::chrono::nanoseconds fixed{0};
  std::chrono::nanoseconds decode{0};
  std::chrono::nanoseconds prefill{0};
  int32_t max_rows = 512;
  int32_t max_spans = 256;
  int64_t slot_bytes = 1 << 16;
};

std::unique_ptr<Backend> NewTimedBackend(const TimedOptions& options);

}  // namespace based

#endif  // BASED_TESTS_BENCH_TIMED_BACKEND_H_
