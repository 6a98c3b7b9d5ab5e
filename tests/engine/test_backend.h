// The backends that tests of whole completions run on.
#ifndef BASED_TESTS_ENGINE_TEST_BACKEND_H_
#define BASED_TESTS_ENGINE_TEST_BACKEND_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/backends.h"
#ifdef BASED_WITH_CUDA
#include "kernels/cuda/cuda_backend.h"
#endif

namespace based {

// With two threads, or on CUDA exact: results do not depend on the batch. UNAVAILABLE without a
// device.
inline absl::StatusOr<std::unique_ptr<Backend>> TestBackend(const std::string& name) {
#ifdef BASED_WITH_CUDA
  if (name == "cuda") {
    return NewCudaBackend({.batch_invariant = true, .precision = CudaPrecision::kF32});
  }
#endif
  return NewBackend({.kind = name, .threads = 2});
}

inline std::vector<std::string> FastBackends() {
  std::vector<std::string> names = {"cpu"};
#ifdef BASED_WITH_CUDA
  names.push_back("cuda");
#endif
  return names;
}

}  // namespace based

#endif  // BASED_TESTS_ENGINE_TEST_BACKEND_H_
