// Backend for NVIDIA GPUs of compute capability 8.0 and up. Contains no CUDA type.
//
// bf16 weights run with bf16 activations and an fp32 residual; fp32 weights run with fp32
// activations and no TF32. S and z of linear attention are fp32 in both.
#ifndef BASED_KERNELS_CUDA_CUDA_BACKEND_H_
#define BASED_KERNELS_CUDA_CUDA_BACKEND_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace based {

enum class CudaPrecision : uint8_t {
  kAuto,  // fp32 when any weight matrix is fp32, else bf16
  kF32,
  kBF16
};

struct CudaBackendOptions {
  int32_t device = 0;
  // Results bitwise independent of what else is in the step, for equal span splits: one GEMM
  // configuration per shape whatever the number of rows.
  bool batch_invariant = false;
  CudaPrecision precision = CudaPrecision::kAuto;
  // Only the kernels that take any shape; for comparing them with the fast ones.
  bool generic_only = false;
  // Tokens between two folds of a head into the state of linear attention; 1 is the plain
  // recurrence, which writes all of the state at every token.
  int32_t fold_interval = 8;
  // Decode-only steps as CUDA graphs.
  bool graphs = true;
  // Whether steps may wait for rules on the device. Not under tools that run one kernel at a time:
  // Launch would wait for what comes after it.
  bool late_rules = true;
  // Device memory that info().available_bytes leaves alone.
  int64_t reserve_bytes = int64_t{512} << 20;
};

// UNAVAILABLE when the driver or device `options.device` does not answer or is too old.
absl::StatusOr<std::unique_ptr<Backend>> NewCudaBackend(const CudaBackendOptions& options);

}  // namespace based

#endif  // BASED_KERNELS_CUDA_CUDA_BACKEND_H_
