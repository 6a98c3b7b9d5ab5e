// Conversions between act types and fp32, and 16-byte vectors of them.
#ifndef BASED_KERNELS_CUDA_DEVICE_TYPES_CUH_
#define BASED_KERNELS_CUDA_DEVICE_TYPES_CUH_

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/launch.h"

namespace based::cuda {

using bf16 = __nv_bfloat16;

__device__ __forceinline__ float ToFloat(float x) { return x; }
__device__ __forceinline__ float ToFloat(bf16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float ToFloat(__half x) { return __half2float(x); }

template <typename T>
__device__ __forceinline__ T FromFloat(float x);
template <>
__device__ __forceinline__ float FromFloat<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ bf16 FromFloat<bf16>(float x) {
  return __float2bfloat16_rn(x);
}

// silu(u) = u / (1 + exp(-u)); exact expf, so that the fp32 path keeps 1e-4.
__device__ __forceinline__ float Silu(float u) { return u / (1.0f + expf(-u)); }

// N consecutive elements; the address is aligned to their size.
template <typename T, int N>
struct alignas(sizeof(T) * N) Vec {
  T at[N];
};

__device__ __forceinline__ float WarpSum(float x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

__device__ __forceinline__ float WarpMax(float x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
  }
  return x;
}

// Sum over the block in fixed order; `scratch` holds 32 floats. Every thread gets the result.
__device__ __forceinline__ float BlockSum(float x, float* scratch) {
  x = WarpSum(x);
  const int warps = (blockDim.x + 31) / 32;
  __syncthreads();
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  float total = 0.0f;
  for (int i = 0; i < warps; ++i) total += scratch[i];
  return total;
}

__device__ __forceinline__ float BlockMax(float x, float* scratch) {
  x = WarpMax(x);
  const int warps = (blockDim.x + 31) / 32;
  __syncthreads();
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  float best = scratch[0];
  for (int i = 1; i < warps; ++i) best = fmaxf(best, scratch[i]);
  return best;
}

// bf16 pair as the 32-bit register that mma takes; low half first.
__device__ __forceinline__ uint32_t PackBf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  uint32_t bits;
  __builtin_memcpy(&bits, &pair, sizeof(bits));
  return bits;
}

__device__ __forceinline__ float2 UnpackBf16(uint32_t bits) {
  return make_float2(__uint_as_float(bits << 16), __uint_as_float(bits & 0xffff0000u));
}

}  // namespace based::cuda

#endif  // BASED_KERNELS_CUDA_DEVICE_TYPES_CUH_
