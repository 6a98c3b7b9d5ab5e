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
  const int64_t resident = ResidentBytes();
  least_ = std::min(least_, resident);
  if (resident < least_ + growth_) return;
  ::malloc_trim(0);
  least_ = ResidentBytes();
}

}  // namespace based
