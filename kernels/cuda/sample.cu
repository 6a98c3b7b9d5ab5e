// Drawing tokens and log probabilities on the device; the rules are those of kernels/sampling.h.
//
// Grid: samples. Greedy reads the row once (201 KB at V = 50,264), a log probability once more;
// temperature 3 times, top_k and top_p 2 times more each, top_logprobs 3. At 1,024 greedy rows 206
// MB: 0.07 ms at 3.1 TB/s. Reached on an NVIDIA H100 80GB HBM3 at 1,024 rows: greedy 0.09 ms,
// temperature 0.36, top_p 1.05, 20 alternatives 0.54; rules: sample_rules.cuh.
#include "kernels/cuda/overlapped_launch.cuh"
#include "kernels/cuda/sample_rules.cuh"

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
  Ranked mine = Last();
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
    const Ranked other = {__shfl_xor_sync(0xffffffffu, mine.key, offset),
                          __shfl_xor_sync(0xffffffffu, mine.id, offset)};
    if (Before(other, mine)) mine = other;
  }
  if (threadIdx.x % 32 == 0) {
    s.floats[threadIdx.x / 32] = mine.key;
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
  return static_cast<double>(max) + log(BlockSumDouble(sum, s));
}

// The most likely ids, most likely first.
__device__ void WriteTop(const Row& row, const DeviceSample& sample, double log_sum,
                         SampleShared& s) {
  const LogitOrder order = {row, /*by_mass=*/false};
  const Ranked limit = Select(order, Last(), static_cast<unsigned long long>(sample.top_count), s);
  __syncthreads();
  if (threadIdx.x == 0) s.list_count = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < row.size; i += kSampleThreads) {
    const Ranked element = {row.logits[i], i};
    if (!Before(limit, element)) s.list[atomicAdd(&s.list_count, 1)] = element;
  }
  __syncthreads();
  SortList(s, sample.top_count);
  for (int i = threadIdx.x; i < sample.top_count; i += kSampleThreads) {
    sample.top[i] = {static_cast<double>(s.list[i].key) - log_sum, s.list[i].id, 0};
  }
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
__device__ Kept Restrict(const Row& row, const DeviceSample& sample, int32_t top_k,
                         SampleShared& s) {
  Kept kept = {Last(), sample.min_p};
  if (top_k > 0 && top_k < row.size) {
    kept.limit = Select(LogitOrder{row, /*by_mass=*/false}, kept.limit,
                        static_cast<unsigned long long>(top_k), s);
  }
  if (sample.top_p < 1.0f) {
    unsigned long long mass = 0;
    for (int i = threadIdx.x; i < row.size; i += kSampleThreads) {
      const float logit = row.logits[i];
      if (!Before(kept.limit, {logit, i})) mass += Mass(row, logit);
    }
    const double total = static_cast<double>(BlockSum64(mass, s));
    const double need = ceil(total * static_cast<double>(sample.top_p));
    kept.limit = Select(LogitOrder{row, /*by_mass=*/true}, kept.limit,
                        max(static_cast<unsigned long long>(need), 1ull), s);
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

// Applies s.rules to the row; what typical_p keeps is found here too, and top_k before it. `best`
// is the largest logit of what is left, -infinity when nothing is.
__device__ void ApplyRules(const DeviceSample& sample, float* logits, int size, SampleShared& s,
                           int32_t* top_k, Ranked* best) {
  ApplyPenalties(logits, size, s.rules, sample.logprob != 0 && sample.target < 0);
  ApplyMasks(logits, size, s.rules);
  FindMax(logits, size, s, best);
  if (s.rules.typical_p >= 1.0f || sample.temperature == 0.0f || !isfinite(best->key)) return;
  const Row row = {logits, size, best->key, sample.temperature};
  if (*top_k > 0 && *top_k < size) {
    const LogitOrder order = {row, /*by_mass=*/false};
    MaskAfter(order, Select(order, Last(), static_cast<unsigned long long>(*top_k), s), logits);
  }
  *top_k = 0;
  KeepTypical(row, s.rules.typical_p, logits, s);
  FindMax(logits, size, s, best);
}

// Id, or -1 when the rules leave none. `best` is the largest logit.
__device__ int32_t DrawId(const DeviceSample& sample, float* logits, int size, Ranked best,
                          SampleShared& s) {
  int32_t top_k = sample.top_k;
  if (sample.rules != nullptr) {
    ApplyRules(sample, logits, size, s, &top_k, &best);
    if (!isfinite(best.key)) return -1;
  }
  if (sample.temperature == 0.0f) return best.id;
  const Row row = {logits, size, best.key, sample.temperature};
  const Kept kept = Restrict(row, sample, top_k, s);
  return Draw(row, kept, PhiloxUniform(sample.seed, sample.position), s);
}

__device__ __forceinline__ uint64_t GlobalNanoseconds() {
  uint64_t now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  return now;
}

__device__ __forceinline__ int32_t LoadAcquire(const int32_t* word) {
  int32_t value;
  asm volatile("ld.acquire.sys.s32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
  return value;
}

// The state once the host has moved it on; kAwaited when the limit has passed.
__device__ int32_t PollState(const int32_t* state, int64_t limit_ns) {
  constexpr unsigned kLongestPause = 2000;
  const uint64_t begin = GlobalNanoseconds();
  for (unsigned pause = 100;; pause = min(2 * pause, kLongestPause)) {
    const int32_t now = LoadAcquire(state);
    if (now != kAwaited || GlobalNanoseconds() - begin > static_cast<uint64_t>(limit_ns)) {
      return now;
    }
    __nanosleep(pause);
  }
}

// Takes late rules into s.rules; returns their state. Nothing of them may be read before: the host
// wrote them before its release store of the state, which the acquire load takes at system scope,
// and the barrier orders the block's loads behind that. So ordinary loads of the rules, their lists
// and their masks are right though the memory held others two steps ago and may be in a cache. Only
// the non-coherent path (__ldg) is outside that order, and nothing of them goes by it.
__device__ int32_t AwaitRules(const DeviceSample& sample, int64_t limit_ns, SampleShared& s) {
  if (threadIdx.x == 0) {
    const int32_t state = PollState(&sample.rules->state, limit_ns);
    if (state == kGiven) s.rules = *sample.rules;
    s.rules.state = state;
  }
  __syncthreads();
  return s.rules.state;
}

__global__ void __launch_bounds__(kSampleThreads) SampleKernel(SampleParamsDevice p) {
  __shared__ SampleShared s;
  const DeviceSample sample = p.samples[blockIdx.x];
  // The host wrote them before it launched the step.
  if (sample.rules != nullptr && !sample.late && threadIdx.x == 0) s.rules = *sample.rules;
  WaitForPrevious();
  LetNextStart();
  if (sample.row < 0) return;
  float* logits = p.logits + int64_t{blockIdx.x} * p.stride;
  Ranked best;
  const bool finite = FindMax(logits, p.vocab_size, s, &best);
  SampleResult result = {0.0, -1, finite ? 1 : 0};
  if (finite) {
    // Log probabilities are of the logits before any rule.
    const double log_sum =
        sample.logprob || sample.top_count > 0 ? LogSumExp(logits, p.vocab_size, best.key, s) : 0.0;
    const float target = sample.target >= 0 ? logits[sample.target] : 0.0f;
    if (sample.top_count > 0) WriteTop({logits, p.vocab_size, best.key, 1.0f}, sample, log_sum, s);
    const int32_t state = sample.late ? AwaitRules(sample, p.late_limit_ns, s) : kGiven;
    if (state == kAwaited) result.finite = kRulesNeverCame;
    if (sample.sample && state == kGiven) {
      result.id = DrawId(sample, logits, p.vocab_size, best, s);
    }
    if (sample.logprob && sample.target >= 0) {
      result.logprob = static_cast<double>(target) - log_sum;
    } else if (sample.logprob && result.id >= 0) {
      float logit = logits[result.id];
      if (sample.rules != nullptr) logit = ReplacedLogit(result.id, logit, s.rules, s);
      result.logprob = static_cast<double>(logit) - log_sum;
    }
  } else {
    for (int i = threadIdx.x; i < sample.top_count; i += kSampleThreads) {
      sample.top[i] = {0.0, -1, 0};
    }
  }
  if (threadIdx.x == 0) p.results[blockIdx.x] = result;
}

}  // namespace

cudaError_t Sample(const SampleParamsDevice& p, cudaStream_t stream) {
  if (p.count == 0) return cudaSuccess;
  return LaunchOverlapped(SampleKernel, p.count, kSampleThreads, p, stream);
}

}  // namespace based::cuda
