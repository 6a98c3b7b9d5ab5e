// What few samples of a step have: rules, and alternatives to report. Both lie in pinned host
// memory that kernels read and write in place, so that steps without them move nothing and steps
// with them replay the same graphs: a DeviceSample points to its own. A late sample's rules have
// their room from the start and are written while kernels run, which wait for their state. Pinned
// memory is made and freed in Stage alone: either may wait for the device, and that for the rules.
//
// Bytes of a sample's rules: 64, 8 for each count and bias, 4 for each banned id, and 4 *
// ceil(vocab_size / 32) where ids are allowed or a mask is set; samples with one mask (streams
// under one constraint often have) share its copy; late ones take what they may come to. Memory is
// made for max_samples masks (6.4 MiB for 1,024 at 50,264 ids) and kMostRequestedScores
// alternatives each; a step that needs more (long counts: at most 8 * vocab_size bytes a sample)
// doubles it, which may take milliseconds.
#ifndef BASED_KERNELS_CUDA_SAMPLE_STAGING_H_
#define BASED_KERNELS_CUDA_SAMPLE_STAGING_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/cuda/device_buffer.h"
#include "kernels/cuda/launch.h"
#include "kernels/sampling.h"

namespace based::cuda {

class SampleStaging {
 public:
  static absl::StatusOr<SampleStaging> Create(int32_t max_samples, int32_t vocab_size);
  SampleStaging() = default;

  // Points `device`, the step's DeviceSamples, to copies of its rules, to room for late ones and to
  // room for its alternatives. The step before that used this object must have been collected, and
  // no step on the device may wait for rules. INVALID_ARGUMENT for a top_logprobs that no kernel
  // serves, RESOURCE_EXHAUSTED.
  absl::Status Stage(const std::vector<SampleRow>& samples, DeviceSample* device);

  // Executable::SupplyRules of the step staged last.
  absl::Status Supply(absl::Span<const SampleRules* const> rules);

  // The step staged last has late samples that were not supplied.
  bool awaits_rules() const { return !late_.empty(); }

  // Makes these void, so that the device goes on.
  void VoidLate();

  // The alternatives of the step staged last, which must be done.
  void CopyTop(std::vector<TokenScore>& top) const;

 private:
  struct Late {
    DeviceRules* rules;
    RuleSizes most;
  };

  absl::Status CheckTop(const std::vector<SampleRow>& samples);
  int64_t RuleBytes(const RuleSizes& sizes) const;
  DeviceRules* Pack(const SampleRules& rules, std::byte*& at);
  DeviceRules* MakeRoom(const RuleSizes& most, std::byte*& at);
  const uint32_t* PackMask(const SampleRules& rules, std::byte*& at);

  int32_t vocab_size_ = 0;
  PinnedBuffer rules_;
  // Of the step in hand: copies of masks without allowed ids, by where they were copied from.
  absl::flat_hash_map<const uint32_t*, const uint32_t*> masks_;
  std::vector<Late> late_;  // that wait
  PinnedBuffer top_;
  int64_t top_count_ = 0;
};

}  // namespace based::cuda

#endif  // BASED_KERNELS_CUDA_SAMPLE_STAGING_H_
