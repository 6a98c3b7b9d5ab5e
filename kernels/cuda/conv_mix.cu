// Gated short convolution (kernels/program.h, ConvMixOp).
//
// Bound by memory: per row, 2C in + C out, and per sequence K - 1 taps read and one written. At the
// 1.3B shape (C = 3584, K = 3, bf16) that is 21.5 KB and 21.5 KB: 14 us at 1,024 rows and 3.0 TB/s.
// Reached on an NVIDIA H100 80GB HBM3: 18 us.
#include "kernels/cuda/device_types.cuh"
#include "kernels/cuda/overlapped_launch.cuh"

namespace based::cuda {
namespace {

constexpr int kThreads = 128;

template <typename T>
__device__ T* Ring(const ConvMixParams& p, int slot) {
  return reinterpret_cast<T*>(p.pool.base + slot * p.pool.slot_bytes + p.ring_offset);
}

// Grid: (channel vectors, rows). With decode_only the block also stores its row of the ring, which
// no other row of the step reads.
template <typename T, int N>
__global__ void ConvMixKernel(ConvMixParams p) {
  const int row = blockIdx.y;
  const int channel = (blockIdx.x * blockDim.x + threadIdx.x) * N;
  const int span_index = p.row_span[row];
  const DeviceSpan span = p.spans[max(span_index, 0)];
  WaitForPrevious();
  LetNextStart();
  if (span_index < 0 || channel >= p.channels || span.slot < 0) return;
  const T* in = static_cast<const T*>(p.in);
  T* ring = Ring<T>(p, span.slot);
  const int64_t position = span.position + (row - span.row);
  const int newest_row = p.ring_rows > 0 ? static_cast<int>(position % p.ring_rows) : 0;
  const auto load = [](const T* from) { return *reinterpret_cast<const Vec<T, N>*>(from); };

  float sum[N] = {};
  Vec<T, N> newest = {};
  for (int i = 0; i < p.kernel; ++i) {
    const int back = p.kernel - 1 - i;
    const int64_t token = position - back;
    if (token < 0) continue;
    Vec<T, N> a;
    if (token >= span.position) {
      a = load(in + int64_t{row - back} * 2 * p.channels + channel);
    } else {
      const int ring_row = newest_row >= back ? newest_row - back : newest_row - back + p.ring_rows;
      a = load(ring + int64_t{ring_row} * p.channels + channel);
    }
    if (back == 0) newest = a;
    const auto taps = *reinterpret_cast<const Vec<float, N>*>(p.taps + i * p.channels + channel);
#pragma unroll
    for (int j = 0; j < N; ++j) sum[j] += taps.at[j] * ToFloat(a.at[j]);
  }
  const Vec<T, N> gate = load(in + int64_t{row} * 2 * p.channels + p.channels + channel);
  Vec<T, N> y;
#pragma unroll
  for (int j = 0; j < N; ++j) y.at[j] = FromFloat<T>(Silu(sum[j]) * ToFloat(gate.at[j]));
  *reinterpret_cast<Vec<T, N>*>(static_cast<T*>(p.out) + int64_t{row} * p.channels + channel) = y;
  if (p.decode_only && p.ring_rows > 0) {
    *reinterpret_cast<Vec<T, N>*>(ring + int64_t{newest_row} * p.channels + channel) = newest;
  }
}

// Grid: (channel vectors, spans). Stores the last rows of every span once all rows were computed.
template <typename T, int N>
__global__ void ConvRingKernel(ConvMixParams p) {
  const DeviceSpan span = p.spans[blockIdx.y];
  const int channel = (blockIdx.x * blockDim.x + threadIdx.x) * N;
  if (span.slot < 0 || channel >= p.channels) return;
  T* ring = Ring<T>(p, span.slot);
  for (int i = max(0, span.length - p.ring_rows); i < span.length; ++i) {
    const T* from = static_cast<const T*>(p.in) + int64_t{span.row + i} * 2 * p.channels + channel;
    T* to = ring + ((span.position + i) % p.ring_rows) * p.channels + channel;
    *reinterpret_cast<Vec<T, N>*>(to) = *reinterpret_cast<const Vec<T, N>*>(from);
  }
}

template <typename T, int N>
cudaError_t LaunchConvMix(const ConvMixParams& p, cudaStream_t stream) {
  const int blocks = (p.channels / N + kThreads - 1) / kThreads;
  const cudaError_t error =
      LaunchOverlapped(ConvMixKernel<T, N>, dim3(blocks, p.rows), kThreads, p, stream);
  if (error != cudaSuccess) return error;
  if (!p.decode_only && p.ring_rows > 0) {
    ConvRingKernel<T, N><<<dim3(blocks, p.span_count), kThreads, 0, stream>>>(p);
  }
  return cudaGetLastError();
}

}  // namespace

cudaError_t ConvMix(const ConvMixParams& p, cudaStream_t stream) {
  if (p.act == Type::kF32) {
    return p.channels % 4 == 0 ? LaunchConvMix<float, 4>(p, stream)
                               : LaunchConvMix<float, 1>(p, stream);
  }
  return p.channels % 8 == 0 ? LaunchConvMix<bf16, 8>(p, stream)
                             : LaunchConvMix<bf16, 1>(p, stream);
}

}  // namespace based::cuda
