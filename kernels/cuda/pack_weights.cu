// Load time: conversion of weights to the executable's type, and random weights made on the device.
#include "kernels/cuda/device_types.cuh"

namespace based::cuda {
namespace {

constexpr int kThreads = 256;

template <typename In, typename Out>
__global__ void PackKernel(PackParams p) {
  const In* in = static_cast<const In*>(p.in);
  Out* out = static_cast<Out*>(p.out);
  const int64_t count = p.rows * p.cols;
  const int64_t stride = int64_t{blockDim.x} * gridDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    const int64_t to = p.transpose ? (i % p.cols) * p.rows + i / p.cols : i;
    out[to] = FromFloat<Out>(ToFloat(in[i]));
  }
}

__device__ uint64_t SplitMix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

template <typename Out>
__global__ void FillKernel(FillParams p) {
  Out* out = static_cast<Out*>(p.out);
  const uint64_t key = SplitMix64(p.seed);
  const int64_t stride = int64_t{blockDim.x} * gridDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < p.count; i += stride) {
    const uint64_t bits = SplitMix64(key + static_cast<uint64_t>(i));
    const int sum = static_cast<int>(bits & 0xffff) + static_cast<int>((bits >> 16) & 0xffff) +
                    static_cast<int>((bits >> 32) & 0xffff) + static_cast<int>(bits >> 48);
    // Four uniform 16-bit numbers: mean 131070, standard deviation 37837.2.
    out[i] = FromFloat<Out>(p.mean + p.stddev * (static_cast<float>(sum - 131070) / 37837.2f));
  }
}

int Blocks(int64_t count) {
  return static_cast<int>(min((count + kThreads - 1) / kThreads, int64_t{8192}));
}

template <typename In>
cudaError_t LaunchPack(const PackParams& p, cudaStream_t stream) {
  const int blocks = Blocks(p.rows * p.cols);
  if (p.out_type == Type::kF32) {
    PackKernel<In, float><<<blocks, kThreads, 0, stream>>>(p);
  } else {
    PackKernel<In, bf16><<<blocks, kThreads, 0, stream>>>(p);
  }
  return cudaGetLastError();
}

}  // namespace

cudaError_t Pack(const PackParams& p, cudaStream_t stream) {
  switch (p.in_type) {
    case Type::kF32:
      return LaunchPack<float>(p, stream);
    case Type::kBF16:
      return LaunchPack<bf16>(p, stream);
    case Type::kF16:
      return LaunchPack<__half>(p, stream);
  }
  return cudaErrorInvalidValue;
}

cudaError_t Fill(const FillParams& p, cudaStream_t stream) {
  if (p.out_type == Type::kF32) {
    FillKernel<float><<<Blocks(p.count), kThreads, 0, stream>>>(p);
  } else {
    FillKernel<bf16><<<Blocks(p.count), kThreads, 0, stream>>>(p);
  }
  return cudaGetLastError();
}

}  // namespace based::cuda
