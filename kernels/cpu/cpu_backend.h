// The CPU backend: fp32 activations and state, weights in their own type, SIMD chosen at run time.
//
// A token's result depends only on the tokens before it: bitwise the same for one instruction set,
// however the sequence was split into spans and whatever the batch, slot or thread count.
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
