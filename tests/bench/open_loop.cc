#include "tests/bench/open_loop.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "tests/bench/load_report.h"

namespace based {
namespace {

constexpr std::chrono::milliseconds kSamplePeriod(50);

class OpenLoop {
 public:
  OpenLoop(Target& target, const OpenLoopOptions& options,
           const std::function<Ask(int32_t)>& make_ask)
      : target_(target), options_(options), make_ask_(make_ask) {}

  absl::Status Run(const std::function<void()>& measured) {
    for (int32_t i = 0; i < options_.live; ++i) {
      Ask ask = make_ask_(i);
      ask.max_tokens = std::uniform_int_distribution<int64_t>(1, ask.max_tokens)(random_);
      ask.prompt.resize(1);
      Start(std::move(ask));
    }
    Load(options_.warmup);
    measured();
    live_samples_.clear();
    arrived_ = 0;
    const Moment begin = Moment::Now(options_.server_pid);
    Load(options_.seconds);
    const Moment end = Moment::Now(options_.server_pid);
    return Finish(begin, end);
  }

 private:
  void Start(Ask ask) {
    streams_.push_back(std::make_unique<LoadStream>(target_, std::move(ask), /*repeat=*/false));
    live_.push_back(streams_.back().get());
    streams_.back()->Start();
  }

  // Starts requests as they arrive, for so many seconds.
  void Load(double seconds) {
    const Clock::time_point end =
        Clock::now() + std::chrono::duration_cast<Clock::duration>(
                           std::chrono::duration<double>(seconds));
    Clock::time_point arrival = Clock::now() + Gap();
    Clock::time_point sample = Clock::now();
    while (Clock::now() < end) {
      std::this_thread::sleep_until(std::min({arrival, sample, end}));
      const Clock::time_point now = Clock::now();
      for (; arrival <= now && now < end; arrival += Gap()) {
        Start(make_ask_(static_cast<int32_t>(streams_.size())));
        ++arrived_;
      }
      if (sample > now) continue;
      sample = now + kSamplePeriod;
      std::erase_if(live_, [](LoadStream* stream) { return stream->ended(); });
      live_samples_.push_back(static_cast<float>(live_.size()));
    }
  }

  Clock::duration Gap() {
    const double seconds = std::exponential_distribution<double>(options_.rate)(random_);
    return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  }

  absl::Status Finish(const Moment& begin, const Moment& end) {
    for (auto& stream : streams_) stream->Stop();
    target_.CancelAll();
    std::vector<LoadStream::Record> records;
    int32_t refused = 0;
    absl::Status status;
    for (auto& stream : streams_) {
      stream->Wait();
      records.push_back(stream->Take());
      const absl::Status& error = records.back().error;
      refused += absl::IsResourceExhausted(error) ? 1 : 0;
      if (!error.ok() && !absl::IsResourceExhausted(error)) status = error;
    }
    if (!status.ok()) return status;
    const double seconds = std::chrono::duration<double>(end.when - begin.when).count();
    std::printf("arrivals_per_s=%.1f refused=%d live_first=%.0f live_median=%.0f live_last=%.0f ",
                static_cast<double>(arrived_) / seconds, refused, live_samples_.front(),
                Quantile(live_samples_, 0.5), live_samples_.back());
    PrintLoad(records, begin, end);
    const std::vector<float> gaps = GapsBetween(records, begin.when, end.when);
    std::printf(" itl_p99_over_p50=%.3f\n", Quantile(gaps, 0.99) / Quantile(gaps, 0.5));
    return absl::OkStatus();
  }

  Target& target_;
  const OpenLoopOptions options_;
  const std::function<Ask(int32_t)>& make_ask_;
  std::mt19937_64 random_{7};
  std::vector<std::unique_ptr<LoadStream>> streams_;
  std::vector<LoadStream*> live_;
  std::vector<float> live_samples_;
  int64_t arrived_ = 0;
};

}  // namespace

absl::Status RunOpenLoop(Target& target, const OpenLoopOptions& options,
                         const std::function<Ask(int32_t)>& make_ask,
                         const std::function<void()>& measured) {
  return OpenLoop(target, options, make_ask).Run(measured);
}

}  // namespace based
