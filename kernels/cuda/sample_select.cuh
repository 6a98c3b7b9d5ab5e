// Selection in an order of a row's elements, "larger key first, of equal ones the lower id": finds
// where a prefix of that order reaches a given weight, without sorting the row. One block per row.
//
// Weights are integers, so sums do not depend on the order of the atomics that make them.
#ifndef BASED_KERNELS_CUDA_SAMPLE_SELECT_CUH_
#define BASED_KERNELS_CUDA_SAMPLE_SELECT_CUH_

#include "kernels/cuda/device_types.cuh"

namespace based::cuda {

constexpr int kSampleThreads = 512;
constexpr int kBuckets = 2048;
constexpr int kListSize = 1024;
static_assert(kListSize >= kMostTopScores && kListSize <= kBuckets);

// An element of the row and its place in the order.
struct Ranked {
  float key;
  int32_t id;
};

// Comes after every element.
__device__ __forceinline__ Ranked Last() { return {-INFINITY, INT_MAX}; }

// True when a comes before b.
__device__ __forceinline__ bool Before(const Ranked& a, const Ranked& b) {
  return a.key > b.key || (a.key == b.key && a.id < b.id);
}

struct SampleShared {
  unsigned long long bucket[kBuckets];
  DeviceRules rules;
  Ranked list[kListSize];
  unsigned long long sums[kSampleThreads / 32];
  float floats[32];
  double doubles[32];
  int ints[32];
  int list_count;
  int found;
  unsigned long long before;
};

// Logits of which a masked one is -infinity, and the largest of them.
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

// Number of the slice of keys, `per_unit` slices to 1, in which one `distance` below the largest
// is.
__device__ __forceinline__ int BucketOf(float distance, float per_unit) {
  const float at = distance * per_unit;
  return at >= kBuckets - 1 ? kBuckets - 1 : static_cast<int>(at);
}

// What Select takes for an order: the key of an element, the largest key, the slice that a key is
// in, and the weight of an element. This one is by logit; an element weighs 1 or its Mass, and
// nothing when it is masked.
struct LogitOrder {
  const Row& row;
  bool by_mass;

  __device__ int size() const { return row.size; }
  __device__ float Largest() const { return row.max; }
  __device__ float Key(int id) const { return row.logits[id]; }
  __device__ int Bucket(float key) const { return BucketOf(row.max - key, 64.0f); }
  __device__ unsigned long long Weight(const Ranked& element) const {
    if (by_mass) return Mass(row, element.key);
    return element.key > -INFINITY ? 1 : 0;
  }
};

// Nearest surprise to the entropy first: with x = (max - logit) / temperature, surprise less
// entropy is x less the mean of x.
struct TypicalOrder {
  const Row& row;
  double inverse_temperature;
  double mean;
  float per_unit;  // slices of distance, so that those of all that weigh something are used

  __device__ int size() const { return row.size; }
  __device__ float Largest() const { return 0.0f; }
  __device__ float Key(int id) const {
    const double below = static_cast<double>(row.max) - static_cast<double>(row.logits[id]);
    return static_cast<float>(-fabs(below * inverse_temperature - mean));
  }
  __device__ int Bucket(float key) const { return BucketOf(-key, per_unit); }
  __device__ unsigned long long Weight(const Ranked& element) const {
    return Mass(row, row.logits[element.id]);
  }
};

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

// In fixed order; every thread gets the sum.
__device__ __forceinline__ double BlockSumDouble(double x, SampleShared& s) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) x += __shfl_xor_sync(0xffffffffu, x, offset);
  __syncthreads();
  if (threadIdx.x % 32 == 0) s.doubles[threadIdx.x / 32] = x;
  __syncthreads();
  double total = 0.0;
  for (int w = 0; w < kSampleThreads / 32; ++w) total += s.doubles[w];
  return total;
}

// Index of the first of `values`, in shared memory, at which their running sum reaches `need`, with
// the sum before it in s.before; -1 when none does. need is at least 1.
__device__ inline int FirstReaching(const unsigned long long* values, int count,
                                    unsigned long long need, SampleShared& s) {
  const int warp = threadIdx.x / 32;
  const int per = (count + kSampleThreads - 1) / kSampleThreads;
  const int first = min(static_cast<int>(threadIdx.x) * per, count);
  const int end = min(first + per, count);
  unsigned long long own = 0;
  for (int i = first; i < end; ++i) own += values[i];
  unsigned long long sum = own;
#pragma unroll
  for (int offset = 1; offset < 32; offset <<= 1) {
    const unsigned long long other = __shfl_up_sync(0xffffffffu, sum, offset);
    if (static_cast<int>(threadIdx.x % 32) >= offset) sum += other;
  }
  __syncthreads();
  if (threadIdx.x % 32 == 31) s.sums[warp] = sum;
  if (threadIdx.x == 0) s.found = -1;
  __syncthreads();
  for (int w = 0; w < warp; ++w) sum += s.sums[w];
  if (sum - own < need && sum >= need) {
    int i = first;
    unsigned long long before = sum - own;
    while (before + values[i] < need) before += values[i++];
    s.found = i;
    s.before = before;
  }
  __syncthreads();
  return s.found;
}

// Weight of everything in `bucket` that is at or before `at`.
template <typename Order>
__device__ unsigned long long WeightUpTo(const Order& order, Ranked at, int bucket,
                                         SampleShared& s) {
  unsigned long long sum = 0;
  for (int i = threadIdx.x; i < order.size(); i += kSampleThreads) {
    const Ranked element = {order.Key(i), i};
    if (order.Bucket(element.key) == bucket && !Before(at, element)) sum += order.Weight(element);
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

// Slow and sure: bisects the key's bits, then the id. For buckets too full for the list.
template <typename Order>
__device__ Ranked Bisect(const Order& order, int bucket, unsigned long long need, SampleShared& s) {
  uint32_t low = OrderedBits(-INFINITY);         // prefix down to low reaches `need`
  uint32_t high = OrderedBits(order.Largest());  // the answer's bits are in [low, high]
  while (low < high) {
    const uint32_t middle = low + (high - low + 1) / 2;
    const Ranked at = {FromOrderedBits(middle), order.size()};
    if (WeightUpTo(order, at, bucket, s) >= need) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  int first = 0;
  int last = order.size() - 1;
  while (first < last) {
    const int middle = (first + last) / 2;
    if (WeightUpTo(order, {FromOrderedBits(low), middle}, bucket, s) >= need) {
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
  for (int i = count + threadIdx.x; i < size; i += kSampleThreads) s.list[i] = Last();
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

// The last element of the smallest prefix whose weight reaches `need`, at least 1; `limit` when the
// whole does not. Only elements at or before `limit` count.
template <typename Order>
__device__ Ranked Select(const Order& order, Ranked limit, unsigned long long need,
                         SampleShared& s) {
  __syncthreads();
  for (int i = threadIdx.x; i < kBuckets; i += kSampleThreads) s.bucket[i] = 0;
  if (threadIdx.x == 0) s.list_count = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < order.size(); i += kSampleThreads) {
    const Ranked element = {order.Key(i), i};
    if (Before(limit, element)) continue;
    const unsigned long long weight = order.Weight(element);
    if (weight > 0) atomicAdd(&s.bucket[order.Bucket(element.key)], weight);
  }
  __syncthreads();
  const int bucket = FirstReaching(s.bucket, kBuckets, need, s);
  if (bucket < 0) return limit;
  const unsigned long long rest = need - s.before;
  for (int i = threadIdx.x; i < order.size(); i += kSampleThreads) {
    const Ranked element = {order.Key(i), i};
    if (order.Bucket(element.key) != bucket || Before(limit, element)) continue;
    if (order.Weight(element) == 0) continue;
    const int at = atomicAdd(&s.list_count, 1);
    if (at < kListSize) s.list[at] = element;
  }
  __syncthreads();
  const int count = s.list_count;
  if (count > kListSize) {
    const Ranked found = Bisect(order, bucket, rest, s);
    return Before(limit, found) ? limit : found;
  }
  SortList(s, count);
  for (int i = threadIdx.x; i < count; i += kSampleThreads) s.bucket[i] = order.Weight(s.list[i]);
  __syncthreads();
  return s.list[FirstReaching(s.bucket, count, rest, s)];
}

}  // namespace based::cuda

#endif  // BASED_KERNELS_CUDA_SAMPLE_SELECT_CUH_
