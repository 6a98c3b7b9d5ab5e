// What few samples of a step have: rules, and alternatives to report. Both lie in pinned host
// memory that kernels read and write in place, so that steps without them move nothing and steps
// with them replay the same graphs: a DeviceSample points to its own.
//
// Bytes of a sample's rules: 64, 8 for each count and bias, 4 for each banned id, and 4 *
// ceil(vocab_size / 32) where ids are allowed or a mask is set; samples with one mask (streams
// under one constraint often have) share its copy. Memory is made for max_samples masks (6.4 MiB
// for 1,024 at 50,264 ids) and kMostRequestedScores alternatives each; a step that needs more (long
// counts: at most 8 * vocab_size bytes a sample) doubles it, which may take milliseconds.
#ifndef BASED_KERNELS_CUDA_SAMPLE_STAGING_H_
#define BASED_KERNELS_CUDA_SAMPLE_STAGING_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cuda/device_buffer.h"
#include "kernels/cuda/launch.h"
#include "kernels/sampling.h"

namespace based::cuda {

class SampleStaging {
 public:
  static absl::StatusOr<SampleStaging> Create(int32_t max_samples, int32_t vocab_size);
  SampleStaging() = default;

  // Points `device`, the step's DeviceSamples, to copies of its rules and to room for its
  // alternatives. The step before that used this object must have been collected. INVALID_ARGUMENT
  // for a top_logprobs that no kernel serves, RESOURCE_EXHAUSTED.
  absl::Status Stage(const std::vector<SampleRow>& samples, DeviceSample* device);

  // The alternatives of the step staged last, which must be done.
  void CopyTop(std::vector<TokenScore>& top) const;

 private:
  int64_t RuleBytes(const SampleRules& rules) const;
  const DeviceRules* Pack(const SampleRules& rules, std::byte*& at);
  const uint32_t* PackMask(const SampleRules& rules, std::byte*& at);

  int32_t vocab_size_ = 0;
  PinnedBuffer rules_;
  // Of the step in hand: copies of masks without allowed ids, by where they were copied from.
  absl::flat_hash_map<const uint32_t*, const uint32_t*> masks_;
  PinnedBuffer top_;
  int64_t top_count_ = 0;
};

}  // namespace based::cuda

#endif  // BASED_KERNELS_CUDA_SAMPLE_STAGING_H_
