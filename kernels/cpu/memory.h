// Large aligned memory of the CPU backend: weights, activations and the slot pool.
#ifndef BASED_KERNELS_CPU_MEMORY_H_
#define BASED_KERNELS_CPU_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"

namespace based {

inline constexpr int64_t kCacheLine = 64;

inline constexpr int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// One mapping, page-aligned, zeroed and backed by memory when Allocate returns. Owns it.
class Memory {
 public:
  Memory() = default;
  ~Memory();
  Memory(Memory&& other) noexcept { *this = std::move(other); }
  Memory& operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  // RESOURCE_EXHAUSTED, naming `what`, when less than `bytes` is available.
  static absl::StatusOr<Memory> Allocate(const char* what, int64_t bytes);

  std::byte* data() const { return data_; }
  float* floats() const { return static_cast<float*>(static_cast<void*>(data_)); }
  int64_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

// Tells the kernel that [data, data + bytes) will not be read soon: pages of a mapped file are
// dropped and come back from the file, others stay. Changes no value.
void ReleasePages(const void* data, int64_t bytes);

}  // namespace based

#endif  // BASED_KERNELS_CPU_MEMORY_H_
