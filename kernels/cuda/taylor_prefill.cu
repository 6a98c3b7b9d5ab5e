// Taylor linear attention over spans of any length, from any state, on tensor cores. Equation in
// kernels/program.h, state and folding in taylor_state.cuh.
//
// A block owns one head of one span and half of its value columns, and walks the tokens in chunks
// of 160: 10 warps of 16 query rows, 10 tiles of 16 features, 10 steps of 16 tokens. Per chunk
//   out  = phi(Q) S + tril(1 + s + s^2/2) V      S as bf16, products in fp32
//   den  = phi(Q) z + row sums                   fp32 throughout
//   S   += phi(K)^T V                            phi(K) as a high and a low bf16 part; the chunk's
//   sum
//                                                is added once to the fp32 state, which never
//                                                leaves registers: warp w holds features [16 w, 16
//                                                w + 16)
// The unfolded tokens of the ring come first in the stream of tokens, without queries; the tokens
// after the last fold point stay out of S. Feature tiles are cyclic shifts of q, so that fragments
// are made in registers.
//
// Arithmetic per token and head at E = 112: 160 features read out, written twice (high, low), and
// on average 80 + 8 keys: 2 * 112 * (160 + 320 + 88) + 2 * 16 * 88 = 130 kFLOP; (4, 8192, 16, 112)
// is 68 GFLOP, 0.09 ms at 796 TFLOP/s; bytes 4.6 KB + 3.6 KB a token, 0.09 ms at 3.0 TB/s. Grid:
// (2, H, spans).
#include "kernels/cuda/taylor_state.cuh"
#include "kernels/cuda/tensor_core.cuh"

namespace based::cuda {
namespace {

constexpr int kF = 16;
constexpr int kP = FeatureCount(kF);
constexpr int kWarps = 10;
constexpr int kThreads = 32 * kWarps;
constexpr int kChunk = 16 * kWarps;
constexpr int kSplits = 2;
constexpr int kKeyStride = 24;             // of a key row: no bank conflicts
constexpr int kTransposedStride = kChunk + 8;
constexpr int kConstTile = kWarps - 1;  // features 144..159: shift 8, then the constant, then none

template <int E>
struct Shape {
  static constexpr int kColumns = E / kSplits;
  static constexpr int kTiles = kColumns / 8;
  static constexpr int kStride = kColumns % 16 == 8 ? kColumns : kColumns + 8;
};

template <int E>
struct alignas(128) Shared {
  bf16 v[2][kChunk][Shape<E>::kStride];
  bf16 k[2][kChunk][kKeyStride];
  bf16 s[kChunk][Shape<E>::kStride];           // features x columns
  bf16 k_transposed[kF + 1][kTransposedStride];  // last row: 1 for tokens to fold, else 0
  float z[kChunk];
};

struct Stream {
  int64_t base;   // tokens in S on entry; token u of the stream is base + u
  int held;       // the first tokens, which lie in the ring
  int total;      // tokens
  int foldable;   // tokens before the last fold point
  int base_row;   // ring row of the first
};

// The block's span, head and columns.
struct Work {
  TaylorSlot<bf16> slot;
  const bf16* query;  // of the span's first row
  const bf16* key;
  const bf16* value;  // of this block's columns
  bf16* out;
  int width;          // of an input row
  int out_width;
  int column;         // first value column
};

// Where the chunk that starts at `first` ends. The last fold point must not lie inside a chunk
// other than the last: what is not folded must not be needed from S.
__device__ __forceinline__ int ChunkEnd(const Stream& stream, int first) {
  const int end = min(first + kChunk, stream.total);
  if (end < stream.total && first < stream.foldable && stream.foldable < end) {
    return stream.foldable;
  }
  return end;
}

template <int E>
__device__ void LoadChunk(const TaylorParams& p, const Work& work, const Stream& stream, int first,
                          int end, int stage, Shared<E>& shared) {
  constexpr int kValueParts = Shape<E>::kColumns / 8;
  constexpr int kParts = 2 + kValueParts;
  for (int i = threadIdx.x; i < kChunk * kParts; i += kThreads) {
    const int t = i / kParts;
    const int part = i % kParts;
    const int u = first + t;
    const bool valid = u < end;
    int ring = stream.base_row + u;
    if (ring >= p.ring_rows) ring -= p.ring_rows;
    const bool in_ring = u < stream.held;
    const int64_t row = u - stream.held;
    if (part < 2) {
      const bf16* from = in_ring ? work.slot.ring_k + ring * kF : work.key + row * work.width;
      CopyAsync16(&shared.k[stage][t][part * 8], valid ? from + part * 8 : work.key, valid);
    } else {
      const bf16* from = in_ring ? work.slot.ring_v + ring * E + work.column
                                 : work.value + row * work.width;
      CopyAsync16(&shared.v[stage][t][(part - 2) * 8], valid ? from + (part - 2) * 8 : work.value,
                  valid);
    }
  }
  CopyAsyncCommit();
}

// Keys by feature, zero from the fold point on.
template <int E>
__device__ void TransposeKeys(const Stream& stream, int first, int stage, Shared<E>& shared) {
  const int t = threadIdx.x % kChunk;
  const int half = threadIdx.x / kChunk;
  const bool folds = first + t < stream.foldable;
  const auto keys = *reinterpret_cast<const Vec<bf16, 8>*>(&shared.k[stage][t][half * 8]);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    shared.k_transposed[half * 8 + i][t] = folds ? keys.at[i] : FromFloat<bf16>(0.0f);
  }
  if (half == 0) shared.k_transposed[kF][t] = FromFloat<bf16>(folds ? 1.0f : 0.0f);
}

// A row of q, rotated so that element m is q[(2c + m) % 16].
struct Query {
  uint32_t words[8];
  __device__ float at(int m) const {
    const float2 pair = UnpackBf16(words[(m % 16) / 2]);
    return m % 2 == 0 ? pair.x : pair.y;
  }
};

__device__ __forceinline__ Query LoadQuery(const Work& work, const Stream& stream, int u, int end) {
  Query q = {};
  if (u < stream.held || u >= end) return q;
  const uint32_t* from =
      reinterpret_cast<const uint32_t*>(work.query + int64_t{u - stream.held} * work.width);
  const int c = threadIdx.x % 4;
#pragma unroll
  for (int m = 0; m < 8; ++m) q.words[m] = from[(c + m) % 8];
  return q;
}

// Features 2c, 2c + 1, 2c + 8, 2c + 9 of feature tile `tile` of a query.
__device__ __forceinline__ void QueryTile(const Query& q, int tile, float (&f)[4]) {
  constexpr float kA = 0.25f;  // 1 / sqrt(16)
  if (tile == 0) {
    f[0] = q.at(0) * kA;
    f[1] = q.at(1) * kA;
    f[2] = q.at(8) * kA;
    f[3] = q.at(9) * kA;
    return;
  }
  const int shift = tile - 1;
  const float scale = shift == 0 ? 0.5f * kA * kA : kA * kA;
  f[0] = q.at(0) * q.at(shift) * scale;
  f[1] = q.at(1) * q.at(1 + shift) * scale;
  if (tile == kConstTile) {
    f[2] = threadIdx.x % 4 == 0 ? 1.0f : 0.0f;
    f[3] = 0.0f;
    return;
  }
  f[2] = q.at(8) * q.at(8 + shift) * scale;
  f[3] = q.at(9) * q.at(9 + shift) * scale;
}

// out += phi(Q) S ; den += phi(Q) z, for this warp's 16 rows.
template <int E>
__device__ __forceinline__ void ReadState(const Query (&q)[2], const Shared<E>& shared,
                                          float (&out)[Shape<E>::kTiles][4], float (&den)[2]) {
  const int c = threadIdx.x % 4;
#pragma unroll
  for (int tile = 0; tile < kWarps; ++tile) {
    float low[4];
    float high[4];
    QueryTile(q[0], tile, low);
    QueryTile(q[1], tile, high);
    const float2 z0 = *reinterpret_cast<const float2*>(&shared.z[tile * 16 + 2 * c]);
    const float2 z1 = *reinterpret_cast<const float2*>(&shared.z[tile * 16 + 2 * c + 8]);
    den[0] += low[0] * z0.x + low[1] * z0.y + low[2] * z1.x + low[3] * z1.y;
    den[1] += high[0] * z0.x + high[1] * z0.y + high[2] * z1.x + high[3] * z1.y;
    const uint32_t a[4] = {PackBf16(low[0], low[1]), PackBf16(high[0], high[1]),
                           PackBf16(low[2], low[3]), PackBf16(high[2], high[3])};
    MmaRow<Shape<E>::kTiles>(out, a, &shared.s[tile * 16][0], Shape<E>::kStride);
  }
}

// 1 + s + s^2/2 of this warp's rows and 8 keys, zero for keys after the row.
__device__ __forceinline__ void Scores(const uint32_t (&q)[4], const bf16* key, int column, int row,
                                       float (&w)[4]) {
  const int c = threadIdx.x % 4;
  const uint32_t* words = reinterpret_cast<const uint32_t*>(key);
  float s[4] = {};
  Mma(s, q, words[c], words[c + 4]);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float x = 0.25f * s[i];
    const bool seen = column + i % 2 <= row + i / 2 * 8;
    w[i] = seen ? 1.0f + x + 0.5f * x * x : 0.0f;
  }
}

// out += tril(W) V ; den += row sums, over the chunk's tokens up to this warp's.
template <int E>
__device__ __forceinline__ void ReadChunk(const Query (&q)[2], int stage, const Shared<E>& shared,
                                          float (&out)[Shape<E>::kTiles][4], float (&den)[2]) {
  const int warp = threadIdx.x / 32;
  const int g = threadIdx.x % 32 / 4;
  const int c = threadIdx.x % 4;
  const uint32_t raw[4] = {q[0].words[0], q[1].words[0], q[0].words[4], q[1].words[4]};
  const int row = warp * 16 + g;
  for (int tile = 0; tile <= warp; ++tile) {
    const int first = tile * 16;
    float w0[4];
    float w1[4];
    Scores(raw, &shared.k[stage][first + g][0], first + 2 * c, row, w0);
    Scores(raw, &shared.k[stage][first + 8 + g][0], first + 8 + 2 * c, row, w1);
    den[0] += w0[0] + w0[1] + w1[0] + w1[1];
    den[1] += w0[2] + w0[3] + w1[2] + w1[3];
    const uint32_t a[4] = {PackBf16(w0[0], w0[1]), PackBf16(w0[2], w0[3]), PackBf16(w1[0], w1[1]),
                           PackBf16(w1[2], w1[3])};
    MmaRow<Shape<E>::kTiles>(out, a, &shared.v[stage][first][0], Shape<E>::kStride);
  }
}

// phi of the keys of two tokens at feature i of this warp's tile; `t` is even.
template <int E>
__device__ __forceinline__ float2 KeyPair(const Shared<E>& shared, int warp, int i, int t) {
  const auto load = [&](int row) {
    return UnpackBf16(*reinterpret_cast<const uint32_t*>(&shared.k_transposed[row][t]));
  };
  if (warp == kConstTile && i >= 8) return i == 8 ? load(kF) : make_float2(0.0f, 0.0f);
  const float2 a = load(i);
  if (warp == 0) return a;
  const float2 b = load((i + warp - 1) % kF);
  return make_float2(a.x * b.x, a.y * b.y);
}

__device__ __forceinline__ void SplitBf16(float2 x, uint32_t* high, uint32_t* low) {
  *high = PackBf16(x.x, x.y);
  const float2 rounded = UnpackBf16(*high);
  *low = PackBf16(x.x - rounded.x, x.y - rounded.y);
}

// S += phi(K)^T V and z += phi(K)^T 1 for this warp's 16 features.
template <int E>
__device__ __forceinline__ void UpdateState(int stage, int tokens, const Shared<E>& shared,
                                            float (&state)[Shape<E>::kTiles][4], float (&z)[2]) {
  const int warp = threadIdx.x / 32;
  const int g = threadIdx.x % 32 / 4;
  const int c = threadIdx.x % 4;
  float added[Shape<E>::kTiles][4] = {};
  float sum[2] = {};
  for (int first = 0; first < tokens; first += 16) {
    uint32_t high[4];
    uint32_t low[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 x = KeyPair(shared, warp, g + i % 2 * 8, first + i / 2 * 8 + 2 * c);
      sum[i % 2] += x.x + x.y;
      SplitBf16(x, &high[i], &low[i]);
    }
    const bf16* v = &shared.v[stage][first][0];
    MmaRow<Shape<E>::kTiles>(added, high, v, Shape<E>::kStride);
    if (warp != 0) MmaRow<Shape<E>::kTiles>(added, low, v, Shape<E>::kStride);
  }
#pragma unroll
  for (int n = 0; n < Shape<E>::kTiles; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) state[n][i] += added[n][i];
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], 1);
    sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], 2);
    z[i] += sum[i];
  }
}

// This warp's features to and from the slot; features beyond kP do not exist.
template <int E, bool kStore>
__device__ __forceinline__ void MoveState(const Work& work, float (&state)[Shape<E>::kTiles][4]) {
  const int g = threadIdx.x % 32 / 4;
  const int c = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int f = threadIdx.x / 32 * 16 + g + i * 8;
    if (f >= kP) continue;
    float* row = work.slot.s + f * E + work.column + 2 * c;
#pragma unroll
    for (int n = 0; n < Shape<E>::kTiles; ++n) {
      float2* at = reinterpret_cast<float2*>(row + n * 8);
      if constexpr (kStore) {
        *at = make_float2(state[n][2 * i], state[n][2 * i + 1]);
      } else {
        const float2 x = *at;
        state[n][2 * i] = x.x;
        state[n][2 * i + 1] = x.y;
      }
    }
  }
}

// State as the chunk's readers want it.
template <int E>
__device__ __forceinline__ void PublishState(const float (&state)[Shape<E>::kTiles][4],
                                             const float (&z)[2], float count, Shared<E>& shared) {
  const int g = threadIdx.x % 32 / 4;
  const int c = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int f = threadIdx.x / 32 * 16 + g + i * 8;
#pragma unroll
    for (int n = 0; n < Shape<E>::kTiles; ++n) {
      *reinterpret_cast<uint32_t*>(&shared.s[f][n * 8 + 2 * c]) =
          PackBf16(state[n][2 * i], state[n][2 * i + 1]);
    }
    if (c == 0) shared.z[f] = f == kP - 1 ? count : z[i];
  }
}

template <int E>
__device__ __forceinline__ void StoreOutput(const TaylorParams& p, const Work& work,
                                            const Stream& stream, int first, int end,
                                            const float (&out)[Shape<E>::kTiles][4],
                                            float (&den)[2]) {
  const int g = threadIdx.x % 32 / 4;
  const int c = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    den[i] += __shfl_xor_sync(0xffffffffu, den[i], 1);
    den[i] += __shfl_xor_sync(0xffffffffu, den[i], 2);
    const int u = first + threadIdx.x / 32 * 16 + g + i * 8;
    if (u < stream.held || u >= end) continue;
    const float scale = 1.0f / (den[i] + p.eps);
    bf16* row = work.out + int64_t{u - stream.held} * work.out_width + 2 * c;
#pragma unroll
    for (int n = 0; n < Shape<E>::kTiles; ++n) {
      *reinterpret_cast<uint32_t*>(row + n * 8) =
          PackBf16(out[n][2 * i] * scale, out[n][2 * i + 1] * scale);
    }
  }
}

template <int E>
__device__ Work GetWork(const TaylorParams& p, const DeviceSpan& span, int head, int split) {
  Work work;
  work.slot = GetTaylorSlot<bf16>(p, span.slot, head);
  work.width = p.heads * (2 * kF + E);
  work.out_width = p.heads * E;
  work.column = split * Shape<E>::kColumns;
  const bf16* in = static_cast<const bf16*>(p.in) + int64_t{span.row} * work.width;
  work.query = in + head * kF;
  work.key = in + (p.heads + head) * kF;
  work.value = in + 2 * p.heads * kF + head * E + work.column;
  work.out =
      static_cast<bf16*>(p.out) + int64_t{span.row} * work.out_width + head * E + work.column;
  return work;
}

__device__ Stream GetStream(const TaylorParams& p, const DeviceSpan& span, int head) {
  const FoldRange range =
      GetFoldRange(p, head, span.fold_position, span.position + span.length - 1);
  Stream stream;
  stream.base = range.old_base;
  stream.held = static_cast<int>(span.position - range.old_base);
  stream.total = stream.held + span.length;
  stream.foldable = static_cast<int>(range.new_base - range.old_base);
  stream.base_row = static_cast<int>(range.old_base % p.ring_rows);
  return stream;
}

template <int E>
__global__ void __launch_bounds__(kThreads, 2) TaylorPrefillKernel(TaylorParams p) {
  extern __shared__ char memory[];
  Shared<E>& shared = *reinterpret_cast<Shared<E>*>(memory);
  const int head = blockIdx.y;
  const DeviceSpan span = p.spans[blockIdx.z];
  if (span.slot < 0) return;
  const Work work = GetWork<E>(p, span, head, blockIdx.x);
  const Stream stream = GetStream(p, span, head);
  const int warp = threadIdx.x / 32;
  const int g = threadIdx.x % 32 / 4;

  LoadChunk<E>(p, work, stream, 0, ChunkEnd(stream, 0), 0, shared);
  float state[Shape<E>::kTiles][4] = {};
  MoveState<E, false>(work, state);
  float z[2] = {work.slot.z[min(warp * 16 + g, kP - 1)],
                warp * 16 + g + 8 < kP ? work.slot.z[warp * 16 + g + 8] : 0.0f};
  int stage = 0;
  for (int first = 0; first < stream.total; stage ^= 1) {
    const int end = ChunkEnd(stream, first);
    CopyAsyncWait<0>();
    __syncthreads();
    TransposeKeys<E>(stream, first, stage, shared);
    const int64_t count = stream.base + min(first, stream.foldable);
    PublishState<E>(state, z, static_cast<float>(count), shared);
    __syncthreads();
    if (end < stream.total) {
      LoadChunk<E>(p, work, stream, end, ChunkEnd(stream, end), stage ^ 1, shared);
    }
    const int row = first + warp * 16 + g;
    if (first + warp * 16 < end) {
      const Query q[2] = {LoadQuery(work, stream, row, end), LoadQuery(work, stream, row + 8, end)};
      float out[Shape<E>::kTiles][4] = {};
      float den[2] = {};
      ReadState<E>(q, shared, out, den);
      ReadChunk<E>(q, stage, shared, out, den);
      StoreOutput<E>(p, work, stream, first, end, out, den);
    }
    const int foldable = min(end, stream.foldable) - first;
    if (foldable > 0) UpdateState<E>(stage, foldable, shared, state, z);
    first = end;
  }
  if (stream.foldable == 0) return;
  MoveState<E, true>(work, state);
  if (blockIdx.x == 0 && threadIdx.x % 4 == 0) {
    float* scratch = p.scratch_z + (int64_t{blockIdx.z} * p.heads + head) * p.z_stride;
    scratch[warp * 16 + g] = z[0];
    if (warp * 16 + g + 8 < kP) scratch[warp * 16 + g + 8] = z[1];
  }
}

// Once all blocks of a span are done with the old ring and z: the span's last tokens into the ring,
// the new z into the slot. Grid: (H, spans).
template <int E>
__global__ void TaylorFinishKernel(TaylorParams p) {
  const int head = blockIdx.x;
  const DeviceSpan span = p.spans[blockIdx.y];
  if (span.slot < 0) return;
  const Work work = GetWork<E>(p, span, head, 0);
  for (int i = max(0, span.length - p.ring_rows); i < span.length; ++i) {
    const int ring = static_cast<int>((span.position + i) % p.ring_rows);
    for (int j = threadIdx.x; j < kF; j += blockDim.x) {
      work.slot.ring_k[ring * kF + j] = work.key[int64_t{i} * work.width + j];
    }
    for (int j = threadIdx.x; j < E; j += blockDim.x) {
      work.slot.ring_v[ring * E + j] = work.value[int64_t{i} * work.width + j];
    }
  }
  if (GetStream(p, span, head).foldable == 0) return;
  const float* scratch = p.scratch_z + (int64_t{blockIdx.y} * p.heads + head) * p.z_stride;
  for (int f = threadIdx.x; f < kP - 1; f += blockDim.x) work.slot.z[f] = scratch[f];
}

template <int E>
cudaError_t LaunchPrefill(const TaylorParams& p, cudaStream_t stream) {
  constexpr int kBytes = static_cast<int>(sizeof(Shared<E>));
  const cudaError_t error = cudaFuncSetAttribute(
      TaylorPrefillKernel<E>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (error != cudaSuccess) return error;
  TaylorPrefillKernel<E>
      <<<dim3(kSplits, p.heads, p.span_count), kThreads, kBytes, stream>>>(p);
  TaylorFinishKernel<E><<<dim3(p.heads, p.span_count), 128, 0, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace

bool TaylorPrefillSupports(const TaylorParams& p) {
  return p.act == Type::kBF16 && p.feature_dim == kF && (p.head_dim == 64 || p.head_dim == 112);
}

cudaError_t TaylorPrefill(const TaylorParams& p, cudaStream_t stream) {
  if (p.span_count == 0) return cudaSuccess;
  return p.head_dim == 64 ? LaunchPrefill<64>(p, stream) : LaunchPrefill<112>(p, stream);
}

}  // namespace based::cuda
