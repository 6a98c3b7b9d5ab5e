#include "server/process_memory.h"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace based {

int64_t ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t total = 0, resident = 0;
  statm >> total >> resident;
  return resident * int64_t{::sysconf(_SC_PAGESIZE)};
}

void MemoryTrimmer::Tick() {
  const auto kept = static_cast<int64_t>(::mallinfo2().fordblks);
  least_ = std::min(least_, kept);
  // Free blocks whose pages were given back count as kept for good: taken and freed once more they
  // show in the resident memory alone.
  least_resident_ = std::min(least_resident_, ResidentBytes());
  if (kept < least_ + growth_ && ResidentBytes() < least_resident_ + growth_) return;
  // Pages go, the blocks in them stay free in the allocator's books. What other threads free during
  // the trim has kept its pages: it counts as growth.
  ::malloc_trim(0);
  least_ = std::min(kept, static_cast<int64_t>(::mallinfo2().fordblks));
  least_resident_ = ResidentBytes();
}

}  // namespace based
