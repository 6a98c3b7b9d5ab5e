// Owners of CUDA objects: move-only, freed in the destructor. The only places that allocate.
#ifndef BASED_KERNELS_CUDA_DEVICE_BUFFER_H_
#define BASED_KERNELS_CUDA_DEVICE_BUFFER_H_

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "kernels/cuda/cuda_status.h"

namespace based::cuda {

// A CUDA handle with the function that destroys it.
template <typename Handle, cudaError_t (*Destroy)(Handle)>
class Owned {
 public:
  Owned() = default;
  explicit Owned(Handle handle) : handle_(handle) {}
  Owned(Owned&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Owned() {
    if (handle_ != nullptr) Destroy(handle_);
  }
  Handle get() const { return handle_; }

 private:
  Handle handle_ = nullptr;
};

using Stream = Owned<cudaStream_t, cudaStreamDestroy>;
using Event = Owned<cudaEvent_t, cudaEventDestroy>;
using GraphExec = Owned<cudaGraphExec_t, cudaGraphExecDestroy>;
using Graph = Owned<cudaGraph_t, cudaGraphDestroy>;

inline absl::StatusOr<Stream> NewStream() {
  cudaStream_t stream = nullptr;
  BASED_CUDA_RETURN_IF_ERROR(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return Stream(stream);
}

inline absl::StatusOr<Event> NewEvent(unsigned flags = cudaEventDisableTiming) {
  cudaEvent_t event = nullptr;
  BASED_CUDA_RETURN_IF_ERROR(cudaEventCreateWithFlags(&event, flags));
  return Event(event);
}

// Bytes on the device, or with kPinned on the host where the device can copy from and to.
template <bool kPinned>
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Buffer() {
    if (data_ == nullptr) return;
    if constexpr (kPinned) {
      cudaFreeHost(data_);
    } else {
      cudaFree(data_);
    }
  }

  // RESOURCE_EXHAUSTED naming `what` and the bytes when they are not there.
  static absl::StatusOr<Buffer> Create(int64_t bytes, absl::string_view what) {
    Buffer buffer;
    buffer.bytes_ = std::max<int64_t>(bytes, 256);
    const size_t size = static_cast<size_t>(buffer.bytes_);
    const cudaError_t error =
        kPinned ? cudaMallocHost(&buffer.data_, size) : cudaMalloc(&buffer.data_, size);
    if (error != cudaSuccess) buffer.data_ = nullptr;
    if (absl::Status status = ToStatus(error, absl::StrCat(bytes, " bytes for ", what));
        !status.ok()) {
      return status;
    }
    return buffer;
  }

  void* data() const { return data_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  int64_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

using DeviceBuffer = Buffer<false>;
using PinnedBuffer = Buffer<true>;

}  // namespace based::cuda

#endif  // BASED_KERNELS_CUDA_DEVICE_BUFFER_H_
