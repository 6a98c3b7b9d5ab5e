// Takes device memory as another process on the card would.
#ifndef BASED_TESTS_KERNELS_CUDA_DEVICE_MEMORY_H_
#define BASED_TESTS_KERNELS_CUDA_DEVICE_MEMORY_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <vector>

namespace based {

class TakenMemory {
 public:
  // All there is, to within a megabyte.
  TakenMemory() {
    for (size_t bytes = size_t{1} << 36; bytes >= size_t{1} << 20; bytes /= 2) {
      void* block = nullptr;
      while (cudaMalloc(&block, bytes) == cudaSuccess) blocks_.push_back(block);
      cudaGetLastError();
    }
  }
  TakenMemory(const TakenMemory&) = delete;
  TakenMemory& operator=(const TakenMemory&) = delete;
  ~TakenMemory() {
    for (void* block : blocks_) cudaFree(block);
  }

  bool any() const { return !blocks_.empty(); }

 private:
  std::vector<void*> blocks_;
};

}  // namespace based

#endif  // BASED_TESTS_KERNELS_CUDA_DEVICE_MEMORY_H_
