// Warp-level bf16 matrix products (compute capability 8.0 and up) and asynchronous copies.
//
// Fragments of mma.m16n8k16, with g = lane / 4 and c = lane % 4, pairs from the named one on:
//   A: a0 (row g, k 2c), a1 (row g + 8, k 2c), a2 (row g, k 2c + 8), a3 (row g + 8, k 2c + 8)
//   B: b0 (k 2c, column g), b1 (k 2c + 8, column g)
//   D: d0, d1 (row g, column 2c), d2, d3 (row g + 8, column 2c)
#ifndef BASED_KERNELS_CUDA_TENSOR_CORE_CUH_
#define BASED_KERNELS_CUDA_TENSOR_CORE_CUH_

#include "kernels/cuda/device_types.cuh"

namespace based::cuda {

__device__ __forceinline__ void Mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                    uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ uint32_t SharedAddress(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// B fragments of columns [0, 8) and [8, 16) of a row-major [16, stride] bf16 tile: out is b0, b1 of
// the first, b0, b1 of the second. Rows are 16-byte aligned.
__device__ __forceinline__ void LoadB16x16(uint32_t (&out)[4], const bf16* tile, int stride) {
  const int lane = threadIdx.x % 32;
  const uint32_t address = SharedAddress(tile + (lane % 16) * stride + lane / 16 * 8);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address));
}

// The same for 8 columns: b0, b1.
__device__ __forceinline__ void LoadB16x8(uint32_t (&out)[2], const bf16* tile, int stride) {
  const int lane = threadIdx.x % 16;
  const uint32_t address = SharedAddress(tile + lane * stride);
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(out[0]), "=r"(out[1])
               : "r"(address));
}

// A fragments of a row-major [16, stride] bf16 tile's columns [0, 16).
__device__ __forceinline__ void LoadA16x16(uint32_t (&out)[4], const bf16* tile, int stride) {
  const int lane = threadIdx.x % 32;
  const uint32_t address = SharedAddress(tile + (lane % 16) * stride + lane / 16 * 8);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address));
}

// B fragments of the transpose of a row-major [16, stride] tile's columns [0, 16): out is b0, b1
// for tile rows [0, 8) as columns of B, then for rows [8, 16).
__device__ __forceinline__ void LoadTransposedB16x16(uint32_t (&out)[4], const bf16* tile,
                                                     int stride) {
  const int lane = threadIdx.x % 32;
  const bf16* row = tile + (lane % 8 + lane / 16 * 8) * stride + lane / 8 % 2 * 8;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(SharedAddress(row)));
}

// B fragments of all kTiles 8-column tiles of a row-major [16, stride] tile in shared memory, asked
// for together.
template <int kTiles>
struct RowB {
  uint32_t b[(kTiles + 1) / 2][4];

  __device__ __forceinline__ RowB(const bf16* tile, int stride) {
#pragma unroll
    for (int n = 0; n + 1 < kTiles; n += 2) LoadB16x16(b[n / 2], tile + n * 8, stride);
    if constexpr (kTiles % 2 == 1) {
      uint32_t last[2];
      LoadB16x8(last, tile + (kTiles - 1) * 8, stride);
      b[kTiles / 2][0] = last[0];
      b[kTiles / 2][1] = last[1];
    }
  }

  // d[n] += A B
  __device__ __forceinline__ void MultiplyAdd(float (&d)[kTiles][4], const uint32_t (&a)[4]) const {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) Mma(d[n], a, b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]);
  }
};

// 16 bytes from device to shared memory without waiting; zeros where not `valid`.
__device__ __forceinline__ void CopyAsync16(void* to, const void* from, bool valid) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(SharedAddress(to)), "l"(from),
               "r"(bytes)
               : "memory");
}

// The same for data that is read once: it should not push others out of the L2 cache.
__device__ __forceinline__ void CopyAsyncOnce16(void* to, const void* from) {
  asm volatile(
      "{\n\t.reg .b64 policy;\n\t"
      "createpolicy.fractional.L2::evict_first.b64 policy, 1.0;\n\t"
      "cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, policy;\n\t}" ::"r"(
          SharedAddress(to)),
      "l"(from)
      : "memory");
}

__device__ __forceinline__ void CopyAsyncCommit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int kPending>
__device__ __forceinline__ void CopyAsyncWait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace based::cuda

#endif  // BASED_KERNELS_CUDA_TENSOR_CORE_CUH_
