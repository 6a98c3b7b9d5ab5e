// The slots that one request holds at this moment, for people who look. Thread-safe.
#ifndef BASED_ENGINE_HELD_SLOTS_H_
#define BASED_ENGINE_HELD_SLOTS_H_

#include <cstdint>
#include <vector>

#include "kernels/base/mutex.h"

namespace based {

class HeldSlots {
 public:
  void Take(int32_t slot) {
    MutexLock lock(mutex_);
    slots_.push_back(slot);
  }
  void Give(int32_t slot) {
    MutexLock lock(mutex_);
    std::erase(slots_, slot);
  }
  // In the order taken; none while the request waits.
  std::vector<int32_t> List() const {
    MutexLock lock(mutex_);
    return slots_;
  }

 private:
  mutable Mutex mutex_;
  std::vector<int32_t> slots_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace based

#endif  // BASED_ENGINE_HELD_SLOTS_H_
