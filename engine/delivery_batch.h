// The events that a delivery thread hands to its sinks in one go: a sink that would rather do
// something once for all of them than once for each asks for it here.
#ifndef BASED_ENGINE_DELIVERY_BATCH_H_
#define BASED_ENGINE_DELIVERY_BATCH_H_

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace based {

class DeliveryBatch {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void OnBatchEnd() = 0;
  };

  // This thread's batch of `events`, from now to the end of this object's life.
  explicit DeliveryBatch(size_t events) : events_(events) { current_ = this; }
  ~DeliveryBatch() {
    current_ = nullptr;
    End();
  }
  DeliveryBatch(const DeliveryBatch&) = delete;
  DeliveryBatch& operator=(const DeliveryBatch&) = delete;

  // Null outside of a batch.
  static DeliveryBatch* Current() { return current_; }

  // One sink's thread has time for all of it.
  bool is_short() const { return events_ <= kTogether; }

  // Events that sinks may take as one: enough to share what is done once for all of them, so few
  // that nothing waits for them for much of a millisecond.
  static constexpr size_t kTogether = 64;

  // The next event comes; every kTogether of them a batch ends and another begins.
  void Next() {
    if (++handled_ % kTogether == 0) End();
  }

  // Calls `listener` when the batch has been handed over, once for each time that it was added.
  void AtEnd(std::shared_ptr<Listener> listener) { listeners_.push_back(std::move(listener)); }

 private:
  void End() {
    for (const auto& listener : std::exchange(listeners_, {})) listener->OnBatchEnd();
  }

  const size_t events_;
  size_t handled_ = 0;
  static inline thread_local DeliveryBatch* current_ = nullptr;
  std::vector<std::shared_ptr<Listener>> listeners_;
};

}  // namespace based

#endif  // BASED_ENGINE_DELIVERY_BATCH_H_
