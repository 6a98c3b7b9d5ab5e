// Taylor linear attention for any shape and any span: one block per (head, span) takes the span's
// tokens one after the other, each as a decode step. Equation in kernels/program.h, state and
// folding in taylor_state.cuh. Prefill of L tokens is bitwise L decodes.
//
// Reads S once per token (from cache within a span): far from the roofline for long spans, where
// TaylorPrefill replaces it.
#include "kernels/cuda/taylor_state.cuh"

namespace based::cuda {
namespace {

constexpr int kThreads = 512;

// Dynamic shared memory, in floats.
struct Shared {
  float* q;        // [F]
  float* k;        // [ring_rows][F], row j is token old_base + j
  float* phi;      // [P]
  float* weight;   // [ring_rows]
  float* partial;  // [kThreads]
  float* scratch;  // [32]
};

__device__ Shared Carve(const TaylorParams& p, float* memory) {
  Shared s;
  s.q = memory;
  s.k = s.q + p.feature_dim;
  s.phi = s.k + p.ring_rows * p.feature_dim;
  s.weight = s.phi + FeatureCount(p.feature_dim);
  s.partial = s.weight + p.ring_rows;
  s.scratch = s.partial + kThreads;
  return s;
}

// Adds the tokens [old_base, new_base) to S and z: summed first, in order, then added once.
template <typename T>
__device__ void Fold(const TaylorParams& p, const TaylorSlot<T>& slot, const Shared& shared,
                     FoldRange range) {
  const int count = FeatureCount(p.feature_dim);
  const int tokens = static_cast<int>(range.new_base - range.old_base);
  if (tokens == 0) return;
  for (int i = threadIdx.x; i < count * p.head_dim; i += blockDim.x) {
    const int f = i / p.head_dim;
    const int e = i % p.head_dim;
    float sum = 0.0f;
    for (int j = 0; j < tokens; ++j) {
      const int ring = static_cast<int>((range.old_base + j) % p.ring_rows);
      sum += KeyFeature(shared.k + j * p.feature_dim, f, p.feature_dim, count) *
             ToFloat(slot.ring_v[int64_t{ring} * p.head_dim + e]);
    }
    slot.s[i] += sum;
  }
  for (int f = threadIdx.x; f < count - 1; f += blockDim.x) {
    float sum = 0.0f;
    for (int j = 0; j < tokens; ++j) {
      sum += KeyFeature(shared.k + j * p.feature_dim, f, p.feature_dim, count);
    }
    slot.z[f] += sum;
  }
}

// Weights 1 + s + s^2/2 of the unfolded tokens into shared.weight; returns the denominator.
template <typename T>
__device__ float Weigh(const TaylorParams& p, const TaylorSlot<T>& slot, const Shared& shared,
                       FoldRange range, int recent, float a) {
  const int count = FeatureCount(p.feature_dim);
  const int first = static_cast<int>(range.new_base - range.old_base);
  float sum = 0.0f;
  for (int j = threadIdx.x; j < recent; j += blockDim.x) {
    float dot = 0.0f;
    for (int i = 0; i < p.feature_dim; ++i) {
      dot += shared.q[i] * shared.k[(first + j) * p.feature_dim + i];
    }
    const float s = dot * a;
    shared.weight[j] = 1.0f + s + 0.5f * s * s;
    sum += shared.weight[j];
  }
  for (int f = threadIdx.x; f < count - 1; f += blockDim.x) sum += shared.phi[f] * slot.z[f];
  return BlockSum(sum, shared.scratch) + static_cast<float>(range.new_base) + p.eps;
}

template <typename T>
__device__ void ReadOut(const TaylorParams& p, const TaylorSlot<T>& slot, const Shared& shared,
                        FoldRange range, int recent, float denominator, T* out) {
  const int count = FeatureCount(p.feature_dim);
  for (int first = 0; first < p.head_dim; first += blockDim.x) {
    const int columns = min(p.head_dim - first, static_cast<int>(blockDim.x));
    const int groups = blockDim.x / columns;
    const int group = threadIdx.x / columns;
    const int e = first + threadIdx.x % columns;
    float sum = 0.0f;
    if (group < groups) {
      for (int f = group; f < count; f += groups) {
        sum += shared.phi[f] * slot.s[int64_t{f} * p.head_dim + e];
      }
      for (int j = group; j < recent; j += groups) {
        const int ring = static_cast<int>((range.new_base + j) % p.ring_rows);
        sum += shared.weight[j] * ToFloat(slot.ring_v[int64_t{ring} * p.head_dim + e]);
      }
      shared.partial[group * columns + threadIdx.x % columns] = sum;
    }
    __syncthreads();
    if (threadIdx.x < columns) {
      float total = 0.0f;
      for (int g = 0; g < groups; ++g) total += shared.partial[g * columns + threadIdx.x];
      out[first + threadIdx.x] = FromFloat<T>(total / denominator);
    }
    __syncthreads();
  }
}

// Grid: (H, spans).
template <typename T>
__global__ void __launch_bounds__(kThreads) TaylorGenericKernel(TaylorParams p) {
  extern __shared__ float memory[];
  const Shared shared = Carve(p, memory);
  const int head = blockIdx.x;
  const DeviceSpan span = p.spans[blockIdx.y];
  if (span.slot < 0) return;
  const TaylorSlot<T> slot = GetTaylorSlot<T>(p, span.slot, head);
  const int count = FeatureCount(p.feature_dim);
  const float a = rsqrtf(static_cast<float>(p.feature_dim));
  const int width = p.heads * (2 * p.feature_dim + p.head_dim);
  int64_t fold_position = span.fold_position;

  for (int i = 0; i < span.length; ++i) {
    const int64_t position = span.position + i;
    const T* in = static_cast<const T*>(p.in) + int64_t{span.row + i} * width;
    const T* key = in + (p.heads + head) * p.feature_dim;
    const T* value = in + 2 * p.heads * p.feature_dim + head * p.head_dim;
    const FoldRange range = GetFoldRange(p, head, fold_position, position);
    fold_position = max(fold_position, position);
    const int held = static_cast<int>(position - range.old_base);
    const int ring = static_cast<int>(position % p.ring_rows);

    for (int j = threadIdx.x; j < p.feature_dim; j += blockDim.x) {
      shared.q[j] = ToFloat(in[head * p.feature_dim + j]);
      shared.k[held * p.feature_dim + j] = ToFloat(key[j]);
      slot.ring_k[ring * p.feature_dim + j] = key[j];
    }
    for (int j = threadIdx.x; j < held * p.feature_dim; j += blockDim.x) {
      const int row = static_cast<int>((range.old_base + j / p.feature_dim) % p.ring_rows);
      shared.k[j] = ToFloat(slot.ring_k[row * p.feature_dim + j % p.feature_dim]);
    }
    for (int j = threadIdx.x; j < p.head_dim; j += blockDim.x) {
      slot.ring_v[int64_t{ring} * p.head_dim + j] = value[j];
    }
    __syncthreads();
    for (int f = threadIdx.x; f < count; f += blockDim.x) {
      shared.phi[f] = QueryFeature(shared.q, f, p.feature_dim, count, a);
    }
    Fold(p, slot, shared, range);
    __syncthreads();
    const int recent = static_cast<int>(position - range.new_base) + 1;
    const float denominator = Weigh(p, slot, shared, range, recent, a);
    T* out =
        static_cast<T*>(p.out) + int64_t{span.row + i} * p.heads * p.head_dim + head * p.head_dim;
    ReadOut(p, slot, shared, range, recent, denominator, out);
  }
}

}  // namespace

cudaError_t TaylorGeneric(const TaylorParams& p, cudaStream_t stream) {
  if (p.span_count == 0) return cudaSuccess;
  const size_t bytes = sizeof(float) * (p.feature_dim * (1 + p.ring_rows) + p.ring_rows +
                                        FeatureCount(p.feature_dim) + kThreads + 32);
  const dim3 grid(p.heads, p.span_count);
  if (p.act == Type::kF32) {
    TaylorGenericKernel<float><<<grid, kThreads, bytes, stream>>>(p);
  } else {
    TaylorGenericKernel<bf16><<<grid, kThreads, bytes, stream>>>(p);
  }
  return cudaGetLastError();
}

}  // namespace based::cuda
