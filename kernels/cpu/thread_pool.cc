#include "kernels/cpu/thread_pool.h"

#include "kernels/base/check.h"

namespace based {
namespace {

// About 50 microseconds: longer than any gap between two ops, shorter than a scheduler's tick.
constexpr int kSpins = 1500;

void Pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

ThreadPool::ThreadPool(int32_t threads) : parts_(static_cast<size_t>(threads)) {
  BASED_CHECK(threads >= 1);
  for (int32_t i = 1; i < threads; ++i) workers_.emplace_back([this, i] { Work(i); });
}

ThreadPool::~ThreadPool() {
  stop_ = true;
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Run(const Task& task) {
  task_ = task;
  finished_.store(0, std::memory_order_relaxed);
  const uint64_t loop = epoch_.load(std::memory_order_relaxed) + uint64_t{1};
  for (int32_t part = 0; part < task.parts; ++part) {
    parts_[static_cast<size_t>(part)].loop.store(2 * loop, std::memory_order_release);
  }
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  RunParts(0);
  for (int spins = 0; finished_.load(std::memory_order_acquire) != task.parts; ++spins) {
    // A worker that lost its core to another process needs ours more than we do.
    spins < kSpins ? Pause() : std::this_thread::yield();
  }
}

// The thread's own part, or when that is taken, one that another has not begun.
bool ThreadPool::TakePart(int32_t thread, int32_t& part) {
  for (size_t i = 0; i < parts_.size(); ++i) {
    const size_t at = (static_cast<size_t>(thread) + i) % parts_.size();
    uint64_t loop = parts_[at].loop.load(std::memory_order_acquire);
    if (loop % 2 == 1 ||
        !parts_[at].loop.compare_exchange_strong(loop, loop + 1, std::memory_order_acq_rel)) {
      continue;
    }
    part = static_cast<int32_t>(at);
    return true;
  }
  return false;
}

void ThreadPool::RunParts(int32_t thread) {
  int32_t part = 0;
  while (TakePart(thread, part)) {
    const int64_t begin = task_.items * part / task_.parts;
    const int64_t end = task_.items * (part + 1) / task_.parts;
    task_.call(task_.context, begin, end, thread);
    finished_.fetch_add(1, std::memory_order_release);
  }
}

void ThreadPool::Work(int32_t thread) {
  uint32_t seen = 0;
  while (true) {
    for (int spins = 0; epoch_.load(std::memory_order_acquire) == seen; ++spins) {
      spins < kSpins ? Pause() : epoch_.wait(seen, std::memory_order_acquire);
    }
    seen = epoch_.load(std::memory_order_acquire);
    if (stop_) return;
    RunParts(thread);
  }
}

}  // namespace based
