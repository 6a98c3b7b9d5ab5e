// The CPU backend: fp32 activations and state on a fixed pool of threads. See kernels/backend.h.
#ifndef BASED_KERNELS_CPU_CPU_BACKEND_H_
#define BASED_KERNELS_CPU_CPU_BACKEND_H_

#include <cstdint>
#include <memory>

#include "kernels/backend.h"

namespace based {

struct CpuBackendOptions {
  int32_t threads = 0;  // 0: one per core
};

std::unique_ptr<Backend> NewCpuBackend(const CpuBackendOptions& options);

}  // namespace based

#endif  // BASED_KERNELS_CPU_CPU_BACKEND_H_
