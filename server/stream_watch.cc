#include "server/stream_watch.h"

#include <algorithm>

namespace based {

StreamWatch::StreamWatch(std::chrono::milliseconds limit)
    : limit_(limit), thread_([this] { Run(); }) {}

StreamWatch::~StreamWatch() {
  {
    MutexLock lock(mutex_);
    closing_ = true;
    changed_.NotifyAll();
  }
  thread_.join();
}

void StreamWatch::Add(const std::shared_ptr<GenerateStream>& stream) {
  MutexLock lock(mutex_);
  streams_.push_back(stream);
  if (streams_.size() == 1) changed_.NotifyAll();
}

void StreamWatch::Run() {
  const auto pause = std::max(limit_ / 4, std::chrono::milliseconds(1));
  while (true) {
    std::vector<std::shared_ptr<GenerateStream>> streams;
    {
      MutexLock lock(mutex_);
      // Without streams nothing wakes an idle daemon.
      while (streams_.empty() && !closing_) changed_.Wait(mutex_);
      const Clock::time_point next = Clock::now() + pause;
      while (!closing_ && Clock::now() < next) changed_.WaitUntil(mutex_, next);
      if (closing_) return;
      streams = Living();
    }
    // Without the lock: gRPC may call back from inside.
    const Clock::time_point now = Clock::now();
    for (const auto& stream : streams) stream->CutIfStalled(now - limit_);
  }
}

std::vector<std::shared_ptr<GenerateStream>> StreamWatch::Living() {
  std::vector<std::shared_ptr<GenerateStream>> living;
  std::erase_if(streams_, [&](const std::weak_ptr<GenerateStream>& weak) {
    auto stream = weak.lock();
    if (stream == nullptr) return true;
    living.push_back(std::move(stream));
    return false;
  });
  return living;
}

}  // namespace based
