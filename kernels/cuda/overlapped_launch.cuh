// Programmatic dependent launch: a kernel may be started while the one before it in the stream is
// still running, loads what that one cannot change, then waits for it.
//
// Rules that make it sound. Every kernel launched with LaunchOverlapped calls WaitForPrevious in
// every thread before it returns, before it writes anything, and before it reads what an earlier
// kernel of the step wrote; and LetNextStart only after that. So when a kernel runs ahead of its
// wait, all but the one kernel before it have finished. Code of a compute capability before 9.0 has
// no such wait: all of it is an ordinary launch then, on later devices too.
#ifndef BASED_KERNELS_CUDA_OVERLAPPED_LAUNCH_CUH_
#define BASED_KERNELS_CUDA_OVERLAPPED_LAUNCH_CUH_

#include <cuda_runtime.h>

namespace based::cuda {

__device__ __forceinline__ void WaitForPrevious() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

__device__ __forceinline__ void LetNextStart() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Whether the code of `kernel` waits: it may be that of an earlier device, which the driver has
// translated for this one.
inline bool CodeWaits(const void* kernel) {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, kernel) == cudaSuccess && attributes.ptxVersion >= 90;
}

template <typename Params>
cudaError_t LaunchOverlapped(void (*kernel)(Params), dim3 grid, int threads, const Params& params,
                             cudaStream_t stream, size_t shared_bytes = 0) {
  // The same for all kernels of a program.
  static const bool waits = CodeWaits(reinterpret_cast<const void*>(kernel));
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = waits ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, params);
}

}  // namespace based::cuda

#endif  // BASED_KERNELS_CUDA_OVERLAPPED_LAUNCH_CUH_
