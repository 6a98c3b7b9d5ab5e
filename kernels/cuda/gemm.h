// y = x W^T (+ bias) (+ y) through cuBLASLt, fp32 accumulation, no TF32.
#ifndef BASED_KERNELS_CUDA_GEMM_H_
#define BASED_KERNELS_CUDA_GEMM_H_

#include <cublasLt.h>

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cuda/device_buffer.h"
#include "kernels/cuda/launch.h"

namespace based::cuda {

// What the choice of an algorithm depends on, beside the number of rows.
struct GemmShape {
  int32_t n = 0;
  int32_t k = 0;
  Type act = Type::kBF16;       // of x and W
  Type out_type = Type::kBF16;  // of y and bias
  bool bias = false;
  bool accumulate = false;
  friend auto operator<=>(const GemmShape&, const GemmShape&) = default;
};

struct GemmCall {
  const void* weight = nullptr;  // [n, k]
  const void* in = nullptr;      // [rows, k]
  const void* bias = nullptr;    // [n] of out_type, or null
  void* out = nullptr;           // [rows, n]
  int32_t rows = 0;
};

struct GemmOptions {
  // One algorithm per shape whatever the rows: a row's result does not depend on the others.
  bool batch_invariant = false;
  // Times cuBLASLt's candidates at Prepare instead of taking its first guess.
  bool tune = false;
};

class Gemm {
 public:
  static absl::StatusOr<std::unique_ptr<Gemm>> Create(const GemmOptions& options);
  ~Gemm();
  Gemm(const Gemm&) = delete;
  Gemm& operator=(const Gemm&) = delete;

  // Chooses algorithms for each count of `rows` (ascending). `call`'s pointers are used for timing:
  // its buffers hold the largest count. Waits for the device. UNIMPLEMENTED: no algorithm.
  absl::Status Prepare(const GemmShape& shape, const std::vector<int32_t>& rows,
                       const GemmCall& call, cudaStream_t stream);

  // Enqueues with the algorithm of the smallest prepared count that is not below call.rows.
  absl::Status Run(const GemmShape& shape, const GemmCall& call, cudaStream_t stream);

  int64_t workspace_bytes() const { return workspace_.bytes() + flush_.bytes(); }

 private:
  using Plans = std::map<int32_t, cublasLtMatmulAlgo_t>;  // by rows

  static constexpr size_t kTimedRuns = 5;
  struct Timer {
    Event start;
    Event stop;
  };

  explicit Gemm(const GemmOptions& options) : options_(options) {}
  absl::StatusOr<std::vector<cublasLtMatmulAlgo_t>> Candidates(const GemmShape& shape, int32_t rows,
                                                               int32_t most);
  absl::StatusOr<cublasLtMatmulAlgo_t> Fastest(const GemmShape& shape, const GemmCall& call,
                                               cudaStream_t stream);
  // Appends the milliseconds of `runs`, at most kTimedRuns.
  absl::Status Time(const GemmShape& shape, const GemmCall& call,
                    const cublasLtMatmulAlgo_t& algorithm, size_t runs, cudaStream_t stream,
                    std::vector<float>& times);
  absl::Status Multiply(const GemmShape& shape, const GemmCall& call,
                        const cublasLtMatmulAlgo_t& algorithm, cudaStream_t stream);

  const GemmOptions options_;
  cublasLtHandle_t handle_ = nullptr;
  DeviceBuffer workspace_;
  DeviceBuffer flush_;  // written before each timing, so that W comes from memory
  std::array<Timer, kTimedRuns> timers_;
  std::map<GemmShape, Plans> plans_;
};

}  // namespace based::cuda

#endif  // BASED_KERNELS_CUDA_GEMM_H_
