// Features of queries as fragments of tensor-core products: a feature tile is 16 features, cyclic
// shifts of q (taylor_state.cuh), so that fragments are products of registers.
#ifndef BASED_KERNELS_CUDA_TAYLOR_FEATURES_CUH_
#define BASED_KERNELS_CUDA_TAYLOR_FEATURES_CUH_

#include "kernels/cuda/device_types.cuh"

namespace based::cuda {

__device__ __forceinline__ uint32_t Multiply(uint32_t a, uint32_t b) {
  uint32_t product;
  asm("{.reg .b32 zero; mov.b32 zero, 0x80008000; fma.rn.bf16x2 %0, %1, %2, zero;}"
      : "=r"(product)
      : "r"(a), "r"(b));
  return product;
}

// a b - c, rounded once.
__device__ __forceinline__ uint32_t MultiplySubtract(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t result;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(c ^ 0x80008000u));
  return result;
}

constexpr uint32_t kHalf = 0x3f003f00;          // 0.5 twice
constexpr uint32_t kQuarter = 0x3e803e80;       // 1 / sqrt(16) twice
constexpr uint32_t kEighth = 0x3e003e00;        // 1 / 8 twice
constexpr uint32_t kRootOfEighth = 0x3eb53eb5;  // 1 / sqrt(8) twice, 1e-4 too small
constexpr uint32_t kOneZero = 0x00003f80;       // 1, then 0

// A row of q, rotated: word m is the pair of elements 2 (c + m) and the next, mod F. For F = 16 it
// is divided by sqrt(F), which is exact.
template <int F>
struct Query {
  static constexpr int kWords = F / 2;
  uint32_t words[kWords] = {};

  Query() = default;
  __device__ __forceinline__ explicit Query(const bf16* row) {
    const uint32_t* from = reinterpret_cast<const uint32_t*>(row);
    const int c = threadIdx.x % 4;
#pragma unroll
    for (int m = 0; m < kWords; ++m) {
      const uint32_t word = from[(c + m) % kWords];
      words[m] = F == 16 ? Multiply(word, kQuarter) : word;
    }
  }

  // Elements 2c + m and the next, mod F.
  __device__ __forceinline__ uint32_t Pair(int m) const {
    const int word = m / 2 % kWords;
    return m % 2 == 0 ? words[word] : __byte_perm(words[word], words[(word + 1) % kWords], 0x5432);
  }
};

// Features (2c, 2c + 1) and (2c + 8, 2c + 9) of feature tile `tile` of a query.
__device__ __forceinline__ void QueryTile(const Query<16>& q, int tile, uint32_t* low,
                                          uint32_t* high) {
  if (tile == 0) {
    *low = q.Pair(0);
    *high = q.Pair(8);
    return;
  }
  const int shift = tile - 1;
  *low = Multiply(q.Pair(0), q.Pair(shift));
  *high = Multiply(q.Pair(8), q.Pair(8 + shift));
  if (shift == 0) {
    *low = Multiply(*low, kHalf);
    *high = Multiply(*high, kHalf);
  }
  if (tile == 9) *high = threadIdx.x % 4 == 0 ? kOneZero : 0;
}

// The same; a tile holds two shifts of 8.
__device__ __forceinline__ void QueryTile(const Query<8>& q, int tile, uint32_t* low,
                                          uint32_t* high) {
  const uint32_t scaled = Multiply(q.Pair(0), kEighth);
  if (tile == 0) {
    *low = Multiply(q.Pair(0), kRootOfEighth);
    *high = Multiply(Multiply(scaled, kHalf), q.Pair(0));
    return;
  }
  *low = Multiply(scaled, q.Pair(2 * tile - 1));
  *high = Multiply(scaled, q.Pair(2 * tile));
  const int c = threadIdx.x % 4;
  if (tile == 2 && c >= 2) *high = c == 2 ? kOneZero : 0;
}

}  // namespace based::cuda

#endif  // BASED_KERNELS_CUDA_TAYLOR_FEATURES_CUH_
