#include "kernels/cpu/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/available_memory.h"

namespace based {

Memory::~Memory() {
  if (data_ != nullptr) munmap(data_, static_cast<size_t>(bytes_));
}

absl::StatusOr<Memory> Memory::Allocate(const char* what, int64_t bytes) {
  Memory memory;
  if (bytes == 0) return memory;
  const int64_t available = AvailableMemory();
  if (available != 0 && bytes > available) {
    return absl::ResourceExhaustedError(
        absl::StrCat(what, ": ", bytes, " bytes wanted, ", available, " available"));
  }
  const auto size = static_cast<size_t>(bytes);
  void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    return absl::ResourceExhaustedError(absl::StrCat(what, ": cannot map ", bytes, " bytes"));
  }
  madvise(data, size, MADV_HUGEPAGE);
  // Touched now, so that no request finds out later that the memory is not there.
  std::memset(data, 0, size);
  memory.data_ = static_cast<std::byte*>(data);
  memory.bytes_ = bytes;
  return memory;
}

void ReleasePages(const void* data, int64_t bytes) {
#ifdef MADV_PAGEOUT
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page;
  const auto end =
      (reinterpret_cast<uintptr_t>(data) + static_cast<uintptr_t>(bytes)) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_PAGEOUT);
#else
  (void)data;
  (void)bytes;
#endif
}

}  // namespace based
