// Linear layers for 1 to 4 rows: W is streamed once at memory speed, x waits in shared memory.
//
// Bound by memory: 2 n k bytes, 25.7 MB for the largest layer of the 1.3B shape: 8.3 us at 3.1
// TB/s. RMSNorm in front and bias, SwiGLU or the residual behind are fused, which removes a launch
// each.
//
// Grid: groups of output rows. A warp owns kOut output rows (with SwiGLU a value and its gate) and
// has all of their weights in flight before it looks at x.
#include "kernels/cuda/device_types.cuh"
#include "kernels/cuda/overlapped_launch.cuh"

namespace based::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kMaxRows = 4;

// x of every row as bf16 into shared memory, normalised when a norm is fused.
template <int R, int K>
__device__ void StageInput(const GemvParams& p, bf16 (*x)[K], float* scratch) {
  for (int row = 0; row < R; ++row) {
    if (row >= p.rows) {
      for (int i = threadIdx.x; i < K; i += kThreads) x[row][i] = FromFloat<bf16>(0.0f);
    } else if (p.norm_weight == nullptr) {
      const uint4* in =
          reinterpret_cast<const uint4*>(static_cast<const bf16*>(p.in) + int64_t{row} * K);
      for (int i = threadIdx.x; i < K / 8; i += kThreads)
        reinterpret_cast<uint4*>(x[row])[i] = in[i];
    } else {
      const float* in = static_cast<const float*>(p.in) + int64_t{row} * K;
      float sum = 0.0f;
      for (int i = threadIdx.x; i < K; i += kThreads) sum += in[i] * in[i];
      const float factor = rsqrtf(BlockSum(sum, scratch) / static_cast<float>(K) + p.eps);
      for (int i = threadIdx.x; i < K; i += kThreads) {
        x[row][i] = FromFloat<bf16>(in[i] * factor * p.norm_weight[i]);
      }
    }
  }
  __syncthreads();
}

__device__ __forceinline__ float Dot8(const uint4& a, const uint4& b, float sum) {
  const uint32_t left[4] = {a.x, a.y, a.z, a.w};
  const uint32_t right[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 x = UnpackBf16(left[i]);
    const float2 y = UnpackBf16(right[i]);
    sum += x.x * y.x;
    sum += x.y * y.y;
  }
  return sum;
}

// y[o] for one row of x is complete in every lane; lane 0 stores it.
template <int kOut>
__device__ __forceinline__ void StoreRow(const GemvParams& p, int row, int pair, float* y) {
  const int step = p.swiglu ? p.n / 2 : 1;
  const int first = p.swiglu ? pair : pair * kOut;
  for (int o = 0; o < kOut; ++o) {
    if (p.bias != nullptr && first + o * step < p.n) y[o] += p.bias[first + o * step];
  }
  if (p.swiglu) {
    if constexpr (kOut == 2) {
      bf16* out = static_cast<bf16*>(p.out) + int64_t{row} * (p.n / 2);
      // Rounded as the unfused GEMM rounds its output.
      const float value = ToFloat(FromFloat<bf16>(y[0]));
      out[first] = FromFloat<bf16>(value * Silu(ToFloat(FromFloat<bf16>(y[1]))));
    }
    return;
  }
  for (int o = 0; o < kOut; ++o) {
    if (first + o >= p.n) continue;
    const int64_t at = int64_t{row} * p.n + first + o;
    if (p.accumulate) {
      static_cast<float*>(p.out)[at] += y[o];
    } else {
      static_cast<bf16*>(p.out)[at] = FromFloat<bf16>(y[o]);
    }
  }
}

template <int R, int kVectors, int kOut>
__global__ void __launch_bounds__(kThreads) GemvKernel(GemvParams p) {
  constexpr int K = kVectors * 256;
  __shared__ alignas(16) bf16 x[R][K];
  __shared__ float scratch[32];
  const int lane = threadIdx.x % 32;
  const int pair = blockIdx.x * kWarps + threadIdx.x / 32;
  const int step = p.swiglu ? p.n / 2 : 1;
  const int first = p.swiglu ? pair : pair * kOut;
  uint4 weights[kOut][kVectors];
#pragma unroll
  for (int o = 0; o < kOut; ++o) {
    const int row = min(first + o * step, p.n - 1);
    const uint4* from =
        reinterpret_cast<const uint4*>(static_cast<const bf16*>(p.weight) + int64_t{row} * K);
#pragma unroll
    for (int i = 0; i < kVectors; ++i) weights[o][i] = __ldcs(from + i * 32 + lane);
  }
  WaitForPrevious();
  LetNextStart();
  StageInput<R, K>(p, x, scratch);
  if (first >= p.n) return;
#pragma unroll
  for (int row = 0; row < R; ++row) {
    if (row >= p.rows) break;
    float y[kOut] = {};
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      const uint4 xs = reinterpret_cast<const uint4*>(x[row])[i * 32 + lane];
#pragma unroll
      for (int o = 0; o < kOut; ++o) y[o] = Dot8(weights[o][i], xs, y[o]);
    }
#pragma unroll
    for (int o = 0; o < kOut; ++o) y[o] = WarpSum(y[o]);
    if (lane == 0) StoreRow<kOut>(p, row, pair, y);
  }
}

template <int kVectors, int kOut>
cudaError_t LaunchGemv(const GemvParams& p, cudaStream_t stream) {
  const int pairs = p.swiglu ? p.n / 2 : (p.n + kOut - 1) / kOut;
  const int blocks = (pairs + kWarps - 1) / kWarps;
  return LaunchOverlapped(p.rows == 1 ? GemvKernel<1, kVectors, kOut>
                                      : GemvKernel<kMaxRows, kVectors, kOut>,
                          blocks, kThreads, p, stream);
}

}  // namespace

bool GemvSupports(const GemvParams& p) {
  const bool width = p.k == 1024 || p.k == 1792 || p.k == 2048 || p.k == 3584;
  return width && p.rows <= kMaxRows && !(p.swiglu && (p.k == 3584 || p.accumulate));
}

cudaError_t Gemv(const GemvParams& p, cudaStream_t stream) {
  switch (p.k) {
    case 1024: return LaunchGemv<4, 2>(p, stream);
    case 1792: return LaunchGemv<7, 2>(p, stream);
    case 2048: return LaunchGemv<8, 2>(p, stream);
    case 3584: return LaunchGemv<14, 1>(p, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace based::cuda
