#include "client/bench_load.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/mutex.h"

namespace based {
namespace {

using Clock = std::chrono::steady_clock;

double ProcessorSeconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

class LoadRun;

// One request and its times; deletes itself at its end.
class TimedRequest final : public LoadListener {
 public:
  TimedRequest(LoadRun& run, BenchRequest request, double intended_s);
  void Send(LoadTransport& transport) { transport.Send(request_, this); }

 private:
  void OnSent() override;
  void OnTokens(int32_t tokens) override;
  void OnEnd(absl::string_view code, absl::string_view message) override;

  LoadRun& run_;
  const BenchRequest request_;
  RequestRecord record_;
};

class LoadRun {
 public:
  LoadRun(LoadTransport& transport, const LoadOptions& options, int32_t vocab_size)
      : transport_(transport), options_(options), workload_(options.workload, vocab_size) {}

  absl::StatusOr<LoadResult> Run() {
    const double cpu_before = ProcessorSeconds();
    const absl::Status status =
        options_.workload.arrivals == Arrivals::kClosed ? StartClosed() : SendOpen();
    if (!status.ok()) transport_.CancelAll();
    WaitForAll();
    if (!status.ok()) return status;
    MutexLock lock(mutex_);
    result_.client_cpu_s = ProcessorSeconds() - cpu_before;
    result_.load_s = last_end_s_;
    result_.begin_s = options_.warmup_s;
    const bool whole = options_.requests == 0 && std::isfinite(CountedEnd());
    result_.end_s = whole ? CountedEnd() : std::min(last_end_s_, CountedEnd());
    std::sort(result_.records.begin(), result_.records.end(),
              [](const auto& a, const auto& b) { return a.intended_s < b.intended_s; });
    return std::move(result_);
  }

  double Now() const { return std::chrono::duration<double>(Clock::now() - began_).count(); }
  bool Counts(double at_s) const { return at_s >= options_.warmup_s && at_s < CountedEnd(); }

  // After a request.
  void Ended(RequestRecord record, absl::string_view message) {
    TimedRequest* next = nullptr;
    {
      MutexLock lock(mutex_);
      const bool failed = !record.error.empty();
      result_.client_tokens += record.output_tokens;
      if (failed && result_.first_error.empty()) {
        result_.first_error = absl::StrCat(record.error, ": ", message);
      }
      result_.tokens += record.counted_tokens;
      result_.ended_ok += !failed && Counts(record.end_s);
      last_end_s_ = std::max(last_end_s_, record.end_s);
      if (record.intended_s >= options_.warmup_s) {
        result_.records.push_back(std::move(record));
      }
      bool again = options_.workload.arrivals == Arrivals::kClosed && MaySend(Now());
      // A closed loop must not spin on a daemon that refuses everything.
      if (again && failed && ++failures_ > kMostFailures) again = false;
      if (again) next = Prepare();
      // Under the lock: whoever waits for the end destroys this object.
      if (!again && --streams_ == 0) ended_.NotifyAll();
    }
    if (next != nullptr) next->Send(transport_);
  }

 private:
  static constexpr int64_t kMostFailures = 10'000;

  bool MaySend(double at_s) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return at_s < CountedEnd() && !workload_.exhausted() &&
           (options_.requests == 0 || sent_ < options_.requests);
  }

  absl::Status StartClosed() {
    const int64_t most = options_.requests > 0 ? options_.requests : options_.concurrency;
    const int64_t streams = std::min<int64_t>(options_.concurrency, most);
    {
      MutexLock lock(mutex_);
      streams_ = streams;
    }
    for (int64_t i = 0; i < streams; ++i) {
      TimedRequest* next = nullptr;
      {
        MutexLock lock(mutex_);
        if (!MaySend(Now())) {
          --streams_;  // those that have ended already took the last requests
          continue;
        }
        next = Prepare();
      }
      next->Send(transport_);
    }
    return absl::OkStatus();
  }

  // A trace takes as long as it takes.
  double CountedEnd() const {
    if (options_.workload.arrivals == Arrivals::kTrace) {
      return std::numeric_limits<double>::infinity();
    }
    return options_.warmup_s + options_.duration_s;
  }

  // The next request of a closed loop: meant for now.
  TimedRequest* Prepare() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    ++sent_;
    return new TimedRequest(*this, workload_.Next(), Now());
  }

  absl::Status SendOpen() {
    while (true) {
      BenchRequest request;
      {
        MutexLock lock(mutex_);
        if (workload_.exhausted()) return absl::OkStatus();
        request = workload_.Next();
        if (!MaySendAt(request.at_s)) return absl::OkStatus();
        if (streams_ >= kMostLoadInFlight) {
          return absl::ResourceExhaustedError(absl::StrCat(
              streams_, " requests are under way: the daemon is too far behind the rate"));
        }
      }
      std::this_thread::sleep_until(began_ + std::chrono::duration_cast<Clock::duration>(
                                                 std::chrono::duration<double>(request.at_s)));
      {
        MutexLock lock(mutex_);
        ++streams_;
        ++sent_;
      }
      const double intended_s = request.at_s;
      (new TimedRequest(*this, std::move(request), intended_s))->Send(transport_);
    }
  }

  bool MaySendAt(double at_s) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return at_s < CountedEnd() && (options_.requests == 0 || sent_ < options_.requests);
  }

  // Every request ends by its timeout.
  void WaitForAll() {
    MutexLock lock(mutex_);
    while (streams_ > 0) ended_.Wait(mutex_);
  }

  LoadTransport& transport_;
  const LoadOptions& options_;
  const Clock::time_point began_ = Clock::now();
  Mutex mutex_;
  CondVar ended_;
  Workload workload_ ABSL_GUARDED_BY(mutex_);
  int64_t streams_ ABSL_GUARDED_BY(mutex_) = 0;  // requests under way, or closed loops that go on
  int64_t sent_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t failures_ ABSL_GUARDED_BY(mutex_) = 0;
  double last_end_s_ ABSL_GUARDED_BY(mutex_) = 0;
  LoadResult result_ ABSL_GUARDED_BY(mutex_);
};

TimedRequest::TimedRequest(LoadRun& run, BenchRequest request, double intended_s)
    : run_(run), request_(std::move(request)) {
  record_.prompt_tokens = static_cast<int32_t>(request_.prompt.size());
  record_.intended_s = intended_s;
  record_.gaps_s.reserve(static_cast<size_t>(std::min(request_.output_tokens, 1024)));
}

void TimedRequest::OnSent() { record_.sent_s = run_.Now(); }

void TimedRequest::OnTokens(int32_t tokens) {
  const double now = run_.Now();
  if (record_.output_tokens == 0) {
    record_.first_s = now;
  } else {
    record_.gaps_s.push_back(static_cast<float>(now - record_.last_s));
  }
  record_.last_s = now;
  record_.output_tokens += tokens;
  if (run_.Counts(now)) record_.counted_tokens += tokens;
}

void TimedRequest::OnEnd(absl::string_view code, absl::string_view message) {
  record_.end_s = run_.Now();
  record_.error = std::string(code);
  LoadRun& run = run_;
  RequestRecord record = std::move(record_);
  delete this;
  run.Ended(std::move(record), message);
}

}  // namespace

absl::StatusOr<LoadResult> RunLoad(LoadTransport& transport, const LoadOptions& options,
                                   int32_t vocab_size) {
  return LoadRun(transport, options, vocab_size).Run();
}

}  // namespace based
