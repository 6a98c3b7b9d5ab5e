// Taylor linear attention over spans of any length, from any state, on tensor cores. Equation in
// kernels/program.h, state and folding in taylor_state.cuh.
//
// A block owns one head of one span and half of its value columns, and walks the tokens in chunks
// of 160: 10 warps of 16 query rows, 10 steps of 16 tokens,
// and at F = 16 10 tiles of 16 features (3 at F = 8). Per chunk
//   [out | den] = phi(Q) [S | z] + tril(1 + s + s^2/2) [V | 1]
//   [S | z]    += phi(K)^T [V | 1]
// phi(Q), S and the scores' polynomial are rounded to bf16 where they are multiplied, z is a high
// and a low part, phi(K) too, so that S gathers full products. A chunk's sum is added once to the
// fp32 state, which stays in registers: warp w holds features [16 w, 16 w + 16). Feature tiles are
// cyclic shifts of q and k, so that fragments are products of registers.
//
// The unfolded tokens of the ring come first in the stream of tokens, without queries; the tokens
// after the last fold point stay out of S.
//
// Arithmetic per token and head at E = 112, of two blocks: 160 features read, 2 * 160 written, on
// average 88 keys, 128 columns with den: 2 * 128 * 568 + 2 * 2 * 16 * 88 = 151 kFLOP; (4, 8192, 16,
// 112) is 79 GFLOP, 0.10 ms at 796 TFLOP/s; bytes 4.6 KB + 3.6 KB a token, 0.09 ms at 3.0 TB/s.
// Reached on an NVIDIA H100 80GB HBM3: (4, 8192, 16, 112) 0.55 ms, (32, 2048, 16, 112) 0.72 ms; the
// chunks of a span follow each other, and few warps hide the latency of fragments.
//
// Grid: (2, H, spans).
#include "kernels/cuda/taylor_features.cuh"
#include "kernels/cuda/taylor_state.cuh"
#include "kernels/cuda/tensor_core.cuh"

namespace based::cuda {
namespace {

constexpr int kWarps = 10;
constexpr int kThreads = 32 * kWarps;
constexpr int kChunk = 16 * kWarps;
constexpr int kSplits = 2;
constexpr int kTransposedStride = kChunk + 8;

// feature_dim F (8 or 16), head_dim E (a multiple of 16).
template <int F, int E>
struct Shape {
  static constexpr int kF = F;
  static constexpr int kE = E;
  static constexpr int kP = FeatureCount(F);
  static constexpr int kFeatureTiles = (kP + 15) / 16;
  static constexpr int kKeyStride = F == 16 ? 24 : 8;  // of a key row: no bank conflicts
  static constexpr int kColumns = E / kSplits;
  static constexpr int kTiles = kColumns / 8;
  static constexpr int kAll = kTiles + 1;  // the last: column 0 of V is 1, of S the sum z
  static constexpr int kStride = kAll % 2 == 1 ? kAll * 8 : kAll * 8 + 8;  // no bank conflicts
  static_assert((F == 8 || F == 16) && E % 16 == 0 && kFeatureTiles <= kWarps);
};

template <typename Sh>
struct alignas(128) Shared {
  bf16 v[2][kChunk][Sh::kStride];
  bf16 k[2][kChunk][Sh::kKeyStride];
  bf16 s[Sh::kFeatureTiles * 16][Sh::kStride];       // features x columns
  bf16 k_transposed[Sh::kF + 1][kTransposedStride];  // last row: 1 for tokens to fold, else 0
};

struct Stream {
  int64_t base;  // tokens in S on entry; token u of the stream is base + u
  int held;      // the first tokens, which lie in the ring
  int total;     // tokens
  int foldable;  // tokens before the last fold point
  int base_row;  // ring row of the first
};

// The block's span, head and columns.
struct Work {
  TaylorSlot<bf16> slot;
  const bf16* query;  // of the span's first row
  const bf16* key;
  const bf16* value;  // of this block's columns
  bf16* out;
  int width;  // of an input row
  int out_width;
  int column;  // first value column
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

template <typename Sh>
__device__ void LoadChunk(const TaylorParams& p, const Work& work, const Stream& stream, int first,
                          int end, int stage, Shared<Sh>& shared) {
  constexpr int kValueParts = Sh::kColumns / 8;
  constexpr int kKeyParts = Sh::kF / 8;
  constexpr int kParts = kKeyParts + kValueParts;
  for (int i = threadIdx.x; i < kChunk * kParts; i += kThreads) {
    const int t = i / kParts;
    const int part = i % kParts;
    const int u = first + t;
    const bool valid = u < end;
    int ring = stream.base_row + u;
    if (ring >= p.ring_rows) ring -= p.ring_rows;
    const bool in_ring = u < stream.held;
    const int64_t row = u - stream.held;
    if (part < kKeyParts) {
      const bf16* from = in_ring ? work.slot.ring_k + ring * Sh::kF : work.key + row * work.width;
      CopyAsync16(&shared.k[stage][t][part * 8], valid ? from + part * 8 : work.key, valid);
    } else {
      const bf16* from =
          in_ring ? work.slot.ring_v + ring * Sh::kE + work.column : work.value + row * work.width;
      const int column = (part - kKeyParts) * 8;
      CopyAsync16(&shared.v[stage][t][column], valid ? from + column : work.value, valid);
    }
  }
  CopyAsyncCommit();
}

// Keys by feature, zero from the fold point on.
template <typename Sh>
__device__ void TransposeKeys(const Stream& stream, int first, int stage, Shared<Sh>& shared) {
  const int t = threadIdx.x % kChunk;
  const int half = threadIdx.x / kChunk;
  const bool folds = first + t < stream.foldable;
  if (half == 0) shared.k_transposed[Sh::kF][t] = FromFloat<bf16>(folds ? 1.0f : 0.0f);
  if (half * 8 >= Sh::kF) return;
  const auto keys = *reinterpret_cast<const Vec<bf16, 8>*>(&shared.k[stage][t][half * 8]);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    shared.k_transposed[half * 8 + i][t] = folds ? keys.at[i] : FromFloat<bf16>(0.0f);
  }
}

// A row's query; zero for the ring's tokens and beyond the chunk.
template <typename Sh>
__device__ __forceinline__ Query<Sh::kF> LoadQuery(const Work& work, const Stream& stream, int u,
                                                   int end) {
  if (u < stream.held || u >= end) return {};
  return Query<Sh::kF>(work.query + int64_t{u - stream.held} * work.width);
}

// out += phi(Q) [S | z], for this warp's 16 rows.
template <typename Sh>
__device__ __forceinline__ void ReadState(const Query<Sh::kF> (&q)[2], const Shared<Sh>& shared,
                                          float (&out)[Sh::kAll][4]) {
#pragma unroll
  for (int tile = 0; tile < Sh::kFeatureTiles; ++tile) {
    uint32_t a[4];
    QueryTile(q[0], tile, &a[0], &a[2]);
    QueryTile(q[1], tile, &a[1], &a[3]);
    const RowB<Sh::kAll> state(&shared.s[tile * 16][0], Sh::kStride);
    state.MultiplyAdd(out, a);
  }
}

// 1 + s + s^2/2 of this warp's rows and 8 keys; with `diagonal`, zero for keys after the row.
template <int F>
__device__ __forceinline__ void Scores(const uint32_t (&q)[4], const bf16* key, bool diagonal,
                                       int column, int row, float (&w)[4]) {
  constexpr float kScale = F == 16 ? 1.0f : 0.353553391f;  // what Query does not hold
  const int c = threadIdx.x % 4;
  const uint32_t* words = reinterpret_cast<const uint32_t*>(key);
  float products[4] = {};
  Mma(products, q, words[c], F == 16 ? words[c + 4] : 0);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float s = products[i] * kScale;
    w[i] = 1.0f + s * (1.0f + 0.5f * s);
    if (diagonal && column + i % 2 > row + i / 2 * 8) w[i] = 0.0f;
  }
}

// out += tril(W) [V | 1], over the chunk's tokens up to this warp's.
template <typename Sh>
__device__ __forceinline__ void ReadChunk(const Query<Sh::kF> (&q)[2], int stage,
                                          const Shared<Sh>& shared, float (&out)[Sh::kAll][4]) {
  const int warp = threadIdx.x / 32;
  const int g = threadIdx.x % 32 / 4;
  const int c = threadIdx.x % 4;
  uint32_t a[4] = {q[0].words[0], q[1].words[0], 0, 0};
  if constexpr (Sh::kF == 16) {
    a[2] = q[0].words[4];
    a[3] = q[1].words[4];
  }
  for (int tile = 0; tile <= warp; ++tile) {
    const bf16* keys = &shared.k[stage][tile * 16][0];
    const RowB<Sh::kAll> values(&shared.v[stage][tile * 16][0], Sh::kStride);
    float w0[4];
    float w1[4];
    Scores<Sh::kF>(a, keys + g * Sh::kKeyStride, tile == warp, 2 * c, g, w0);
    Scores<Sh::kF>(a, keys + (8 + g) * Sh::kKeyStride, tile == warp, 8 + 2 * c, g, w1);
    const uint32_t w[4] = {PackBf16(w0[0], w0[1]), PackBf16(w0[2], w0[3]), PackBf16(w1[0], w1[1]),
                           PackBf16(w1[2], w1[3])};
    values.MultiplyAdd(out, w);
  }
}

// phi of the keys of two tokens at feature i of this warp's tile, as a high and a low part; `t` is
// even.
template <typename Sh>
__device__ __forceinline__ void KeyPair(const Shared<Sh>& shared, int warp, int i, int t,
                                        uint32_t* high, uint32_t* low) {
  const auto load = [&](int row) {
    return *reinterpret_cast<const uint32_t*>(&shared.k_transposed[row][t]);
  };
  *low = 0;
  const int f = warp * 16 + i;
  if (f < Sh::kF) {
    *high = load(f);
  } else if (f >= Sh::kP - 1) {
    *high = f == Sh::kP - 1 ? load(Sh::kF) : 0;
  } else {
    const int shift = f / Sh::kF - 1;
    const uint32_t a = load(f % Sh::kF);
    const uint32_t b = load((f + shift) % Sh::kF);
    *high = Multiply(a, b);
    *low = MultiplySubtract(a, b, *high);
  }
}

// [S | z] += phi(K)^T [V | 1] for this warp's 16 features.
template <typename Sh>
__device__ __forceinline__ void UpdateState(int stage, int tokens, const Shared<Sh>& shared,
                                            float (&state)[Sh::kAll][4]) {
  const int warp = threadIdx.x / 32;
  const int g = threadIdx.x % 32 / 4;
  const int c = threadIdx.x % 4;
  float added[Sh::kAll][4] = {};
  for (int first = 0; first < tokens; first += 16) {
    const RowB<Sh::kAll> values(&shared.v[stage][first][0], Sh::kStride);
    uint32_t high[4];
    uint32_t low[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      KeyPair(shared, warp, g + i % 2 * 8, first + i / 2 * 8 + 2 * c, &high[i], &low[i]);
    }
    values.MultiplyAdd(added, high);
    if (Sh::kF == 8 || warp != 0) values.MultiplyAdd(added, low);
  }
#pragma unroll
  for (int n = 0; n < Sh::kAll; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) state[n][i] += added[n][i];
  }
}

// This warp's features to and from the slot; features beyond Sh::kP do not exist. z goes to `z`,
// since both blocks of a head read the slot's.
template <typename Sh, bool kStore>
__device__ __forceinline__ void MoveState(const Work& work, float* z, float (&state)[Sh::kAll][4]) {
  const int g = threadIdx.x % 32 / 4;
  const int c = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int f = threadIdx.x / 32 * 16 + g + i * 8;
    if (f >= Sh::kP) continue;
    float* row = work.slot.s + f * Sh::kE + work.column + 2 * c;
#pragma unroll
    for (int n = 0; n < Sh::kTiles; ++n) {
      float2* at = reinterpret_cast<float2*>(row + n * 8);
      if constexpr (kStore) {
        *at = make_float2(state[n][2 * i], state[n][2 * i + 1]);
      } else {
        const float2 x = *at;
        state[n][2 * i] = x.x;
        state[n][2 * i + 1] = x.y;
      }
    }
    float& sum = state[Sh::kTiles][2 * i];
    if constexpr (kStore) {
      if (c == 0 && work.column == 0) z[f] = sum;
    } else if (c == 0) {
      sum = z[f];
    }
  }
}

// State as the chunk's readers want it: z as a high and a low part, the constant feature's from the
// token count.
template <typename Sh>
__device__ __forceinline__ void PublishState(const float (&state)[Sh::kAll][4], float count,
                                             Shared<Sh>& shared) {
  const int g = threadIdx.x % 32 / 4;
  const int c = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int f = threadIdx.x / 32 * 16 + g + i * 8;
#pragma unroll
    for (int n = 0; n < Sh::kTiles; ++n) {
      *reinterpret_cast<uint32_t*>(&shared.s[f][n * 8 + 2 * c]) =
          PackBf16(state[n][2 * i], state[n][2 * i + 1]);
    }
    const float z = f == Sh::kP - 1 ? count : state[Sh::kTiles][2 * i];
    const float high = ToFloat(FromFloat<bf16>(z));
    *reinterpret_cast<uint32_t*>(&shared.s[f][Sh::kColumns + 2 * c]) =
        c == 0 ? PackBf16(high, z - high) : 0;
  }
}

template <typename Sh>
__device__ __forceinline__ void StoreOutput(const TaylorParams& p, const Work& work,
                                            const Stream& stream, int first, int end,
                                            const float (&out)[Sh::kAll][4]) {
  const int g = threadIdx.x % 32 / 4;
  const int c = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    // The quad's first lane has the two parts of den.
    const float mine = out[Sh::kTiles][2 * i] + out[Sh::kTiles][2 * i + 1];
    const float den = __shfl_sync(0xffffffffu, mine, threadIdx.x % 32 - c);
    const int u = first + threadIdx.x / 32 * 16 + g + i * 8;
    if (u < stream.held || u >= end) continue;
    const float scale = 1.0f / (den + p.eps);
    bf16* row = work.out + int64_t{u - stream.held} * work.out_width + 2 * c;
#pragma unroll
    for (int n = 0; n < Sh::kTiles; ++n) {
      *reinterpret_cast<uint32_t*>(row + n * 8) =
          PackBf16(out[n][2 * i] * scale, out[n][2 * i + 1] * scale);
    }
  }
}

// The column of ones behind V, which no chunk overwrites.
template <typename Sh>
__device__ __forceinline__ void StoreOnes(Shared<Sh>& shared) {
  for (int i = threadIdx.x; i < 2 * kChunk; i += kThreads) {
    *reinterpret_cast<uint4*>(&shared.v[i / kChunk][i % kChunk][Sh::kColumns]) =
        make_uint4(kOneZero, 0, 0, 0);
  }
}

template <typename Sh>
__device__ Work GetWork(const TaylorParams& p, const DeviceSpan& span, int head, int split) {
  Work work;
  work.slot = GetTaylorSlot<bf16>(p, span.slot, head);
  work.width = p.heads * (2 * Sh::kF + Sh::kE);
  work.out_width = p.heads * Sh::kE;
  work.column = split * Sh::kColumns;
  const bf16* in = static_cast<const bf16*>(p.in) + int64_t{span.row} * work.width;
  work.query = in + head * Sh::kF;
  work.key = in + (p.heads + head) * Sh::kF;
  work.value = in + 2 * p.heads * Sh::kF + head * Sh::kE + work.column;
  work.out =
      static_cast<bf16*>(p.out) + int64_t{span.row} * work.out_width + head * Sh::kE + work.column;
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

template <typename Sh>
__global__ void __launch_bounds__(kThreads, 2) TaylorPrefillKernel(TaylorParams p) {
  extern __shared__ char memory[];
  Shared<Sh>& shared = *reinterpret_cast<Shared<Sh>*>(memory);
  const int head = blockIdx.y;
  const DeviceSpan span = p.spans[blockIdx.z];
  if (span.slot < 0) return;
  const Work work = GetWork<Sh>(p, span, head, blockIdx.x);
  const Stream stream = GetStream(p, span, head);
  const int warp = threadIdx.x / 32;
  const int g = threadIdx.x % 32 / 4;

  LoadChunk<Sh>(p, work, stream, 0, ChunkEnd(stream, 0), 0, shared);
  StoreOnes<Sh>(shared);
  float state[Sh::kAll][4] = {};
  MoveState<Sh, false>(work, work.slot.z, state);
  int stage = 0;
  for (int first = 0; first < stream.total; stage ^= 1) {
    const int end = ChunkEnd(stream, first);
    CopyAsyncWait<0>();
    __syncthreads();
    TransposeKeys<Sh>(stream, first, stage, shared);
    const int64_t count = stream.base + min(first, stream.foldable);
    if (warp < Sh::kFeatureTiles) PublishState<Sh>(state, static_cast<float>(count), shared);
    __syncthreads();
    if (end < stream.total) {
      LoadChunk<Sh>(p, work, stream, end, ChunkEnd(stream, end), stage ^ 1, shared);
    }
    if (first + warp * 16 < end) {
      const int row = first + warp * 16 + g;
      const Query<Sh::kF> q[2] = {LoadQuery<Sh>(work, stream, row, end),
                                  LoadQuery<Sh>(work, stream, row + 8, end)};
      float out[Sh::kAll][4] = {};
      ReadState<Sh>(q, shared, out);
      ReadChunk<Sh>(q, stage, shared, out);
      StoreOutput<Sh>(p, work, stream, first, end, out);
    }
    const int foldable = min(end, stream.foldable) - first;
    if (foldable > 0 && warp < Sh::kFeatureTiles) {
      UpdateState<Sh>(stage, foldable, shared, state);
    }
    first = end;
  }
  if (stream.foldable == 0) return;
  float* scratch = p.scratch_z + (int64_t{blockIdx.z} * p.heads + head) * p.z_stride;
  MoveState<Sh, true>(work, scratch, state);
}

// Once all blocks of a span are done with the old ring and z: the span's last tokens into the ring,
// the new z into the slot. Grid: (H, spans).
template <typename Sh>
__global__ void TaylorFinishKernel(TaylorParams p) {
  const int head = blockIdx.x;
  const DeviceSpan span = p.spans[blockIdx.y];
  if (span.slot < 0) return;
  const Work work = GetWork<Sh>(p, span, head, 0);
  for (int i = max(0, span.length - p.ring_rows); i < span.length; ++i) {
    const int ring = static_cast<int>((span.position + i) % p.ring_rows);
    for (int j = threadIdx.x; j < Sh::kF; j += blockDim.x) {
      work.slot.ring_k[ring * Sh::kF + j] = work.key[int64_t{i} * work.width + j];
    }
    for (int j = threadIdx.x; j < Sh::kE; j += blockDim.x) {
      work.slot.ring_v[ring * Sh::kE + j] = work.value[int64_t{i} * work.width + j];
    }
  }
  if (GetStream(p, span, head).foldable == 0) return;
  const float* scratch = p.scratch_z + (int64_t{blockIdx.y} * p.heads + head) * p.z_stride;
  for (int f = threadIdx.x; f < Sh::kP - 1; f += blockDim.x) work.slot.z[f] = scratch[f];
}

template <int F, int E>
cudaError_t Launch(const TaylorParams& p, cudaStream_t stream) {
  using Sh = Shape<F, E>;
  constexpr int kBytes = static_cast<int>(sizeof(Shared<Sh>));
  const cudaError_t error = cudaFuncSetAttribute(
      TaylorPrefillKernel<Sh>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (error != cudaSuccess) return error;
  TaylorPrefillKernel<Sh><<<dim3(kSplits, p.heads, p.span_count), kThreads, kBytes, stream>>>(p);
  TaylorFinishKernel<Sh><<<dim3(p.heads, p.span_count), 128, 0, stream>>>(p);
  return cudaGetLastError();
}

template <int F>
cudaError_t Launch(const TaylorParams& p, cudaStream_t stream) {
  switch (p.head_dim) {
    case 32:
      return Launch<F, 32>(p, stream);
    case 64:
      return Launch<F, 64>(p, stream);
    case 96:
      return Launch<F, 96>(p, stream);
    case 112:
      return Launch<F, 112>(p, stream);
    default:
      return Launch<F, 128>(p, stream);
  }
}

}  // namespace

bool TaylorPrefillSupports(const TaylorParams& p) {
  return p.act == Type::kBF16 && TaylorShapeIsFast(p);
}

cudaError_t TaylorPrefill(const TaylorParams& p, cudaStream_t stream) {
  if (p.span_count == 0) return cudaSuccess;
  return p.feature_dim == 8 ? Launch<8>(p, stream) : Launch<16>(p, stream);
}

}  // namespace based::cuda
