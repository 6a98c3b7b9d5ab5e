#include "kernels/cuda/cuda_backend.h"

#include <cuda_runtime_api.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"
#include "kernels/cuda/executable.h"
#include "kernels/program_check.h"

namespace based {
namespace {

class CudaBackend : public Backend {
 public:
  explicit CudaBackend(const CudaBackendOptions& options) : options_(options) {}

  std::string name() const override { return "cuda"; }

  // 1,024 decodes fill the card, and a few spans more leave room for prompts beside them; beside
  // them or alone, 2,048 rows of prefill keep activations in L2.
  CompileOptions DefaultOptions() const override {
    return {.max_rows = 3072, .max_spans = 1152, .max_samples = 1152};
  }

  absl::StatusOr<std::unique_ptr<Executable>> Compile(const Program& program,
                                                      const CompileOptions& options) override {
    BASED_RETURN_IF_ERROR(CheckProgram(program, /*allow_synthetic=*/true));
    if (options.max_rows < 1 || options.max_spans < 1 || options.max_samples < 1) {
      return absl::InvalidArgumentError(absl::StrCat("max_rows ", options.max_rows, ", max_spans ",
                                                     options.max_spans, " and max_samples ",
                                                     options.max_samples, " must be at least 1"));
    }
    return cuda::CudaExecutable::Create(program, options, options_);
  }

 private:
  const CudaBackendOptions options_;
};

absl::Status Unusable(int32_t device, cudaError_t error) {
  return absl::UnavailableError(absl::StrCat("CUDA device ", device, ": ", cudaGetErrorName(error),
                                             ": ", cudaGetErrorString(error)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> NewCudaBackend(const CudaBackendOptions& options) {
  if (options.fold_interval < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("fold_interval is ", options.fold_interval, ", expected at least 1"));
  }
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    return Unusable(options.device, error);
  }
  if (options.device < 0 || options.device >= count) {
    return absl::UnavailableError(
        absl::StrCat("CUDA device ", options.device, ": the machine has ", count));
  }
  cudaDeviceProp properties;
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, options.device);
      error != cudaSuccess) {
    return Unusable(options.device, error);
  }
  if (properties.major < 8) {
    return absl::UnavailableError(absl::StrCat(
        "CUDA device ", options.device, " (", properties.name, ") has compute capability ",
        properties.major, ".", properties.minor, ", expected at least 8.0"));
  }
  if (const cudaError_t error = cudaSetDevice(options.device); error != cudaSuccess) {
    return Unusable(options.device, error);
  }
  if (const cudaError_t error = cudaFree(nullptr); error != cudaSuccess) {  // makes the context
    return Unusable(options.device, error);
  }
  return std::make_unique<CudaBackend>(options);
}

}  // namespace based
