// One decode step of sliding-window attention over the ring (kernels/program.h, WindowMixOp).
//
// Bound by memory: (W + 1) rows of k and v, 57.3 KB a head at E = 112 and W = 128 in bf16; 6.4 MB
// per sequence of 7 x 16 heads, so 2.1 ms at 1,024 rows and 3.1 TB/s. Arithmetic: 2 FLOPs an
// element. Reached on an NVIDIA H100 80GB HBM3: 2.23 ms, 2.99 TB/s.
//
// Grid: (H, spans). A thread owns one 16-byte column of every kRows-th ring row, of k and then of
// v, so that all of k, then all of v, is in flight at once.
#include "kernels/cuda/overlapped_launch.cuh"
#include "kernels/cuda/window_ring.cuh"

namespace based::cuda {
namespace {

constexpr int kMaxPast = 128;  // ring rows that one pass holds in registers

template <int E>
struct Shape {
  static constexpr int kLanes = E / 8;
  static constexpr int kThreads = 128;
  static constexpr int kRows = kThreads / kLanes;
  static constexpr int kPasses = (kMaxPast + kRows - 1) / kRows;
};

template <int E>
struct alignas(16) Shared {
  float q[E];
  float k[E];
  float dots[kMaxPast][Shape<E>::kLanes + 1];
  float score[kMaxPast + 1];
  float partial[Shape<E>::kRows][E];
  float scratch[32];
};

__device__ __forceinline__ float Dot8(const uint4& bits, const float* q) {
  const float2 a = UnpackBf16(bits.x);
  const float2 b = UnpackBf16(bits.y);
  const float2 c = UnpackBf16(bits.z);
  const float2 d = UnpackBf16(bits.w);
  return a.x * q[0] + a.y * q[1] + b.x * q[2] + b.y * q[3] + c.x * q[4] + c.y * q[5] + d.x * q[6] +
         d.y * q[7];
}

__device__ __forceinline__ void Add8(float* sum, float scale, const uint4& bits) {
  const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = UnpackBf16(words[i]);
    sum[2 * i] += scale * pair.x;
    sum[2 * i + 1] += scale * pair.y;
  }
}

template <int E>
__device__ __forceinline__ void LoadRing(const bf16* ring, int first, int past, int ring_rows,
                                         int group, int lane, uint4* to) {
  using Sh = Shape<E>;
#pragma unroll
  for (int i = 0; i < Sh::kPasses; ++i) {
    const int j = i * Sh::kRows + group;
    to[i] = make_uint4(0, 0, 0, 0);
    if (j < past) {
      const int row = first + j >= ring_rows ? first + j - ring_rows : first + j;
      to[i] = __ldcs(reinterpret_cast<const uint4*>(ring + row * E) + lane);
    }
  }
}

template <int E>
__global__ void __launch_bounds__(128, 5) WindowDecodeKernel(WindowParams p) {
  using Sh = Shape<E>;
  __shared__ Shared<E> shared;
  const int head = blockIdx.x;
  const DeviceSpan span = p.spans[blockIdx.y];
  if (span.slot < 0) {
    WaitForPrevious();
    return;
  }
  const WindowSlot<bf16> slot = GetWindowSlot<bf16>(p, span.slot, head);
  const int lane = threadIdx.x % Sh::kLanes;
  const int group = threadIdx.x / Sh::kLanes;
  const bool active = group < Sh::kRows;
  const int model = p.heads * E;
  const int past = static_cast<int>(min(span.position, int64_t{p.window_left}));
  const int first = static_cast<int>((span.position - past) % p.ring_rows);
  const int limit = active ? past : 0;

  uint4 rows[Sh::kPasses];
  LoadRing<E>(slot.k, first, limit, p.ring_rows, group, lane, rows);

  // The past keys are on their way before this; no other kernel of the step touches them.
  WaitForPrevious();
  LetNextStart();
  const bf16* query = static_cast<const bf16*>(p.in) + int64_t{span.row} * 3 * model + head * E;
  const bf16* value = query + 2 * model;
  const float2* rope = p.rope + int64_t{span.row} * (E / 2);
  for (int i = threadIdx.x; i < E; i += Sh::kThreads) {
    shared.q[i] = Rotated(query, rope, i, E / 2) * p.scale;
    shared.k[i] = ToFloat(FromFloat<bf16>(Rotated(query + model, rope, i, E / 2)));
  }
  __syncthreads();
  if (active) {
    float q[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) q[i] = shared.q[lane * 8 + i];
#pragma unroll
    for (int i = 0; i < Sh::kPasses; ++i) {
      const int j = i * Sh::kRows + group;
      if (j < past) shared.dots[j][lane] = Dot8(rows[i], q);
    }
  }
  // The values are on their way while the softmax is computed.
  LoadRing<E>(slot.v, first, limit, p.ring_rows, group, lane, rows);
  __syncthreads();

  float best = -INFINITY;
  for (int j = threadIdx.x; j <= past; j += Sh::kThreads) {
    float dot = 0.0f;
    if (j == past) {
      for (int e = 0; e < E; ++e) dot += shared.q[e] * shared.k[e];
    } else {
#pragma unroll
      for (int i = 0; i < Sh::kLanes; ++i) dot += shared.dots[j][i];
    }
    shared.score[j] = dot;
    best = fmaxf(best, dot);
  }
  best = BlockMax(best, shared.scratch);
  float sum = 0.0f;
  for (int j = threadIdx.x; j <= past; j += Sh::kThreads) {
    shared.score[j] = __expf(shared.score[j] - best);
    sum += shared.score[j];
  }
  sum = BlockSum(sum, shared.scratch);

  if (active) {
    float total[8] = {};
#pragma unroll
    for (int i = 0; i < Sh::kPasses; ++i) {
      const int j = i * Sh::kRows + group;
      if (j < past) Add8(total, shared.score[j], rows[i]);
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) shared.partial[group][lane * 8 + i] = total[i];
  }
  __syncthreads();
  bf16* out = static_cast<bf16*>(p.out) + int64_t{span.row} * model + head * E;
  const int64_t newest = (span.position % p.ring_rows) * E;
  for (int e = threadIdx.x; e < E; e += Sh::kThreads) {
    float total = shared.score[past] * ToFloat(value[e]);
#pragma unroll
    for (int g = 0; g < Sh::kRows; ++g) total += shared.partial[g][e];
    out[e] = FromFloat<bf16>(total / sum);
    slot.k[newest + e] = FromFloat<bf16>(shared.k[e]);
    slot.v[newest + e] = value[e];
  }
}

}  // namespace

bool WindowDecodeSupports(const WindowParams& p) {
  return p.act == Type::kBF16 && (p.head_dim == 64 || p.head_dim == 112) &&
         p.window_left <= kMaxPast && p.ring_rows > p.window_left;
}

cudaError_t WindowDecode(const WindowParams& p, cudaStream_t stream) {
  if (p.span_count == 0) return cudaSuccess;
  const dim3 grid(p.heads, p.span_count);
  return LaunchOverlapped(p.head_dim == 64 ? WindowDecodeKernel<64> : WindowDecodeKernel<112>, grid,
                          128, p, stream);
}

}  // namespace based::cuda
