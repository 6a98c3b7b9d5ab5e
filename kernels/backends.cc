#include "kernels/backends.h"

#include <algorithm>
#include <ctime>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/roofline.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/reference/reference_backend.h"
#ifdef BASED_WITH_CUDA
#include "kernels/cuda/cuda_backend.h"
#endif

namespace based {
namespace {

absl::StatusOr<std::unique_ptr<Backend>> NewCuda(const BackendOptions& options) {
#ifdef BASED_WITH_CUDA
  return NewCudaBackend(CudaBackendOptions{.device = options.device,
                                           .batch_invariant = options.batch_invariant,
                                           .late_rules = options.late_rules});
#else
  return absl::UnavailableError(absl::StrCat("CUDA device ", options.device,
                                             " was asked for, but this build has no CUDA backend"));
#endif
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> NewBackend(const BackendOptions& options) {
  if (options.kind == "cuda") return NewCuda(options);
  if (options.kind == "reference") return NewReferenceBackend();
  if (options.kind == "auto") {
    absl::StatusOr<std::unique_ptr<Backend>> cuda = NewCuda(options);
    if (cuda.ok()) return cuda;
  } else if (options.kind != "cpu") {
    return absl::InvalidArgumentError(absl::StrCat("unknown backend \"", options.kind,
                                                   "\", expected auto, cpu, cuda or reference"));
  }
  return NewCpuBackend(CpuBackendOptions{.threads = options.threads});
}

CpuSpeed MeasureCpu(int32_t threads, int64_t bytes) {
  constexpr int32_t kTries = 40;
  const auto cores = static_cast<int32_t>(std::thread::hardware_concurrency());
  ThreadPool pool(std::max(1, threads > 0 ? threads : cores));
  return {.flops_per_second = MeasureFlops(pool, kTries, CLOCK_MONOTONIC),
          .bytes_per_second = MeasureReads(pool, bytes, kTries, CLOCK_MONOTONIC)};
}

}  // namespace based
