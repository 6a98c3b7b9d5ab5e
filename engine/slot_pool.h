// Which slots of the state pool are free. Lowest index first, so that a lightly loaded server keeps
// touching the same memory.
#ifndef BASED_ENGINE_SLOT_POOL_H_
#define BASED_ENGINE_SLOT_POOL_H_

#include <cstdint>
#include <functional>
#include <queue>
#include <vector>

#include "kernels/base/check.h"

namespace based {

class SlotPool {
 public:
  explicit SlotPool(int32_t count) : owned_(static_cast<size_t>(count), false) {
    for (int32_t slot = 0; slot < count; ++slot) free_.push(slot);
  }

  int32_t total() const { return static_cast<int32_t>(owned_.size()); }
  int32_t free() const { return static_cast<int32_t>(free_.size()); }
  int32_t active() const { return total() - free(); }

  // REQUIRES: free() > 0.
  int32_t Take() {
    BASED_CHECK(!free_.empty());
    const int32_t slot = free_.top();
    free_.pop();
    owned_[static_cast<size_t>(slot)] = true;
    return slot;
  }

  // REQUIRES: `slot` was taken and not given back since.
  void Give(int32_t slot) {
    BASED_CHECK(slot >= 0 && slot < total() && owned_[static_cast<size_t>(slot)]);
    owned_[static_cast<size_t>(slot)] = false;
    free_.push(slot);
  }

 private:
  std::priority_queue<int32_t, std::vector<int32_t>, std::greater<>> free_;
  std::vector<bool> owned_;
};

}  // namespace based

#endif  // BASED_ENGINE_SLOT_POOL_H_
