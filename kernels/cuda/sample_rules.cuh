// The rules that few draws have (SampleRules): they change the row in place, in the order of
// kernels/sampling.h. One block per row; every function begins and ends with all threads in step.
//
// Lists are read once, from pinned host memory, and the row once more for a mask (6.3 KB over the
// bus at 50,264 ids); typical_p reads the row 5 times. At 1,024 rows with a temperature on an
// NVIDIA H100 80GB HBM3, over the 0.36 ms of none: a mask 0.26 ms (6.4 MB over the bus), 1,000
// counts 0.14 (8.2 MB), 5,000 counts 0.76 (41 MB, 54 GB/s), typical_p 0.99.
#ifndef BASED_KERNELS_CUDA_SAMPLE_RULES_CUH_
#define BASED_KERNELS_CUDA_SAMPLE_RULES_CUH_

#include "kernels/cuda/sample_select.cuh"

namespace based::cuda {

__device__ __forceinline__ bool InRow(int32_t id, int size) {
  return static_cast<uint32_t>(id) < static_cast<uint32_t>(size);
}

// As the host rounds: no fused multiply-add.
__device__ inline float Penalised(float logit, const DeviceRules& rules, int32_t output_count) {
  logit = logit > 0.0f ? __fdiv_rn(logit, rules.repetition_penalty)
                       : __fmul_rn(logit, rules.repetition_penalty);
  logit = __fsub_rn(logit, __fmul_rn(rules.frequency_penalty, static_cast<float>(output_count)));
  return output_count > 0 ? __fsub_rn(logit, rules.presence_penalty) : logit;
}

// With `keep`, the list entries keep the logits that they replace, for ReplacedLogit.
__device__ inline void ApplyPenalties(float* logits, int size, const DeviceRules& rules,
                                      bool keep) {
  for (int i = threadIdx.x; i < rules.count_size; i += kSampleThreads) {
    const DeviceCount count = rules.counts[i];
    if (!InRow(count.id, size)) continue;
    const float logit = logits[count.id];
    logits[count.id] = Penalised(logit, rules, count.output_count);
    if (keep) rules.counts[i].output_count = __float_as_int(logit);
  }
  __syncthreads();
  for (int i = threadIdx.x; i < rules.bias_size; i += kSampleThreads) {
    const DeviceBias bias = rules.biases[i];
    if (!InRow(bias.id, size)) continue;
    const float logit = logits[bias.id];
    logits[bias.id] = __fadd_rn(logit, bias.bias);
    if (keep) rules.biases[i].bias = logit;
  }
  __syncthreads();
}

// The logit that `id` had before ApplyPenalties(keep = true); `current` is what it has now. Each
// thread looks at the entries that it wrote itself.
__device__ inline float ReplacedLogit(int32_t id, float current, const DeviceRules& rules,
                                      SampleShared& s) {
  __syncthreads();
  if (threadIdx.x == 0) s.floats[0] = current;
  __syncthreads();
  for (int i = threadIdx.x; i < rules.bias_size; i += kSampleThreads) {
    if (rules.biases[i].id == id) s.floats[0] = rules.biases[i].bias;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < rules.count_size; i += kSampleThreads) {
    if (rules.counts[i].id == id) s.floats[0] = __int_as_float(rules.counts[i].output_count);
  }
  __syncthreads();
  return s.floats[0];
}

// A warp takes 32 words of the mask at a time, and lane j then id j of each word.
__device__ inline void ApplyMasks(float* logits, int size, const DeviceRules& rules) {
  for (int i = threadIdx.x; i < rules.banned_size; i += kSampleThreads) {
    const int32_t id = rules.banned[i];
    if (InRow(id, size)) logits[id] = -INFINITY;
  }
  if (rules.mask != nullptr) {
    const int lane = threadIdx.x % 32;
    const int words = (size + 31) / 32;
    for (int first = threadIdx.x - lane; first < words; first += kSampleThreads) {
      const uint32_t own = first + lane < words ? rules.mask[first + lane] : 0;
      for (int j = 0; j < 32; ++j) {
        const uint32_t word = __shfl_sync(0xffffffffu, own, j);
        const int id = (first + j) * 32 + lane;
        if (id < size && (word >> lane & 1) == 0) logits[id] = -INFINITY;
      }
    }
  }
  __syncthreads();
}

// Masks everything after `limit`.
template <typename Order>
__device__ void MaskAfter(const Order& order, Ranked limit, float* logits) {
  __syncthreads();
  for (int i = threadIdx.x; i < order.size(); i += kSampleThreads) {
    if (Before(limit, {order.Key(i), i})) logits[i] = -INFINITY;
  }
  __syncthreads();
}

// typical_p of what is not masked.
__device__ inline void KeepTypical(const Row& row, float typical_p, float* logits,
                                   SampleShared& s) {
  const double inverse_temperature = 1.0 / static_cast<double>(row.temperature);
  unsigned long long mass = 0;
  double moment = 0.0;
  float farthest = 0.0f;
  for (int i = threadIdx.x; i < row.size; i += kSampleThreads) {
    const unsigned long long own = Mass(row, logits[i]);
    mass += own;
    if (own == 0) continue;
    const double below = static_cast<double>(row.max) - static_cast<double>(logits[i]);
    moment += static_cast<double>(own) * (below * inverse_temperature);
    farthest = fmaxf(farthest, static_cast<float>(below * inverse_temperature));
  }
  const double total = static_cast<double>(BlockSum64(mass, s));
  const double mean = BlockSumDouble(moment, s) / total;
  const float range = fmaxf(static_cast<float>(mean), BlockMax(farthest, s.floats));
  const double need = ceil(total * static_cast<double>(typical_p));
  const TypicalOrder order = {row, inverse_temperature, mean, (kBuckets - 1) / fmaxf(range, 1e-3f)};
  const Ranked limit = Select(order, Last(), max(static_cast<unsigned long long>(need), 1ull), s);
  MaskAfter(order, limit, logits);
}

}  // namespace based::cuda

#endif  // BASED_KERNELS_CUDA_SAMPLE_RULES_CUH_
