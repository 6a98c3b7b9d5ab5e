// The one place that names the backends. Included by the two mains (server, client) and by tests;
// nothing else knows which backends exist.
#ifndef BASED_KERNELS_BACKENDS_H_
#define BASED_KERNELS_BACKENDS_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace based {

struct BackendOptions {
  // "auto" (cuda where compiled in and a device answers, else cpu), cpu, cuda, reference.
  std::string kind = "auto";
  int32_t threads = 0;  // CPU threads; 0: one per core
  int32_t device = 0;   // CUDA device index
  // CUDA: results bitwise independent of what else is in a step (cuda_backend.h).
  bool batch_invariant = false;
  bool late_rules = true;  // CUDA: see ExecutableInfo
};

// INVALID_ARGUMENT for an unknown kind, UNAVAILABLE when `cuda` is asked for and not compiled in or
// no usable device answers.
absl::StatusOr<std::unique_ptr<Backend>> NewBackend(const BackendOptions& options);

// What this machine's CPU can do at most, measured within some tenths of a second; see
// kernels/cpu/roofline.h.
struct CpuSpeed {
  double flops_per_second = 0;  // fp32 multiply-adds, two operations each
  double bytes_per_second = 0;  // reading `bytes` again and again
};
CpuSpeed MeasureCpu(int32_t threads, int64_t bytes);  // threads 0: one per core

}  // namespace based

#endif  // BASED_KERNELS_BACKENDS_H_
