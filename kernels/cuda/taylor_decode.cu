// One decode step of Taylor linear attention, fused: fold, feature map, readout, normaliser, in
// place on the slots. Equation in kernels/program.h, state and folding in taylor_state.cuh.
//
// Bound by memory. Per head and sequence S is 153 E fp32 (68.5 KB at E = 112), read every step and
// written at every 8th: 1.125 reads and 0.125 writes of it, 9.7 MB per sequence of 7 x 16 heads, so
// 3.2 ms at 1,024 rows and 3.1 TB/s. Arithmetic: 2 FLOPs a float, 0.6 ms of fp32 at worst.
//
// Grid: (H, spans). A block owns one head of one sequence; a thread 4 value columns of every
// kGroups-th feature row. Sums run in an order fixed by the shape: bitwise independent of the
// batch.
#include "kernels/cuda/overlapped_launch.cuh"
#include "kernels/cuda/taylor_state.cuh"

namespace based::cuda {
namespace {

constexpr int kF = 16;
constexpr int kP = FeatureCount(kF);
constexpr int kFold = 8;
constexpr int kMaxRing = 16;

template <int E>
struct Shape {
  static constexpr int kLanes = E / 4;
  static constexpr int kGroups = E > 64 ? 9 : 17;
  static constexpr int kRows = kP / kGroups;
  static constexpr int kThreads = (kLanes * kGroups + 31) / 32 * 32;
  static constexpr int kFirstBatch = (kRows + 1) / 2;
  static_assert(kP % kGroups == 0);
};

template <int E>
struct alignas(16) Shared {
  float phi_k[kP][kFold];  // fold only: features of the tokens to fold, zero beyond them
  float fold_v[kFold][E];  // fold only
  float partial[Shape<E>::kGroups][E];
  float k[kMaxRing][kF];   // row j is token old_base + j
  float q[kF];
  float phi_q[kP];
  float weight[kMaxRing];
  float den[Shape<E>::kThreads / 32];
};

struct Step {
  FoldRange range;
  int base_row;  // ring row of token old_base
  int held;      // tokens in the ring before this one
  int folded;    // of which this step folds
};

__device__ __forceinline__ int RingRow(const Step& step, int j, int ring_rows) {
  const int row = step.base_row + j;
  return row >= ring_rows ? row - ring_rows : row;
}

template <typename T>
__device__ __forceinline__ float4 Load4(const T* from) {
  const auto v = *reinterpret_cast<const Vec<T, 4>*>(from);
  return make_float4(ToFloat(v.at[0]), ToFloat(v.at[1]), ToFloat(v.at[2]), ToFloat(v.at[3]));
}

__device__ __forceinline__ void AddScaled(float4& sum, float scale, const float4& x) {
  sum.x += scale * x.x;
  sum.y += scale * x.y;
  sum.z += scale * x.z;
  sum.w += scale * x.w;
}

// q, the unfolded keys, and for a fold its values, into shared memory; appends the token to the
// ring.
template <typename T, int E>
__device__ void Stage(const TaylorParams& p, const TaylorSlot<T>& slot, const Step& step,
                      const T* query, const T* key, const T* value, Shared<E>& shared) {
  const int newest = RingRow(step, step.held, p.ring_rows);
  for (int i = threadIdx.x; i < (step.held + 1) * kF; i += Shape<E>::kThreads) {
    const int j = i / kF;
    const int at = i % kF;
    const T k = j < step.held ? slot.ring_k[RingRow(step, j, p.ring_rows) * kF + at] : key[at];
    shared.k[j][at] = ToFloat(k);
    if (j == step.held) {
      shared.q[at] = ToFloat(query[at]);
      slot.ring_k[newest * kF + at] = k;
    }
  }
  for (int i = threadIdx.x; i < E; i += Shape<E>::kThreads) slot.ring_v[newest * E + i] = value[i];
  if (step.folded == 0) return;
  for (int i = threadIdx.x; i < kFold * E; i += Shape<E>::kThreads) {
    const int j = i / E;
    const int row = RingRow(step, j, p.ring_rows);
    shared.fold_v[j][i % E] = j < step.folded ? ToFloat(slot.ring_v[row * E + i % E]) : 0.0f;
  }
}

// Features and weights; folds z. Leaves the parts of the denominator in shared.den.
template <typename T, int E>
__device__ void Features(const TaylorParams& p, const TaylorSlot<T>& slot, const Step& step,
                         Shared<E>& shared) {
  const float a = 0.25f;  // 1 / sqrt(16)
  float den = 0.0f;
  for (int f = threadIdx.x; f < kP; f += Shape<E>::kThreads) {
    shared.phi_q[f] = QueryFeature(shared.q, f, kF, kP, a);
    if (f == kP - 1) continue;
    float z = slot.z[f];
    if (step.folded > 0) {
      float sum = 0.0f;
      for (int j = 0; j < step.folded; ++j) sum += KeyFeature(shared.k[j], f, kF, kP);
      z += sum;
      slot.z[f] = z;
    }
    den += shared.phi_q[f] * z;
  }
  const int recent = step.held + 1 - step.folded;
  const int j = static_cast<int>(threadIdx.x) - (Shape<E>::kThreads - 32);
  if (j >= 0 && j < recent) {
    float dot = 0.0f;
#pragma unroll
    for (int i = 0; i < kF; ++i) dot += shared.q[i] * shared.k[step.folded + j][i];
    const float s = dot * a;
    shared.weight[j] = 1.0f + s + 0.5f * s * s;
    den += shared.weight[j];
  }
  den = WarpSum(den);
  if (threadIdx.x % 32 == 0) shared.den[threadIdx.x / 32] = den;
  if (step.folded == 0) return;
  for (int i = threadIdx.x; i < kP * kFold; i += Shape<E>::kThreads) {
    const int row = i % kFold;
    const int f = i / kFold;
    shared.phi_k[f][row] = row < step.folded ? KeyFeature(shared.k[row], f, kF, kP) : 0.0f;
  }
}

// Folds the group's rows of S and reads them out.
template <int E>
__device__ __forceinline__ float4 FoldRows(float4* s, const Shared<E>& shared, int group,
                                           int lane) {
  using Sh = Shape<E>;
  float4 v[kFold];
#pragma unroll
  for (int j = 0; j < kFold; ++j) {
    v[j] = *reinterpret_cast<const float4*>(&shared.fold_v[j][lane * 4]);
  }
  float4 sum = {};
#pragma unroll 3
  for (int r = 0; r < Sh::kRows; ++r) {
    const int f = r * Sh::kGroups + group;
    float4* at = s + f * Sh::kLanes + lane;
    float4 row = __ldcs(at);
    float4 added = {};
#pragma unroll
    for (int j = 0; j < kFold; ++j) AddScaled(added, shared.phi_k[f][j], v[j]);
    row.x += added.x;
    row.y += added.y;
    row.z += added.z;
    row.w += added.w;
    __stcs(at, row);
    AddScaled(sum, shared.phi_q[f], row);
  }
  return sum;
}

template <typename T, int E>
__global__ void __launch_bounds__(Shape<E>::kThreads, 3) TaylorDecodeKernel(TaylorParams p) {
  using Sh = Shape<E>;
  __shared__ Shared<E> shared;
  const int head = blockIdx.x;
  const DeviceSpan span = p.spans[blockIdx.y];
  if (span.slot < 0) {
    WaitForPrevious();
    return;
  }
  const TaylorSlot<T> slot = GetTaylorSlot<T>(p, span.slot, head);
  const int lane = threadIdx.x % Sh::kLanes;
  const int group = threadIdx.x / Sh::kLanes;
  const bool active = group < Sh::kGroups;
  const int phase = p.fold_phase + head;
  Step step;
  step.range.old_base = FoldBase(span.fold_position, phase, kFold, p.fold_lag);
  step.range.new_base =
      max(step.range.old_base, FoldBase(span.position, phase, kFold, p.fold_lag));
  step.base_row = static_cast<int>(step.range.old_base % p.ring_rows);
  step.held = static_cast<int>(span.position - step.range.old_base);
  step.folded = static_cast<int>(step.range.new_base - step.range.old_base);

  // The first half of S is asked for before anything else, so that staging hides behind it; no
  // other kernel of the step touches it.
  float4* s = reinterpret_cast<float4*>(slot.s);
  float4 first[Sh::kFirstBatch];
  if (step.folded == 0 && active) {
#pragma unroll
    for (int r = 0; r < Sh::kFirstBatch; ++r) {
      first[r] = __ldcs(s + (r * Sh::kGroups + group) * Sh::kLanes + lane);
    }
  }
  WaitForPrevious();
  LetNextStart();
  const T* in = static_cast<const T*>(p.in) + int64_t{span.row} * p.heads * (2 * kF + E);
  const T* value = in + 2 * p.heads * kF + head * E;
  Stage<T, E>(p, slot, step, in + head * kF, in + (p.heads + head) * kF, value, shared);
  __syncthreads();
  Features<T, E>(p, slot, step, shared);
  __syncthreads();

  float4 sum = {};
  if (active) {
    if (step.folded > 0) {
      sum = FoldRows<E>(s, shared, group, lane);
    } else {
      float4 second[Sh::kRows - Sh::kFirstBatch];
#pragma unroll
      for (int r = Sh::kFirstBatch; r < Sh::kRows; ++r) {
        second[r - Sh::kFirstBatch] = __ldcs(s + (r * Sh::kGroups + group) * Sh::kLanes + lane);
      }
#pragma unroll
      for (int r = 0; r < Sh::kFirstBatch; ++r) {
        AddScaled(sum, shared.phi_q[r * Sh::kGroups + group], first[r]);
      }
#pragma unroll
      for (int r = Sh::kFirstBatch; r < Sh::kRows; ++r) {
        AddScaled(sum, shared.phi_q[r * Sh::kGroups + group], second[r - Sh::kFirstBatch]);
      }
    }
    const int recent = step.held + 1 - step.folded;
    for (int j = group; j < recent; j += Sh::kGroups) {
      const T* from = j == recent - 1
                          ? value
                          : slot.ring_v + RingRow(step, step.folded + j, p.ring_rows) * E;
      AddScaled(sum, shared.weight[j], Load4(from + lane * 4));
    }
    *reinterpret_cast<float4*>(&shared.partial[group][lane * 4]) = sum;
  }
  __syncthreads();
  if (threadIdx.x < E) {
    float den = static_cast<float>(step.range.new_base) + p.eps;
    for (int w = 0; w < Sh::kThreads / 32; ++w) den += shared.den[w];
    float total = 0.0f;
#pragma unroll
    for (int g = 0; g < Sh::kGroups; ++g) total += shared.partial[g][threadIdx.x];
    T* out = static_cast<T*>(p.out) + int64_t{span.row} * p.heads * E + head * E;
    out[threadIdx.x] = FromFloat<T>(total / den);
  }
}

template <typename T, int E>
cudaError_t LaunchDecode(const TaylorParams& p, cudaStream_t stream) {
  return LaunchOverlapped(TaylorDecodeKernel<T, E>, dim3(p.heads, p.span_count),
                          Shape<E>::kThreads, p, stream);
}

}  // namespace

bool TaylorDecodeSupports(const TaylorParams& p) {
  return p.feature_dim == kF && (p.head_dim == 64 || p.head_dim == 112) && p.fold == kFold &&
         p.ring_rows <= kMaxRing;
}

cudaError_t TaylorDecode(const TaylorParams& p, cudaStream_t stream) {
  if (p.span_count == 0) return cudaSuccess;
  if (p.act == Type::kF32) {
    return p.head_dim == 64 ? LaunchDecode<float, 64>(p, stream)
                            : LaunchDecode<float, 112>(p, stream);
  }
  return p.head_dim == 64 ? LaunchDecode<bf16, 64>(p, stream)
                          : LaunchDecode<bf16, 112>(p, stream);
}

}  // namespace based::cuda
