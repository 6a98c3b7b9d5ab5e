// The state of Taylor linear attention in a slot, shared by its decode and prefill kernels.
//
// Packed features, in an order in which every tile of F features is one cyclic shift:
//   feature f in [0, F)                    k_f                        q_f / sqrt(F)
//   feature F + d F + i, f < P - 1         k_i k_(i+d mod F)          q_i q_(i+d) / F, d = 0 halved
//   feature P - 1                          1                          1
// with P = 1 + F + F (F + 1) / 2. All scaling is on the query side, so that for F = 16 it is exact
// and S holds plain sums of products of k and v.
//
// Deferred fold: at the step of position t, S_h and z_h hold the tokens before FoldBase(t), and the
// ring rows of tokens [FoldBase(t), t] hold the rest. The step at t folds first, then appends token
// t, then reads. FoldBase depends on the position alone; a step may be repeated after stepping back
// by as many tokens as the lag allows, since the fold done for position t is known by
// DeviceSpan::fold_position.
#ifndef BASED_KERNELS_CUDA_TAYLOR_STATE_CUH_
#define BASED_KERNELS_CUDA_TAYLOR_STATE_CUH_

#include "kernels/cuda/device_types.cuh"

namespace based::cuda {

__host__ __device__ constexpr int FeatureCount(int feature_dim) {
  return 1 + feature_dim + feature_dim * (feature_dim + 1) / 2;
}

// What the decode and prefill kernels are compiled for; other shapes take the generic one.
inline bool TaylorShapeIsFast(const TaylorParams& p) {
  const bool head_dim = p.head_dim == 32 || p.head_dim == 64 || p.head_dim == 96 ||
                        p.head_dim == 112 || p.head_dim == 128;
  return (p.feature_dim == 8 || p.feature_dim == 16) && head_dim;
}

// Largest f <= position - lag with (f + phase) mod fold == 0, and 0 if there is none.
__device__ __forceinline__ int64_t FoldBase(int64_t position, int phase, int fold, int lag) {
  const int64_t last = position - lag;
  if (last <= 0) return 0;
  const int64_t base = last - (last + phase) % fold;
  return base > 0 ? base : 0;
}

struct FoldRange {
  int64_t old_base;  // tokens in S on entry
  int64_t new_base;  // tokens in S once the step at `position` has folded
};

__device__ __forceinline__ FoldRange GetFoldRange(const TaylorParams& p, int head,
                                                  int64_t fold_position, int64_t position) {
  const int phase = p.fold_phase + head;
  const int64_t before = FoldBase(fold_position, phase, p.fold, p.fold_lag);
  const int64_t after = FoldBase(position, phase, p.fold, p.fold_lag);
  return {before, after > before ? after : before};
}

// phi of a key; `k` is F floats.
__device__ __forceinline__ float KeyFeature(const float* k, int f, int dim, int count) {
  if (f == count - 1) return 1.0f;
  if (f < dim) return k[f];
  const int shift = (f - dim) / dim;
  const int i = (f - dim) % dim;
  return k[i] * k[(i + shift) % dim];
}

// phi of a query; `a` is 1 / sqrt(F).
__device__ __forceinline__ float QueryFeature(const float* q, int f, int dim, int count, float a) {
  if (f == count - 1) return 1.0f;
  if (f < dim) return q[f] * a;
  const int shift = (f - dim) / dim;
  const int i = (f - dim) % dim;
  const float product = (q[i] * a) * (q[(i + shift) % dim] * a);
  return shift == 0 ? 0.5f * product : product;
}

template <typename T>
struct TaylorSlot {
  float* s;   // [P, E]
  float* z;   // [P]; the last, a count, is not used
  T* ring_k;  // [ring_rows, F]
  T* ring_v;  // [ring_rows, E]
};

template <typename T>
__device__ __forceinline__ TaylorSlot<T> GetTaylorSlot(const TaylorParams& p, int slot, int head) {
  std::byte* base = p.pool.base + slot * p.pool.slot_bytes;
  return {
      reinterpret_cast<float*>(base + p.s_offset) + int64_t{head} * p.s_stride,
      reinterpret_cast<float*>(base + p.z_offset) + int64_t{head} * p.z_stride,
      reinterpret_cast<T*>(base + p.ring_k_offset) + int64_t{head} * p.ring_rows * p.feature_dim,
      reinterpret_cast<T*>(base + p.ring_v_offset) + int64_t{head} * p.ring_rows * p.head_dim};
}

}  // namespace based::cuda

#endif  // BASED_KERNELS_CUDA_TAYLOR_STATE_CUH_
