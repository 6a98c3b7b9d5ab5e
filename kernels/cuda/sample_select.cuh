// Selection in the order "larger logit first, of equal ones the lower id": finds where a prefix of
// that order reaches a given weight, without sorting the row. One block per row.
//
// Weights are integers, so sums do not depend on the order of the atomics that make them.
#ifndef BASED_KERNELS_CUDA_SAMPLE_SELECT_CUH_
#define BASED_KERNELS_CUDA_SAMPLE_SELECT_CUH_

#include "kernels/cuda/device_types.cuh"

namespace based::cuda {

constexpr int kSampleThreads = 512;
constexpr int kBuckets = 2048;
constexpr float kBucketsPerUnit = 64.0f;
constexpr int kListSize = 1024;

// An element of the row and its place in the order.
struct Ranked {
  float logit;
  int32_t id;
};

// True when a comes before b.
__device__ __forceinline__ bool Before(const Ranked& a, const Ranked& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

struct SampleShared {
  unsigned long long bucket[kBuckets];
  Ranked list[kListSize];
  unsigned long long sums[kSampleThreads / 32];
  float floats[32];
  double doubles[32];
  int ints[32];
  int list_count;
  int found;
  unsigned long long before;
  Ranked bound;
};

struct Row {
  const float* logits;
  int32_t size;
  float max;
  float temperature;
};

// exp((logit - max) / temperature) in units of 2^-40: the weight of a draw.
__device__ __forceinline__ unsigned long long Mass(const Row& row, float logit) {
  const float x = (logit - row.max) / row.temperature;
  return static_cast<unsigned long long>(__float2ull_rn(expf(x) * 1099511627776.0f));
}

__device__ __forceinline__ unsigned long long WeightOf(const Row& row, float logit, bool by_mass) {
  return by_mass ? Mass(row, logit) : 1ull;
}

__device__ __forceinline__ int BucketOf(const Row& row, float logit) {
  const float distance = (row.max - logit) * kBucketsPerUnit;
  return distance >= kBuckets - 1 ? kBuckets - 1 : static_cast<int>(distance);
}

__device__ __forceinline__ unsigned long long BlockSum64(unsigned long long x, SampleShared& s) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) x += __shfl_xor_sync(0xffffffffu, x, offset);
  __syncthreads();
  if (threadIdx.x % 32 == 0) s.sums[threadIdx.x / 32] = x;
  __syncthreads();
  unsigned long long total = 0;
  for (int i = 0; i < kSampleThreads / 32; ++i) total += s.sums[i];
  return total;
}

// Weight of everything in `bucket` that is at or before `at`.
__device__ inline unsigned long long WeightUpTo(const Row& row, Ranked at, int bucket, bool by_mass,
                                                SampleShared& s) {
  unsigned long long sum = 0;
  for (int i = threadIdx.x; i < row.size; i += kSampleThreads) {
    const Ranked element = {row.logits[i], i};
    if (BucketOf(row, element.logit) == bucket && !Before(at, element)) {
      sum += WeightOf(row, element.logit, by_mass);
    }
  }
  return BlockSum64(sum, s);
}

__device__ __forceinline__ uint32_t OrderedBits(float x) {
  const uint32_t bits = __float_as_uint(x);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float FromOrderedBits(uint32_t bits) {
  return __uint_as_float((bits & 0x80000000u) != 0 ? bits & 0x7fffffffu : ~bits);
}

// Slow and sure: bisects the logit's bits, then the id. For buckets too full for the list.
__device__ inline Ranked Bisect(const Row& row, int bucket, unsigned long long need, bool by_mass,
                                SampleShared& s) {
  uint32_t low = OrderedBits(-INFINITY);  // prefix down to low reaches `need`
  uint32_t high = OrderedBits(row.max);   // the answer's bits are in [low, high]
  while (low < high) {
    const uint32_t middle = low + (high - low + 1) / 2;
    const Ranked at = {FromOrderedBits(middle), row.size};
    if (WeightUpTo(row, at, bucket, by_mass, s) >= need) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  int first = 0;
  int last = row.size - 1;
  while (first < last) {
    const int middle = (first + last) / 2;
    if (WeightUpTo(row, {FromOrderedBits(low), middle}, bucket, by_mass, s) >= need) {
      last = middle;
    } else {
      first = middle + 1;
    }
  }
  return {FromOrderedBits(low), first};
}

// Sorts s.list, padded to a power of two with elements that come last.
__device__ inline void SortList(SampleShared& s, int count) {
  int size = 1;
  while (size < count) size *= 2;
  for (int i = count + threadIdx.x; i < size; i += kSampleThreads) s.list[i] = {-INFINITY, INT_MAX};
  for (int width = 2; width <= size; width *= 2) {
    for (int step = width / 2; step > 0; step /= 2) {
      __syncthreads();
      for (int i = threadIdx.x; i < size; i += kSampleThreads) {
        const int other = i ^ step;
        if (other <= i) continue;
        const bool ascending = (i & width) == 0;
        if (Before(s.list[other], s.list[i]) == ascending) {
          const Ranked held = s.list[i];
          s.list[i] = s.list[other];
          s.list[other] = held;
        }
      }
    }
  }
  __syncthreads();
}

// The last element of the smallest prefix whose weight reaches `need`, which is at most the weight
// of the whole row up to `limit`; only elements at or before `limit` count.
__device__ inline Ranked Select(const Row& row, Ranked limit, unsigned long long need, bool by_mass,
                                SampleShared& s) {
  for (int i = threadIdx.x; i < kBuckets; i += kSampleThreads) s.bucket[i] = 0;
  if (threadIdx.x == 0) s.list_count = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < row.size; i += kSampleThreads) {
    const float logit = row.logits[i];
    if (Before(limit, {logit, i})) continue;
    const unsigned long long weight = WeightOf(row, logit, by_mass);
    if (weight > 0) atomicAdd(&s.bucket[BucketOf(row, logit)], weight);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    unsigned long long sum = 0;
    int b = 0;
    while (b < kBuckets - 1 && sum + s.bucket[b] < need) sum += s.bucket[b++];
    s.found = b;
    s.before = sum;
  }
  __syncthreads();
  const int bucket = s.found;
  const unsigned long long rest = need - s.before;
  for (int i = threadIdx.x; i < row.size; i += kSampleThreads) {
    const Ranked element = {row.logits[i], i};
    if (BucketOf(row, element.logit) != bucket || Before(limit, element)) continue;
    const int at = atomicAdd(&s.list_count, 1);
    if (at < kListSize) s.list[at] = element;
  }
  __syncthreads();
  const int count = s.list_count;
  if (count > kListSize) {
    const Ranked found = Bisect(row, bucket, rest, by_mass, s);
    return Before(limit, found) ? limit : found;
  }
  SortList(s, count);
  if (threadIdx.x == 0) {
    unsigned long long sum = 0;
    int i = 0;
    while (i < count - 1 && sum + WeightOf(row, s.list[i].logit, by_mass) < rest) {
      sum += WeightOf(row, s.list[i++].logit, by_mass);
    }
    s.bound = count > 0 ? s.list[i] : limit;
  }
  __syncthreads();
  const Ranked bound = s.bound;
  __syncthreads();
  return bound;
}

}  // namespace based::cuda

#endif  // BASED_KERNELS_CUDA_SAMPLE_SELECT_CUH_
