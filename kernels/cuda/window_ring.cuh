// The sliding window's ring in a slot, and rotary embedding, shared by its kernels.
#ifndef BASED_KERNELS_CUDA_WINDOW_RING_CUH_
#define BASED_KERNELS_CUDA_WINDOW_RING_CUH_

#include "kernels/cuda/device_types.cuh"

namespace based::cuda {

template <typename T>
struct WindowSlot {
  T* k;  // [ring_rows, E], rotated
  T* v;  // [ring_rows, E]
};

template <typename T>
__device__ __forceinline__ WindowSlot<T> GetWindowSlot(const WindowParams& p, int slot, int head) {
  std::byte* base = p.pool.base + slot * p.pool.slot_bytes;
  const int64_t at = int64_t{head} * p.ring_rows * p.head_dim;
  return {reinterpret_cast<T*>(base + p.ring_k_offset) + at,
          reinterpret_cast<T*>(base + p.ring_v_offset) + at};
}

// Element i of rot(x, t), x of E elements; `rope` is the row's E / 2 pairs of cos and sin.
template <typename T>
__device__ __forceinline__ float Rotated(const T* x, const float2* rope, int i, int half) {
  if (i < half) {
    const float2 r = rope[i];
    return ToFloat(x[i]) * r.x - ToFloat(x[i + half]) * r.y;
  }
  const float2 r = rope[i - half];
  return ToFloat(x[i]) * r.x + ToFloat(x[i - half]) * r.y;
}

}  // namespace based::cuda

#endif  // BASED_KERNELS_CUDA_WINDOW_RING_CUH_
