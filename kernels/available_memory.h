// How much memory of the host a backend may take.
#ifndef BASED_KERNELS_AVAILABLE_MEMORY_H_
#define BASED_KERNELS_AVAILABLE_MEMORY_H_

#include <cstdint>

namespace based {

// Bytes that can be taken without swapping, files in memory counted as free (MemAvailable of
// /proc/meminfo); 0 when unknown.
int64_t AvailableMemory();

}  // namespace based

#endif  // BASED_KERNELS_AVAILABLE_MEMORY_H_
