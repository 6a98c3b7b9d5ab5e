// What this machine can do at most, measured: the yardstick of the CPU benchmarks and of `based
// plan --gpu cpu`.
#ifndef BASED_KERNELS_CPU_ROOFLINE_H_
#define BASED_KERNELS_CPU_ROOFLINE_H_

#include <algorithm>
#include <cstdint>
#include <ctime>

#include "kernels/cpu/thread_pool.h"

namespace based {

struct Roofline {
  double flops_per_second = 0;       // fp32 multiply-adds in registers, two operations each
  double bytes_per_second = 0;       // reading the same `bytes` again and again
  double copy_bytes_per_second = 0;  // copying memory too large for a cache, read plus written

  // Keeps the better of each.
  void Improve(const Roofline& other) {
    flops_per_second = std::max(flops_per_second, other.flops_per_second);
    bytes_per_second = std::max(bytes_per_second, other.bytes_per_second);
    copy_bytes_per_second = std::max(copy_bytes_per_second, other.copy_bytes_per_second);
  }
};

double Seconds(clockid_t clock);

// fp32 multiply-adds, two operations each, and bytes read, a second; the best of `repeats` runs.
double MeasureFlops(ThreadPool& pool, int32_t repeats, clockid_t clock);
double MeasureReads(ThreadPool& pool, int64_t bytes, int32_t repeats, clockid_t clock);

// The best of `repeats` runs of each by `clock`, with all threads of `pool`.
Roofline MeasureRoofline(ThreadPool& pool, int64_t bytes, int32_t repeats, clockid_t clock);

}  // namespace based

#endif  // BASED_KERNELS_CPU_ROOFLINE_H_
