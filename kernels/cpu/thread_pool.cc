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

ThreadPool::ThreadPool(int32_t threads) {
  BASED_CHECK(threads >= 1);
  for (int32_t i = 1; i < threads; ++i) workers_.emplace_back([this] { Work(); });
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
  untaken_.store(loop << 32 | static_cast<uint32_t>(task.parts), std::memory_order_release);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  while (RunOnePart()) {
  }
  for (int spins = 0; finished_.load(std::memory_order_acquire) != task.parts; ++spins) {
    // A worker that lost its core to another process needs ours more than we do.
    spins < kSpins ? Pause() : std::this_thread::yield();
  }
}

bool ThreadPool::RunOnePart() {
  uint64_t untaken = untaken_.load(std::memory_order_acquire);
  do {
    if (static_cast<uint32_t>(untaken) == 0) return false;
  } while (!untaken_.compare_exchange_weak(untaken, untaken - 1, std::memory_order_acq_rel,
                                           std::memory_order_acquire));
  const auto part = static_cast<int32_t>(static_cast<uint32_t>(untaken) - 1);
  const int64_t begin = task_.items * part / task_.parts;
  const int64_t end = task_.items * (part + 1) / task_.parts;
  task_.call(task_.context, begin, end, part);
  finished_.fetch_add(1, std::memory_order_release);
  return true;
}

void ThreadPool::Work() {
  uint32_t seen = 0;
  while (true) {
    for (int spins = 0; epoch_.load(std::memory_order_acquire) == seen; ++spins) {
      spins < kSpins ? Pause() : epoch_.wait(seen, std::memory_order_acquire);
    }
    seen = epoch_.load(std::memory_order_acquire);
    if (stop_) return;
    RunOnePart();
  }
}

}  // namespace based
