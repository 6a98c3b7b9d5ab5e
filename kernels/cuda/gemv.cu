// Linear layers for 1 to 4 rows: W is streamed once at memory speed, x waits in shared memory.
//
// Bound by memory: 2 n k bytes, 25.7 MB for the largest layer of the 1.3B shape: 8.3 us at 3.1
// TB/s. RMSNorm in front and bias, SwiGLU or the residual behind are fused, which removes a launch
// each. Arithmetic: 2 FLOPs a weight and row. Reached on an NVIDIA H100 80GB HBM3: 14.5 us alone;
// in a step of one row, where loads of the next layer overlap, 2.2 TB/s over all layers.
//
// Grid: groups of output rows. A warp owns one segment of one row of W and has all of it in flight
// before it looks at x, and before the kernel in front has finished. Small blocks, many to a
// multiprocessor, keep memory busy while others stage x.
#include "kernels/cuda/device_types.cuh"
#include "kernels/cuda/overlapped_launch.cuh"

namespace based::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kMaxRows = 4;

// kVectors 16-byte loads per lane make a segment; kSegments make a row.
template <int kVectors, int kSegments>
struct Shape {
  static constexpr int kSegment = kVectors * 256;
  static constexpr int kK = kSegment * kSegments;
  static constexpr int kOutputs = kWarps / kSegments;  // rows of W per block
};

template <int R, int K>
struct alignas(16) Shared {
  bf16 x[R][K];
  float y[R][kWarps];
  float squares[R][kWarps];  // of x before its norm
};

// x of every row as bf16 into shared memory. With a fused norm that is x times the norm's weight;
// the factor of the row, known a barrier later, is applied to the result.
template <int R, int K>
__device__ __forceinline__ void StageInput(const GemvParams& p, Shared<R, K>& shared) {
  constexpr int kPerThread = K / kThreads;
#pragma unroll
  for (int row = 0; row < R; ++row) {
    if (row >= p.rows) {
      for (int i = threadIdx.x; i < K; i += kThreads) shared.x[row][i] = FromFloat<bf16>(0.0f);
    } else if (p.norm_weight == nullptr) {
      const auto* in =
          reinterpret_cast<const uint4*>(static_cast<const bf16*>(p.in) + int64_t{row} * K);
      auto* x = reinterpret_cast<uint4*>(shared.x[row]);
      for (int i = threadIdx.x; i < K / 8; i += kThreads) x[i] = in[i];
    } else {
      const float* in = static_cast<const float*>(p.in) + int64_t{row} * K;
      float sum = 0.0f;
#pragma unroll
      for (int i = 0; i < kPerThread; ++i) {
        const int at = i * kThreads + threadIdx.x;
        const float value = in[at];
        sum += value * value;
        shared.x[row][at] = FromFloat<bf16>(value * p.norm_weight[at]);
      }
      sum = WarpSum(sum);
      if (threadIdx.x % 32 == 0) shared.squares[row][threadIdx.x / 32] = sum;
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

// Row of W of a block's output `o`. With SwiGLU the first half of a block's outputs are values, the
// second their gates.
template <int kOutputs>
__device__ __forceinline__ int WeightRow(const GemvParams& p, int o) {
  if (!p.swiglu) return blockIdx.x * kOutputs + o;
  constexpr int kPairs = kOutputs / 2;
  const int pair = blockIdx.x * kPairs + o % kPairs;
  return o < kPairs ? pair : pair + p.n / 2;
}

// Output o of one row of x, all of its segments summed, with its bias.
template <int R, int K, int kSegments>
__device__ __forceinline__ float Finished(const GemvParams& p, const Shared<R, K>& shared, int row,
                                          int o) {
  float y = 0.0f;
#pragma unroll
  for (int s = 0; s < kSegments; ++s) y += shared.y[row][o * kSegments + s];
  if (p.norm_weight != nullptr) {
    float sum = 0.0f;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) sum += shared.squares[row][w];
    y *= rsqrtf(sum / static_cast<float>(K) + p.eps);
  }
  const int n = WeightRow<kWarps / kSegments>(p, o);
  return p.bias != nullptr && n < p.n ? y + p.bias[n] : y;
}

// Thread t finishes one output of one row.
template <int R, int K, int kSegments>
__device__ __forceinline__ void Store(const GemvParams& p, const Shared<R, K>& shared) {
  constexpr int kOutputs = kWarps / kSegments;
  const int row = threadIdx.x / kOutputs;
  const int o = threadIdx.x % kOutputs;
  const int n = WeightRow<kOutputs>(p, o);
  if (row >= R || row >= p.rows || n >= p.n) return;
  const float y = Finished<R, K, kSegments>(p, shared, row, o);
  if (p.swiglu) {
    if (n >= p.n / 2) return;
    const float gate = Finished<R, K, kSegments>(p, shared, row, o + kOutputs / 2);
    // Rounded where the unfused layer rounds.
    const float value = ToFloat(FromFloat<bf16>(y));
    static_cast<bf16*>(p.out)[int64_t{row} * (p.n / 2) + n] =
        FromFloat<bf16>(value * Silu(ToFloat(FromFloat<bf16>(gate))));
  } else if (p.accumulate) {
    static_cast<float*>(p.out)[int64_t{row} * p.n + n] += y;
  } else if (p.out_type == Type::kF32) {
    static_cast<float*>(p.out)[int64_t{row} * p.n + n] = y;
  } else {
    static_cast<bf16*>(p.out)[int64_t{row} * p.n + n] = FromFloat<bf16>(y);
  }
}

template <int R, int kVectors, int kSegments>
__global__ void __launch_bounds__(kThreads, R <= 2 ? 4 : 3) GemvKernel(GemvParams p) {
  using Sh = Shape<kVectors, kSegments>;
  __shared__ Shared<R, Sh::kK> shared;
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int segment = warp % kSegments;
  const int row_of_w = min(WeightRow<Sh::kOutputs>(p, warp / kSegments), p.n - 1);
  const auto* from = reinterpret_cast<const uint4*>(
      static_cast<const bf16*>(p.weight) + int64_t{row_of_w} * Sh::kK + segment * Sh::kSegment);
  uint4 weights[kVectors];
#pragma unroll
  for (int i = 0; i < kVectors; ++i) weights[i] = __ldcs(from + i * 32 + lane);
  WaitForPrevious();
  LetNextStart();
  StageInput<R, Sh::kK>(p, shared);
#pragma unroll
  for (int row = 0; row < R; ++row) {
    const auto* x = reinterpret_cast<const uint4*>(&shared.x[row][segment * Sh::kSegment]);
    float y = 0.0f;
#pragma unroll
    for (int i = 0; i < kVectors; ++i) y = Dot8(weights[i], x[i * 32 + lane], y);
    y = WarpSum(y);
    if (lane == 0) shared.y[row][warp] = y;
  }
  __syncthreads();
  Store<R, Sh::kK, kSegments>(p, shared);
}

template <int kVectors, int kSegments>
cudaError_t LaunchGemv(const GemvParams& p, cudaStream_t stream) {
  constexpr int kOutputs = Shape<kVectors, kSegments>::kOutputs;
  const int blocks = (p.n + kOutputs - 1) / kOutputs;
  const auto kernel = p.rows == 1   ? GemvKernel<1, kVectors, kSegments>
                      : p.rows == 2 ? GemvKernel<2, kVectors, kSegments>
                                    : GemvKernel<kMaxRows, kVectors, kSegments>;
  return LaunchOverlapped(kernel, blocks, kThreads, p, stream);
}

}  // namespace

bool GemvSupports(const GemvParams& p) {
  const bool width = p.k == 1024 || p.k == 1792 || p.k == 2048 || p.k == 3584;
  const bool output = p.swiglu ? p.out_type == Type::kBF16 && !p.accumulate && p.n % kWarps == 0
                               : p.out_type == Type::kF32 || !p.accumulate;
  return width && output && p.rows <= kMaxRows;
}

cudaError_t Gemv(const GemvParams& p, cudaStream_t stream) {
  switch (p.k) {
    case 1024:
      return LaunchGemv<4, 1>(p, stream);
    case 1792:
      return LaunchGemv<7, 1>(p, stream);
    case 2048:
      return LaunchGemv<4, 2>(p, stream);
    case 3584:
      return LaunchGemv<7, 2>(p, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace based::cuda
