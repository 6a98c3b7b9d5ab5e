// Drawing tokens and log probabilities on the device; the rules are those of kernels/sampling.h.
//
// Grid: samples. Greedy reads the row once (201 KB at V = 50,264), a log probability once more;
// temperature 3 times, top_k and top_p 2 times more each. At 1,024 greedy rows 206 MB: 0.07 ms at
// 3.1 TB/s. Reached on an NVIDIA H100 80GB HBM3: 0.10 ms.
#include "kernels/cuda/overlapped_launch.cuh"
#include "kernels/cuda/sample_select.cuh"

namespace based::cuda {
namespace {

constexpr int kWarps = kSampleThreads / 32;

// Philox4x32-10 (Salmon et al. 2011), word 0, top 24 bits.
__device__ float PhiloxUniform(uint64_t seed, int64_t position) {
  uint32_t key0 = static_cast<uint32_t>(seed);
  uint32_t key1 = static_cast<uint32_t>(seed >> 32);
  uint32_t c0 = static_cast<uint32_t>(position);
  uint32_t c1 = static_cast<uint32_t>(static_cast<uint64_t>(position) >> 32);
  uint32_t c2 = 0;
  uint32_t c3 = 0;
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint32_t high0 = __umulhi(0xD2511F53u, c0);
    const uint32_t low0 = 0xD2511F53u * c0;
    const uint32_t high1 = __umulhi(0xCD9E8D57u, c2);
    const uint32_t low1 = 0xCD9E8D57u * c2;
    c0 = high1 ^ c1 ^ key0;
    c1 = low1;
    c2 = high0 ^ c3 ^ key1;
    c3 = low0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return static_cast<float>(c0 >> 8) * 0x1p-24f;
}

// The row's maximum at its lowest id, and whether all is finite.
__device__ bool FindMax(const float* logits, int size, SampleShared& s, Ranked* best) {
  Ranked mine = {-INFINITY, INT_MAX};
  int bad = 0;
  const auto take = [&](float logit, int id) {
    const Ranked element = {logit, id};
    bad |= !isfinite(logit);
    if (Before(element, mine)) mine = element;
  };
  const bool aligned = reinterpret_cast<uintptr_t>(logits) % sizeof(float4) == 0;
  const int quads = aligned ? size / 4 : 0;
#pragma unroll 4
  for (int i = threadIdx.x; i < quads; i += kSampleThreads) {
    const float4 x = reinterpret_cast<const float4*>(logits)[i];
    take(x.x, 4 * i);
    take(x.y, 4 * i + 1);
    take(x.z, 4 * i + 2);
    take(x.w, 4 * i + 3);
  }
  for (int i = 4 * quads + threadIdx.x; i < size; i += kSampleThreads) take(logits[i], i);
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) {
    const Ranked other = {__shfl_xor_sync(0xffffffffu, mine.logit, offset),
                          __shfl_xor_sync(0xffffffffu, mine.id, offset)};
    if (Before(other, mine)) mine = other;
  }
  if (threadIdx.x % 32 == 0) {
    s.floats[threadIdx.x / 32] = mine.logit;
    s.ints[threadIdx.x / 32] = mine.id;
  }
  bad = __syncthreads_or(bad);
  for (int w = 0; w < kWarps; ++w) {
    const Ranked other = {s.floats[w], s.ints[w]};
    if (Before(other, mine)) mine = other;
  }
  *best = mine;
  return bad == 0;
}

__device__ double LogSumExp(const float* logits, int size, float max, SampleShared& s) {
  double sum = 0.0;
  for (int i = threadIdx.x; i < size; i += kSampleThreads) sum += expf(logits[i] - max);
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
  __syncthreads();
  if (threadIdx.x % 32 == 0) s.doubles[threadIdx.x / 32] = sum;
  __syncthreads();
  double total = 0.0;
  for (int w = 0; w < kWarps; ++w) total += s.doubles[w];
  return static_cast<double>(max) + log(total);
}

struct Kept {
  Ranked limit;  // kept: at or before this
  float min_p;   // and of at least this weight, the largest being 1
};

__device__ __forceinline__ unsigned long long KeptMass(const Row& row, const Kept& kept, int id) {
  const float logit = row.logits[id];
  if (Before(kept.limit, {logit, id})) return 0;
  if (kept.min_p > 0.0f && expf((logit - row.max) / row.temperature) < kept.min_p) return 0;
  return Mass(row, logit);
}

// top_k, then top_p of what is left.
__device__ Kept Restrict(const Row& row, const DeviceSample& sample, SampleShared& s) {
  Kept kept = {{-INFINITY, INT_MAX}, sample.min_p};
  if (sample.top_k > 0 && sample.top_k < row.size) {
    kept.limit = Select(row, kept.limit, static_cast<unsigned>(sample.top_k), false, s);
  }
  if (sample.top_p < 1.0f) {
    unsigned long long mass = 0;
    for (int i = threadIdx.x; i < row.size; i += kSampleThreads) {
      const float logit = row.logits[i];
      if (!Before(kept.limit, {logit, i})) mass += Mass(row, logit);
    }
    const double total = static_cast<double>(BlockSum64(mass, s));
    const double need = ceil(total * static_cast<double>(sample.top_p));
    kept.limit = Select(row, kept.limit, max(static_cast<unsigned long long>(need), 1ull), true, s);
  }
  return kept;
}

// The first kept id in ascending order whose cumulative weight exceeds u times the total. A warp
// sums a contiguous segment of ids; the warp in whose segment the draw falls walks it.
__device__ int32_t Draw(const Row& row, const Kept& kept, float u, SampleShared& s) {
  const int segment = (row.size + kSampleThreads - 1) / kSampleThreads * 32;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int first = warp * segment;
  const int end = min(first + segment, row.size);
  unsigned long long mine = 0;
  for (int i = first + lane; i < end; i += 32) mine += KeptMass(row, kept, i);
  const double total = static_cast<double>(BlockSum64(mine, s));
  const double threshold = total * static_cast<double>(u);
  unsigned long long before = 0;
  int chosen = 0;
  while (chosen < kWarps - 1 && static_cast<double>(before + s.sums[chosen]) <= threshold) {
    before += s.sums[chosen++];
  }
  if (warp == chosen) {
    int32_t id = -1;
    for (int i = first; i < end && id < 0; i += 32) {
      unsigned long long sum = i + lane < end ? KeptMass(row, kept, i + lane) : 0;
#pragma unroll
      for (int offset = 1; offset < 32; offset <<= 1) {
        const unsigned long long other = __shfl_up_sync(0xffffffffu, sum, offset);
        if (lane >= offset) sum += other;
      }
      const unsigned reached =
          __ballot_sync(0xffffffffu, static_cast<double>(before + sum) > threshold);
      if (reached != 0) id = i + __ffs(reached) - 1;
      before += __shfl_sync(0xffffffffu, sum, 31);
    }
    if (lane == 0) s.found = id;
  }
  __syncthreads();
  return s.found;
}

__global__ void __launch_bounds__(kSampleThreads) SampleKernel(SampleParamsDevice p) {
  __shared__ SampleShared s;
  const DeviceSample sample = p.samples[blockIdx.x];
  WaitForPrevious();
  LetNextStart();
  if (sample.row < 0) return;
  const float* logits = p.logits + int64_t{blockIdx.x} * p.stride;
  Ranked best;
  const bool finite = FindMax(logits, p.vocab_size, s, &best);
  SampleResult result = {0.0, -1, finite ? 1 : 0};
  if (finite && sample.sample) {
    result.id = best.id;
    if (sample.temperature > 0.0f) {
      const Row row = {logits, p.vocab_size, best.logit, sample.temperature};
      const Kept kept = Restrict(row, sample, s);
      result.id = Draw(row, kept, PhiloxUniform(sample.seed, sample.position), s);
    }
  }
  const int32_t target = sample.target >= 0 ? sample.target : result.id;
  if (finite && sample.logprob && target >= 0) {
    result.logprob =
        static_cast<double>(logits[target]) - LogSumExp(logits, p.vocab_size, best.logit, s);
  }
  if (threadIdx.x == 0) p.results[blockIdx.x] = result;
}

}  // namespace

cudaError_t Sample(const SampleParamsDevice& p, cudaStream_t stream) {
  if (p.count == 0) return cudaSuccess;
  return LaunchOverlapped(SampleKernel, p.count, kSampleThreads, p, stream);
}

}  // namespace based::cuda
