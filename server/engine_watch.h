// Whether the engine thread goes round. It is asked to, by a cancel of a request that cannot exist,
// so an idle engine answers like a busy one, and one that hangs in its device or in a lock does
// not. Not thread-safe.
#ifndef BASED_SERVER_ENGINE_WATCH_H_
#define BASED_SERVER_ENGINE_WATCH_H_

#include <limits>

#include "engine/engine.h"
#include "server/step_profile.h"

namespace based {

class EngineWatch {
 public:
  // Both must outlive this; `profile` observes `engine`.
  EngineWatch(Engine& engine, const StepProfile& profile) : engine_(engine), profile_(profile) {
    Ask();
  }

  // True when the engine thread has gone round since the last call; asks it to once more.
  bool Moved() {
    if (profile_.rounds() == seen_) return false;
    Ask();
    return true;
  }

 private:
  void Ask() {
    seen_ = profile_.rounds();
    engine_.Cancel(std::numeric_limits<RequestId>::max(), absl::CancelledError("a sign of life"));
  }

  Engine& engine_;
  const StepProfile& profile_;
  int64_t seen_ = 0;
};

}  // namespace based

#endif  // BASED_SERVER_ENGINE_WATCH_H_
