// One decode step of Taylor linear attention, fused: fold, feature map, readout, normaliser, in
// place on the slots. Equation in kernels/program.h, state and folding in taylor_state.cuh.
//
// Bound by memory. Per head and sequence S is 153 E fp32 (68.5 KB at E = 112), read every step and
// written at every 8th, and the ring: 8.8 MB per sequence of 7 x 16 heads, 2.9 ms at 1,024 rows and
// 3.1 TB/s. Arithmetic: 2 FLOPs a float read, 16 a float folded, 0.2 ms of fp32 at 60 TFLOP/s.
// Reached on an NVIDIA H100 80GB HBM3 at F = 16: 3.20 ms, 2.82 TB/s. Without the deferred fold
// (kFold = 1), which writes all of S at every step: 5.83 ms, 2.72 TB/s.
//
// Grid: (H, spans). A block owns one head of one sequence; a thread 4 value columns of every
// kGroups-th feature row, all of which it asks for at once and keeps in shared memory: three blocks
// to a multiprocessor have 200 KB on their way. Sums run in an order fixed by the shape: bitwise
// independent of the batch.
#include "kernels/cuda/overlapped_launch.cuh"
#include "kernels/cuda/taylor_state.cuh"
#include "kernels/cuda/tensor_core.cuh"

namespace based::cuda {
namespace {

constexpr int kMaxRing = 12;

// feature_dim F (8 or 16), head_dim E (a multiple of 4), tokens to a fold.
template <int F, int E, int K>
struct Shape {
  static constexpr int kF = F;
  static constexpr int kE = E;
  static constexpr int kFold = K;
  static constexpr int kP = FeatureCount(F);
  static constexpr float kScale = F == 16 ? 0.25f : 0.353553391f;  // 1 / sqrt(F)
  static constexpr int kLanes = E / 4;
  static constexpr int kGroups = E > 64 ? 9 : F == 16 ? 17 : 15;
  static constexpr int kRows = kP / kGroups;
  static constexpr int kThreads = (kLanes * kGroups + 31) / 32 * 32;
  // While folding, features of the tokens to fold, zero beyond them: [kP][kFold]. Afterwards the
  // groups' sums: [kGroups][E].
  static constexpr int kWork = (kGroups * E) > (kP * K) ? kGroups * E : kP * K;
  static_assert((F == 8 || F == 16) && E % 4 == 0 && kP % kGroups == 0);
};

template <typename T, typename Sh>
struct alignas(16) Shared {
  float4 s[Sh::kP][Sh::kLanes];
  float work[Sh::kWork];
  T fold_v[Sh::kFold][Sh::kE];  // fold only
  float k[kMaxRing][Sh::kF];    // row j is token old_base + j
  float q[Sh::kF];
  float phi_q[Sh::kP];
  float weight[kMaxRing];
  float den[Sh::kThreads / 32];
};
static_assert(3 * (sizeof(Shared<bf16, Shape<16, 112, 8>>) + 1024) <= 228 * 1024);

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
template <typename T, typename Sh>
__device__ void Stage(const TaylorParams& p, const TaylorSlot<T>& slot, const Step& step,
                      const T* query, const T* key, const T* value, Shared<T, Sh>& shared) {
  const int newest = RingRow(step, step.held, p.ring_rows);
  for (int i = threadIdx.x; i < (step.held + 1) * Sh::kF; i += Sh::kThreads) {
    const int j = i / Sh::kF;
    const int at = i % Sh::kF;
    const T k = j < step.held ? slot.ring_k[RingRow(step, j, p.ring_rows) * Sh::kF + at] : key[at];
    shared.k[j][at] = ToFloat(k);
    if (j == step.held) {
      shared.q[at] = ToFloat(query[at]);
      slot.ring_k[newest * Sh::kF + at] = k;
    }
  }
  for (int i = threadIdx.x; i < Sh::kE; i += Sh::kThreads) {
    slot.ring_v[newest * Sh::kE + i] = value[i];
  }
  if (step.folded == 0) return;
  for (int i = threadIdx.x; i < Sh::kFold * Sh::kE; i += Sh::kThreads) {
    const int j = i / Sh::kE;
    const int row = RingRow(step, j, p.ring_rows);
    shared.fold_v[j][i % Sh::kE] =
        j < step.folded ? slot.ring_v[row * Sh::kE + i % Sh::kE] : FromFloat<T>(0.0f);
  }
}

// Features and weights; folds z. Leaves the parts of the denominator in shared.den.
template <typename T, typename Sh>
__device__ void Features(const TaylorParams& p, const TaylorSlot<T>& slot, const Step& step,
                         Shared<T, Sh>& shared) {
  float den = 0.0f;
  for (int f = threadIdx.x; f < Sh::kP; f += Sh::kThreads) {
    shared.phi_q[f] = QueryFeature(shared.q, f, Sh::kF, Sh::kP, Sh::kScale);
    if (f == Sh::kP - 1) continue;
    float z = slot.z[f];
    if (step.folded > 0) {
      float sum = 0.0f;
      for (int j = 0; j < step.folded; ++j) sum += KeyFeature(shared.k[j], f, Sh::kF, Sh::kP);
      z += sum;
      slot.z[f] = z;
    }
    den += shared.phi_q[f] * z;
  }
  const int recent = step.held + 1 - step.folded;
  const int j = static_cast<int>(threadIdx.x) - (Sh::kThreads - 32);
  if (j >= 0 && j < recent) {
    float dot = 0.0f;
#pragma unroll
    for (int i = 0; i < Sh::kF; ++i) dot += shared.q[i] * shared.k[step.folded + j][i];
    const float s = dot * Sh::kScale;
    shared.weight[j] = 1.0f + s + 0.5f * s * s;
    den += shared.weight[j];
  }
  den = WarpSum(den);
  if (threadIdx.x % 32 == 0) shared.den[threadIdx.x / 32] = den;
  if (step.folded == 0) return;
  for (int i = threadIdx.x; i < Sh::kP * Sh::kFold; i += Sh::kThreads) {
    const int row = i % Sh::kFold;
    const int f = i / Sh::kFold;
    shared.work[i] = row < step.folded ? KeyFeature(shared.k[row], f, Sh::kF, Sh::kP) : 0.0f;
  }
}

// Folds the thread's part of S and reads it out.
template <typename T, typename Sh>
__device__ __forceinline__ float4 FoldRows(float4* s, const Shared<T, Sh>& shared, int group,
                                           int lane) {
  float4 v[Sh::kFold];
#pragma unroll
  for (int j = 0; j < Sh::kFold; ++j) v[j] = Load4(&shared.fold_v[j][lane * 4]);
  float4 sum = {};
#pragma unroll 3
  for (int r = 0; r < Sh::kRows; ++r) {
    const int f = r * Sh::kGroups + group;
    float4 row = shared.s[f][lane];
    float4 added = {};
#pragma unroll
    for (int j = 0; j < Sh::kFold; ++j) AddScaled(added, shared.work[f * Sh::kFold + j], v[j]);
    row.x += added.x;
    row.y += added.y;
    row.z += added.z;
    row.w += added.w;
    __stcs(s + f * Sh::kLanes + lane, row);
    AddScaled(sum, shared.phi_q[f], row);
  }
  return sum;
}

template <typename T, typename Sh>
__device__ __forceinline__ float4 ReadRows(const Shared<T, Sh>& shared, int group, int lane) {
  float4 sum = {};
#pragma unroll
  for (int r = 0; r < Sh::kRows; ++r) {
    const int f = r * Sh::kGroups + group;
    AddScaled(sum, shared.phi_q[f], shared.s[f][lane]);
  }
  return sum;
}

template <typename T, typename Sh>
__global__ void __launch_bounds__(Sh::kThreads, 3) TaylorDecodeKernel(TaylorParams p) {
  extern __shared__ char memory[];
  Shared<T, Sh>& shared = *reinterpret_cast<Shared<T, Sh>*>(memory);
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
  step.range.old_base = FoldBase(span.fold_position, phase, Sh::kFold, p.fold_lag);
  step.range.new_base =
      max(step.range.old_base, FoldBase(span.position, phase, Sh::kFold, p.fold_lag));
  step.base_row = static_cast<int>(step.range.old_base % p.ring_rows);
  step.held = static_cast<int>(span.position - step.range.old_base);
  step.folded = static_cast<int>(step.range.new_base - step.range.old_base);

  // S is asked for before anything else, so that staging hides behind it; no other kernel of the
  // step touches it.
  float4* s = reinterpret_cast<float4*>(slot.s);
  if (active) {
#pragma unroll
    for (int r = 0; r < Sh::kRows; ++r) {
      const int f = r * Sh::kGroups + group;
      CopyAsyncOnce16(&shared.s[f][lane], s + f * Sh::kLanes + lane);
    }
  }
  CopyAsyncCommit();
  WaitForPrevious();
  LetNextStart();
  const T* in = static_cast<const T*>(p.in) + int64_t{span.row} * p.heads * (2 * Sh::kF + Sh::kE);
  const T* value = in + 2 * p.heads * Sh::kF + head * Sh::kE;
  Stage<T, Sh>(p, slot, step, in + head * Sh::kF, in + (p.heads + head) * Sh::kF, value, shared);
  __syncthreads();
  Features<T, Sh>(p, slot, step, shared);
  __syncthreads();

  CopyAsyncWait<0>();  // a thread reads only what it copied
  float4 sum = {};
  if (active) {
    sum = step.folded > 0 ? FoldRows<T, Sh>(s, shared, group, lane)
                          : ReadRows<T, Sh>(shared, group, lane);
  }
  if (step.folded > 0) __syncthreads();  // shared.work changes its use
  if (active) {
    const int recent = step.held + 1 - step.folded;
    for (int j = group; j < recent; j += Sh::kGroups) {
      const T* from = j == recent - 1
                          ? value
                          : slot.ring_v + RingRow(step, step.folded + j, p.ring_rows) * Sh::kE;
      AddScaled(sum, shared.weight[j], Load4(from + lane * 4));
    }
    *reinterpret_cast<float4*>(&shared.work[group * Sh::kE + lane * 4]) = sum;
  }
  __syncthreads();
  if (threadIdx.x < Sh::kE) {
    float den = static_cast<float>(step.range.new_base) + p.eps;
    for (int w = 0; w < Sh::kThreads / 32; ++w) den += shared.den[w];
    float total = 0.0f;
#pragma unroll
    for (int g = 0; g < Sh::kGroups; ++g) total += shared.work[g * Sh::kE + threadIdx.x];
    T* out = static_cast<T*>(p.out) + int64_t{span.row} * p.heads * Sh::kE + head * Sh::kE;
    out[threadIdx.x] = FromFloat<T>(total / den);
  }
}

template <typename T, typename Sh>
cudaError_t Launch(const TaylorParams& p, cudaStream_t stream) {
  constexpr int kBytes = static_cast<int>(sizeof(Shared<T, Sh>));
  const cudaError_t error = cudaFuncSetAttribute(
      TaylorDecodeKernel<T, Sh>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (error != cudaSuccess) return error;
  return LaunchOverlapped(TaylorDecodeKernel<T, Sh>, dim3(p.heads, p.span_count), Sh::kThreads, p,
                          stream, kBytes);
}

template <int F, int E>
cudaError_t Launch(const TaylorParams& p, cudaStream_t stream) {
  return p.act == Type::kF32 ? Launch<float, Shape<F, E, 8>>(p, stream)
                             : Launch<bf16, Shape<F, E, 8>>(p, stream);
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

bool TaylorDecodeSupports(const TaylorParams& p) {
  const bool plain =
      p.fold == 1 && p.act == Type::kBF16 && p.feature_dim == 16 && p.head_dim == 112;
  return TaylorShapeIsFast(p) && (p.fold == 8 || plain) && p.ring_rows <= kMaxRing;
}

cudaError_t TaylorDecode(const TaylorParams& p, cudaStream_t stream) {
  if (p.span_count == 0) return cudaSuccess;
  if (p.fold == 1) return Launch<bf16, Shape<16, 112, 1>>(p, stream);
  return p.feature_dim == 8 ? Launch<8>(p, stream) : Launch<16>(p, stream);
}

}  // namespace based::cuda
