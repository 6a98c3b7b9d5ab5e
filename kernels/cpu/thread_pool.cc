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
  working_.store(threads() - 1, std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  RunPart(0);
  for (int spins = 0; working_.load(std::memory_order_acquire) != 0; ++spins) {
    // A worker that lost its core to another process needs ours more than we do.
    spins < kSpins ? Pause() : std::this_thread::yield();
  }
}

void ThreadPool::RunPart(int32_t part) {
  if (part >= task_.parts) return;
  const int64_t begin = task_.items * part / task_.parts;
  const int64_t end = task_.items * (part + 1) / task_.parts;
  task_.call(task_.context, begin, end, part);
}

void ThreadPool::Work(int32_t thread) {
  uint32_t seen = 0;
  while (true) {
    for (int spins = 0; epoch_.load(std::memory_order_acquire) == seen; ++spins) {
      spins < kSpins ? Pause() : epoch_.wait(seen, std::memory_order_acquire);
    }
    ++seen;
    if (stop_) return;
    RunPart(thread);
    working_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace based
