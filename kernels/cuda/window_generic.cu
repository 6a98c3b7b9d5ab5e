// Rotary angles of a step, and sliding-window attention for any shape and any span: one block per
// (head, span) takes the tokens one after the other. Equation in kernels/program.h.
#include "kernels/cuda/overlapped_launch.cuh"
#include "kernels/cuda/window_ring.cuh"

namespace based::cuda {
namespace {

constexpr int kThreads = 128;

// Grid: rows. The phase in turns is an exact 64-bit product with wrap-around; only the last
// conversion rounds.
__global__ void RopeTableKernel(RopeTableParams p) {
  WaitForPrevious();
  LetNextStart();
  const int row = blockIdx.x;
  const int span_index = p.row_span[row];
  if (span_index < 0) return;
  const DeviceSpan span = p.spans[span_index];
  const uint64_t position = static_cast<uint64_t>(span.position + (row - span.row));
  for (int i = threadIdx.x; i < p.half; i += blockDim.x) {
    const int64_t turns = static_cast<int64_t>(p.turns[i] * position);
    double sine;
    double cosine;
    sincospi(ldexp(static_cast<double>(turns), -63), &sine, &cosine);
    p.out[int64_t{row} * p.half + i] =
        make_float2(static_cast<float>(cosine), static_cast<float>(sine));
  }
}

// Dynamic shared memory: q [E], k [E], score [W + 1], scratch [32], all fp32.
// Grid: (H, spans).
template <typename T>
__global__ void __launch_bounds__(kThreads) WindowGenericKernel(WindowParams p) {
  extern __shared__ float memory[];
  float* q = memory;
  float* k = q + p.head_dim;
  float* score = k + p.head_dim;
  float* scratch = score + p.window_left + 1;
  const int head = blockIdx.x;
  const DeviceSpan span = p.spans[blockIdx.y];
  if (span.slot < 0) return;
  const WindowSlot<T> slot = GetWindowSlot<T>(p, span.slot, head);
  const int half = p.head_dim / 2;
  const int model = p.heads * p.head_dim;

  for (int i = 0; i < span.length; ++i) {
    const int64_t position = span.position + i;
    const int64_t row = span.row + i;
    const T* query = static_cast<const T*>(p.in) + row * 3 * model + head * p.head_dim;
    const T* value = query + 2 * model;
    const float2* rope = p.rope + row * half;
    for (int j = threadIdx.x; j < p.head_dim; j += blockDim.x) {
      q[j] = Rotated(query, rope, j, half) * p.scale;
      // The key of this token is rounded as the ring rounds it, so that no reader can tell.
      k[j] = ToFloat(FromFloat<T>(Rotated(query + model, rope, j, half)));
    }
    __syncthreads();
    const int past = static_cast<int>(min(position, int64_t{p.window_left}));
    const int first = p.ring_rows > 0 ? static_cast<int>((position - past) % p.ring_rows) : 0;
    float best = -INFINITY;
    for (int j = threadIdx.x; j <= past; j += blockDim.x) {
      const int ring = first + j >= p.ring_rows ? first + j - p.ring_rows : first + j;
      const T* key = slot.k + int64_t{ring} * p.head_dim;
      float dot = 0.0f;
      for (int e = 0; e < p.head_dim; ++e) dot += q[e] * (j == past ? k[e] : ToFloat(key[e]));
      score[j] = dot;
      best = fmaxf(best, dot);
    }
    best = BlockMax(best, scratch);
    float sum = 0.0f;
    for (int j = threadIdx.x; j <= past; j += blockDim.x) {
      score[j] = expf(score[j] - best);
      sum += score[j];
    }
    sum = BlockSum(sum, scratch);
    T* out = static_cast<T*>(p.out) + row * model + head * p.head_dim;
    for (int e = threadIdx.x; e < p.head_dim; e += blockDim.x) {
      float total = score[past] * ToFloat(value[e]);
      for (int j = 0; j < past; ++j) {
        const int ring = first + j >= p.ring_rows ? first + j - p.ring_rows : first + j;
        total += score[j] * ToFloat(slot.v[int64_t{ring} * p.head_dim + e]);
      }
      out[e] = FromFloat<T>(total / sum);
    }
    __syncthreads();
    if (p.ring_rows > 0) {
      const int64_t at = (position % p.ring_rows) * p.head_dim;
      for (int e = threadIdx.x; e < p.head_dim; e += blockDim.x) {
        slot.k[at + e] = FromFloat<T>(k[e]);
        slot.v[at + e] = value[e];
      }
    }
    __syncthreads();
  }
}

}  // namespace

cudaError_t RopeTable(const RopeTableParams& p, cudaStream_t stream) {
  return LaunchOverlapped(RopeTableKernel, p.rows, 64, p, stream);
}

int64_t WindowGenericSharedBytes(int32_t window_left, int32_t head_dim) {
  return int64_t{4} * (2 * int64_t{head_dim} + window_left + 1 + 32);
}

cudaError_t WindowGeneric(const WindowParams& p, cudaStream_t stream) {
  if (p.span_count == 0) return cudaSuccess;
  const auto kernel = p.act == Type::kF32 ? WindowGenericKernel<float> : WindowGenericKernel<bf16>;
  const int bytes = static_cast<int>(WindowGenericSharedBytes(p.window_left, p.head_dim));
  if (bytes > 48 * 1024) {
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (error != cudaSuccess) return error;
  }
  kernel<<<dim3(p.heads, p.span_count), kThreads, static_cast<size_t>(bytes), stream>>>(p);
  return cudaGetLastError();
}

}  // namespace based::cuda
