// Sliding-window attention over spans of any length on tensor cores, keys before the span taken
// from the ring (kernels/program.h, WindowMixOp).
//
// Blocks of 64 queries walk the W + 64 keys they can see in tiles of 64, with a running softmax in
// fp32. At E = 112 and W = 128 that is 3 tiles: 2 * 2 * 112 * 192 = 86 kFLOP per token and head,
// 9.6 MFLOP per token of 7 x 16 heads against 2.5 GFLOP in GEMMs; bytes 10.8 KB per token and
// layer.
// Reached on an NVIDIA H100 80GB HBM3: 86 us a layer at 8 spans of 512 tokens, 65 TFLOP/s.
//
// Grid: (query tiles, H, spans). Block: 4 warps of 16 queries.
#include "kernels/cuda/tensor_core.cuh"
#include "kernels/cuda/window_ring.cuh"

namespace based::cuda {
namespace {

constexpr int kTile = 64;
constexpr int kThreads = 128;

template <int E>
struct alignas(16) Shared {
  static constexpr int kStride = E + 8;  // no bank conflicts
  bf16 q[kTile][kStride];
  bf16 k[kTile][kStride];
  bf16 v[kTile][kStride];
};

struct Work {
  DeviceSpan span;
  WindowSlot<bf16> slot;
  const bf16* query;  // of the span's first row
  const bf16* key;
  const bf16* value;
  const float2* rope;  // of the span's first row
  int width;           // of an input row
};

template <int E>
__device__ Work GetWork(const WindowParams& p, const DeviceSpan& span, int head) {
  const int model = p.heads * E;
  Work work;
  work.span = span;
  work.slot = GetWindowSlot<bf16>(p, span.slot, head);
  work.width = 3 * model;
  work.query = static_cast<const bf16*>(p.in) + int64_t{span.row} * work.width + head * E;
  work.key = work.query + model;
  work.value = work.key + model;
  work.rope = p.rope + int64_t{span.row} * (E / 2);
  return work;
}

using Vec8 = Vec<bf16, 8>;

// Elements [8 part, 8 part + 8) and their partners E / 2 further of rot(x), scaled.
template <int E>
__device__ __forceinline__ void Rotate8(const bf16* x, const float2* rope, int part, float scale,
                                        Vec8* low, Vec8* high) {
  const Vec8 a = *reinterpret_cast<const Vec8*>(x + part * 8);
  const Vec8 b = *reinterpret_cast<const Vec8*>(x + E / 2 + part * 8);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const float2 r = rope[part * 8 + i];
    const float u = ToFloat(a.at[i]);
    const float w = ToFloat(b.at[i]);
    low->at[i] = FromFloat<bf16>((u * r.x - w * r.y) * scale);
    high->at[i] = FromFloat<bf16>((w * r.x + u * r.y) * scale);
  }
}

// Queries [first, first + 64) of the span, rotated, times scale * log2(e); zero beyond its end.
template <int E>
__device__ void LoadQueries(const WindowParams& p, const Work& work, int first, Shared<E>& shared) {
  constexpr int kParts = E / 16;
  for (int i = threadIdx.x; i < kTile * kParts; i += kThreads) {
    const int row = i / kParts;
    const int part = i % kParts;
    Vec8 low = {};
    Vec8 high = {};
    if (first + row < work.span.length) {
      const int64_t t = first + row;
      Rotate8<E>(work.query + t * work.width, work.rope + t * (E / 2), part,
                 p.scale * 1.4426950408889634f, &low, &high);
    }
    *reinterpret_cast<Vec8*>(&shared.q[row][part * 8]) = low;
    *reinterpret_cast<Vec8*>(&shared.q[row][E / 2 + part * 8]) = high;
  }
}

// Keys and values of the tokens [first, first + 64) that are before `end`, keys rotated.
template <int E>
__device__ void LoadKeys(const WindowParams& p, const Work& work, int64_t first, int64_t end,
                         Shared<E>& shared) {
  constexpr int kParts = E / 16;
  const int start = p.ring_rows > 0 ? static_cast<int>(first % p.ring_rows) : 0;
  for (int i = threadIdx.x; i < kTile * kParts; i += kThreads) {
    const int row = i / kParts;
    const int part = i % kParts;
    const int64_t token = first + row;
    Vec8 k_low = {};
    Vec8 k_high = {};
    Vec8 v_low = {};
    Vec8 v_high = {};
    if (token >= work.span.position && token < end) {
      const int64_t t = token - work.span.position;
      Rotate8<E>(work.key + t * work.width, work.rope + t * (E / 2), part, 1.0f, &k_low, &k_high);
      const bf16* v = work.value + t * work.width;
      v_low = *reinterpret_cast<const Vec8*>(v + part * 8);
      v_high = *reinterpret_cast<const Vec8*>(v + E / 2 + part * 8);
    } else if (token < work.span.position) {
      const int ring = (start + row) % p.ring_rows;
      const bf16* k = work.slot.k + ring * E;
      const bf16* v = work.slot.v + ring * E;
      k_low = *reinterpret_cast<const Vec8*>(k + part * 8);
      k_high = *reinterpret_cast<const Vec8*>(k + E / 2 + part * 8);
      v_low = *reinterpret_cast<const Vec8*>(v + part * 8);
      v_high = *reinterpret_cast<const Vec8*>(v + E / 2 + part * 8);
    }
    *reinterpret_cast<Vec8*>(&shared.k[row][part * 8]) = k_low;
    *reinterpret_cast<Vec8*>(&shared.k[row][E / 2 + part * 8]) = k_high;
    *reinterpret_cast<Vec8*>(&shared.v[row][part * 8]) = v_low;
    *reinterpret_cast<Vec8*>(&shared.v[row][E / 2 + part * 8]) = v_high;
  }
}

// One warp's running softmax: rows g and g + 8 of its 16.
template <int E>
struct Running {
  float out[E / 8][4] = {};
  float max[2] = {-INFINITY, -INFINITY};
  float sum[2] = {};
};

// Scores of the warp's queries against the tile's keys in units of log2; -inf where not seen.
// `offset` is the tile's first token less the token of the warp's first query.
template <int E>
__device__ __forceinline__ void ScoreTile(const Shared<E>& shared, int64_t offset, int window_left,
                                          float (&s)[kTile / 8][4]) {
  const int warp = threadIdx.x / 32;
  const int g = threadIdx.x % 32 / 4;
  const int c = threadIdx.x % 4;
#pragma unroll
  for (int step = 0; step < E / 16; ++step) {
    uint32_t a[4];
    LoadA16x16(a, &shared.q[warp * 16][step * 16], Shared<E>::kStride);
#pragma unroll
    for (int n = 0; n < kTile / 8; n += 2) {
      uint32_t b[4];
      LoadTransposedB16x16(b, &shared.k[n * 8][step * 16], Shared<E>::kStride);
      Mma(s[n], a, b[0], b[1]);
      Mma(s[n + 1], a, b[2], b[3]);
    }
  }
#pragma unroll
  for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int64_t back = g + i / 2 * 8 - (offset + n * 8 + 2 * c + i % 2);
      if (back < 0 || back > window_left) s[n][i] = -INFINITY;
    }
  }
}

template <int E>
__device__ __forceinline__ void Accumulate(const Shared<E>& shared, float (&s)[kTile / 8][4],
                                           Running<E>& running) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float best = running.max[i];
#pragma unroll
    for (int n = 0; n < kTile / 8; ++n) best = fmaxf(best, fmaxf(s[n][2 * i], s[n][2 * i + 1]));
    best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, 1));
    best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, 2));
    const float base = best == -INFINITY ? 0.0f : best;
    const float factor = exp2f(running.max[i] - base);
    running.max[i] = best;
    running.sum[i] *= factor;
#pragma unroll
    for (int n = 0; n < E / 8; ++n) {
      running.out[n][2 * i] *= factor;
      running.out[n][2 * i + 1] *= factor;
    }
#pragma unroll
    for (int n = 0; n < kTile / 8; ++n) {
      s[n][2 * i] = exp2f(s[n][2 * i] - base);
      s[n][2 * i + 1] = exp2f(s[n][2 * i + 1] - base);
      running.sum[i] += s[n][2 * i] + s[n][2 * i + 1];
    }
  }
#pragma unroll
  for (int step = 0; step < kTile / 16; ++step) {
    const float(&low)[4] = s[2 * step];
    const float(&high)[4] = s[2 * step + 1];
    const uint32_t a[4] = {PackBf16(low[0], low[1]), PackBf16(low[2], low[3]),
                           PackBf16(high[0], high[1]), PackBf16(high[2], high[3])};
    const RowB<E / 8> values(&shared.v[step * 16][0], Shared<E>::kStride);
    values.MultiplyAdd(running.out, a);
  }
}

template <int E>
__global__ void __launch_bounds__(kThreads, 3) WindowPrefillKernel(WindowParams p) {
  __shared__ Shared<E> shared;
  const DeviceSpan span = p.spans[blockIdx.z];
  const int first = blockIdx.x * kTile;
  if (span.slot < 0 || first >= span.length) return;
  const int head = blockIdx.y;
  const Work work = GetWork<E>(p, span, head);
  const int warp = threadIdx.x / 32;
  const int g = threadIdx.x % 32 / 4;
  const int c = threadIdx.x % 4;
  LoadQueries<E>(p, work, first, shared);

  const int64_t query = span.position + first;
  const int64_t end = span.position + min(first + kTile, span.length);
  Running<E> running;
  for (int64_t key = max(query - p.window_left, int64_t{0}); key < end; key += kTile) {
    __syncthreads();
    LoadKeys<E>(p, work, key, end, shared);
    __syncthreads();
    float s[kTile / 8][4] = {};
    ScoreTile<E>(shared, key - (query + warp * 16), p.window_left, s);
    Accumulate<E>(shared, s, running);
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float sum = running.sum[i];
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    const int row = first + warp * 16 + g + i * 8;
    if (row >= span.length) continue;
    bf16* out =
        static_cast<bf16*>(p.out) + int64_t{span.row + row} * p.heads * E + head * E + 2 * c;
#pragma unroll
    for (int n = 0; n < E / 8; ++n) {
      *reinterpret_cast<uint32_t*>(out + n * 8) =
          PackBf16(running.out[n][2 * i] / sum, running.out[n][2 * i + 1] / sum);
    }
  }
}

// The span's last tokens into the ring, once all queries have read it. Grid: (H, spans).
template <int E>
__global__ void WindowFinishKernel(WindowParams p) {
  constexpr int kParts = E / 16;
  const DeviceSpan span = p.spans[blockIdx.y];
  if (span.slot < 0) return;
  const Work work = GetWork<E>(p, span, blockIdx.x);
  const int count = min(span.length, p.ring_rows);
  const int first = span.length - count;
  const int start = static_cast<int>((span.position + first) % p.ring_rows);
  for (int i = threadIdx.x; i < count * kParts; i += blockDim.x) {
    const int row = i / kParts;
    const int part = i % kParts;
    const int ring = start + row >= p.ring_rows ? start + row - p.ring_rows : start + row;
    const int64_t t = first + row;
    Vec8 low;
    Vec8 high;
    Rotate8<E>(work.key + t * work.width, work.rope + t * (E / 2), part, 1.0f, &low, &high);
    *reinterpret_cast<Vec8*>(work.slot.k + ring * E + part * 8) = low;
    *reinterpret_cast<Vec8*>(work.slot.k + ring * E + E / 2 + part * 8) = high;
    const bf16* v = work.value + t * work.width;
    *reinterpret_cast<Vec8*>(work.slot.v + ring * E + part * 8) =
        *reinterpret_cast<const Vec8*>(v + part * 8);
    *reinterpret_cast<Vec8*>(work.slot.v + ring * E + E / 2 + part * 8) =
        *reinterpret_cast<const Vec8*>(v + E / 2 + part * 8);
  }
}

template <int E>
cudaError_t LaunchPrefill(const WindowParams& p, int32_t max_length, cudaStream_t stream) {
  const dim3 grid((max_length + kTile - 1) / kTile, p.heads, p.span_count);
  WindowPrefillKernel<E><<<grid, kThreads, 0, stream>>>(p);
  WindowFinishKernel<E><<<dim3(p.heads, p.span_count), 256, 0, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace

bool WindowPrefillSupports(const WindowParams& p) {
  return p.act == Type::kBF16 && (p.head_dim == 64 || p.head_dim == 112) && p.ring_rows > 0;
}

cudaError_t WindowPrefill(const WindowParams& p, int32_t max_length, cudaStream_t stream) {
  if (p.span_count == 0) return cudaSuccess;
  return p.head_dim == 64 ? LaunchPrefill<64>(p, max_length, stream)
                          : LaunchPrefill<112>(p, max_length, stream);
}

}  // namespace based::cuda
