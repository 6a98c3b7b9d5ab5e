// Weights on the device, packed as the kernels want them. Each packing is made once and shared.
#ifndef BASED_KERNELS_CUDA_WEIGHT_STORE_H_
#define BASED_KERNELS_CUDA_WEIGHT_STORE_H_

#include <cstdint>
#include <map>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cuda/device_buffer.h"
#include "kernels/cuda/launch.h"
#include "kernels/program.h"

namespace based::cuda {

class WeightStore {
 public:
  // `program` and `stream` must outlive the calls, not the store.
  WeightStore(const Program& program, cudaStream_t stream) : program_(&program), stream_(stream) {}

  // The row-wise stack of `ids` as `type`, transposed if asked. Waits for the device.
  absl::StatusOr<const void*> Get(const std::vector<WeightId>& ids, Type type,
                                  bool transpose = false);

  int64_t bytes() const { return bytes_; }

 private:
  absl::Status PackOne(const WeightView& view, Type type, bool transpose, void* out);

  const Program* program_;
  cudaStream_t stream_;
  std::map<std::tuple<std::vector<WeightId>, Type, bool>, DeviceBuffer> packed_;
  DeviceBuffer staging_;  // raw values on their way
  int64_t bytes_ = 0;
};

}  // namespace based::cuda

#endif  // BASED_KERNELS_CUDA_WEIGHT_STORE_H_
