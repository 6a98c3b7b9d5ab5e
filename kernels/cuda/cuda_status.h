// CUDA and cuBLASLt errors as absl::Status.
#ifndef BASED_KERNELS_CUDA_CUDA_STATUS_H_
#define BASED_KERNELS_CUDA_CUDA_STATUS_H_

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace based::cuda {

// RESOURCE_EXHAUSTED for missing memory, else INTERNAL; the message names what was being done.
inline absl::Status ToStatus(cudaError_t error, absl::string_view what) {
  if (error == cudaSuccess) return absl::OkStatus();
  const std::string message =
      absl::StrCat("CUDA: ", what, ": ", cudaGetErrorName(error), ": ", cudaGetErrorString(error));
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // this error is not sticky; do not report it twice
    return absl::ResourceExhaustedError(message);
  }
  return absl::InternalError(message);
}

inline absl::Status ToStatus(cublasStatus_t status, absl::string_view what) {
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("cuBLASLt: ", what, ": ", cublasLtGetStatusString(status)));
}

}  // namespace based::cuda

// Returns from the enclosing function when a CUDA or cuBLASLt call failed.
#define BASED_CUDA_RETURN_IF_ERROR(call)                                                      \
  do {                                                                                        \
    if (absl::Status based_cuda_ = ::based::cuda::ToStatus((call), #call); !based_cuda_.ok()) \
      return based_cuda_;                                                                     \
  } while (false)

#endif  // BASED_KERNELS_CUDA_CUDA_STATUS_H_
