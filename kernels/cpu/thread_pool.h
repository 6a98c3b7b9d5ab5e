// A fixed set of threads that run parallel loops cut into equal, contiguous parts.
//
// Bodies compute every item on its own, so neither the number of parts nor who runs one changes a
// result. Each thread has a part that it takes first, the same in every loop of that shape, so that
// its core's cache keeps what the part reads; one that is done takes those that others have not
// begun: the caller never waits for a worker that has lost its core before beginning. A worker
// without work spins for some tens of microseconds, which covers the gap between two ops of a step,
// and then sleeps.
#ifndef BASED_KERNELS_CPU_THREAD_POOL_H_
#define BASED_KERNELS_CPU_THREAD_POOL_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace based {

// Driven by one thread at a time, which takes part in the work as thread 0.
class ThreadPool {
 public:
  explicit ThreadPool(int32_t threads);  // at least 1
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int32_t threads() const { return static_cast<int32_t>(workers_.size()) + 1; }

  // Calls body(begin, end, thread) for at most threads() disjoint ranges that cover [0, items),
  // `thread` in [0, threads()) and different for calls at one time, and returns when all calls
  // have. No range but the only one is shorter than `grain` items: less work than that costs more
  // to hand over than to do.
  template <typename Body>
  void For(int64_t items, int64_t grain, Body&& body) {
    const int64_t most = std::max<int64_t>(1, items / std::max<int64_t>(1, grain));
    const auto parts = static_cast<int32_t>(std::min<int64_t>(threads(), most));
    if (parts == 1) {
      if (items > 0) body(int64_t{0}, items, 0);
      return;
    }
    using Plain = std::remove_reference_t<Body>;
    Run({[](void* context, int64_t begin, int64_t end, int32_t thread) {
           (*static_cast<Plain*>(context))(begin, end, thread);
         },
         &body, items, parts});
  }

 private:
  struct Task {
    void (*call)(void* context, int64_t begin, int64_t end, int32_t thread) = nullptr;
    void* context = nullptr;
    int64_t items = 0;
    int32_t parts = 0;
  };

  // Twice the number of the last loop that has this part, and 1 more when somebody has taken it:
  // so a late worker cannot take a part of another loop. On lines of their own: each thread has
  // one.
  struct alignas(64) Part {
    std::atomic<uint64_t> loop{1};
  };

  void Run(const Task& task);
  bool TakePart(int32_t thread, int32_t& part);
  void RunParts(int32_t thread);
  void Work(int32_t thread);

  std::vector<Part> parts_;  // one for each thread
  std::vector<std::thread> workers_;
  // What changes in every loop is on lines of its own, apart from what does not.
  // Changes only while no part of it is taken and not finished.
  alignas(64) Task task_;
  std::atomic<bool> stop_{false};               // a worker late for the last loop may read it early
  alignas(64) std::atomic<uint32_t> epoch_{0};  // loops begun; workers sleep on it
  alignas(64) std::atomic<int32_t> finished_{0};  // parts of the current loop
};

}  // namespace based

#endif  // BASED_KERNELS_CPU_THREAD_POOL_H_
