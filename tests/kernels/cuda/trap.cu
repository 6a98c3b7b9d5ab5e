#include "tests/kernels/cuda/trap.h"

namespace based {
namespace {

__global__ void TrapKernel() { __trap(); }

}  // namespace

cudaError_t RunTrap() {
  TrapKernel<<<1, 1>>>();
  return cudaDeviceSynchronize();
}

}  // namespace based
