// Memory of this process as the system sees it.
#ifndef BASED_SERVER_PROCESS_MEMORY_H_
#define BASED_SERVER_PROCESS_MEMORY_H_

#include <cstdint>

namespace based {

// Resident bytes; 0 where the system does not tell.
int64_t ResidentBytes();

// Hands memory that the allocator keeps after a burst back to the system: without it, ten thousand
// connections leave 100 MiB behind when they go. Not thread-safe.
class MemoryTrimmer {
 public:
  // Trims when what was freed and kept has grown by `growth` bytes since the last trim. Both the
  // look and the trim hold the allocator's locks for some milliseconds: call it every few seconds.
  explicit MemoryTrimmer(int64_t growth) : growth_(growth) {}
  void Tick();

 private:
  const int64_t growth_;
  int64_t least_ = 0;  // free bytes kept, the least since the last trim
  int64_t least_resident_ = 0;  // likewise of resident memory
};

}  // namespace based

#endif  // BASED_SERVER_PROCESS_MEMORY_H_
