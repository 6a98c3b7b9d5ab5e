// A kernel that ends in an illegal instruction: what follows on the device fails, in every stream
// of the process.
#ifndef BASED_TESTS_KERNELS_CUDA_TRAP_H_
#define BASED_TESTS_KERNELS_CUDA_TRAP_H_

#include <cuda_runtime_api.h>

namespace based {

// Waits until it has run; its error, which every later call will give too.
cudaError_t RunTrap();

}  // namespace based

#endif  // BASED_TESTS_KERNELS_CUDA_TRAP_H_
