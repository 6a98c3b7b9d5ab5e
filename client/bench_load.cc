#include "client/bench_load.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <thread>
#include <unordered_set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "based/v1/completion.grpc.pb.h"
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

// One call; deletes itself at its end.
class LoadCall final : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  LoadCall(LoadRun& run, const BenchRequest& request, double intended_s);
  void Start(v1::CompletionService::Stub& stub);
  void Cancel() { context_.TryCancel(); }

 private:
  void OnReadDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

  LoadRun& run_;
  grpc::ClientContext context_;
  v1::GenerateRequest request_;
  v1::GenerateResponse response_;
  RequestRecord record_;
};

class LoadRun {
 public:
  LoadRun(const std::vector<std::shared_ptr<grpc::Channel>>& channels, const LoadOptions& options,
          int32_t vocab_size)
      : options_(options), workload_(options.workload, vocab_size) {
    for (const auto& channel : channels) stubs_.push_back(v1::CompletionService::NewStub(channel));
  }

  absl::StatusOr<LoadResult> Run() {
    const double cpu_before = ProcessorSeconds();
    const absl::Status status =
        options_.workload.arrivals == Arrivals::kClosed ? StartClosed() : SendOpen();
    if (!status.ok()) CancelAll();
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
  const LoadOptions& options() const { return options_; }
  bool Counts(double at_s) const { return at_s >= options_.warmup_s && at_s < CountedEnd(); }

  // By a call that is about to go.
  void Forget(LoadCall* call) {
    MutexLock lock(mutex_);
    calls_.erase(call);
  }

  // After a call.
  void Ended(RequestRecord record, const std::string& error) {
    Ready next;
    {
      MutexLock lock(mutex_);
      result_.client_tokens += record.output_tokens;
      if (!error.empty() && result_.first_error.empty()) result_.first_error = error;
      result_.tokens += record.counted_tokens;
      result_.ended_ok += record.code == absl::StatusCode::kOk && Counts(record.end_s);
      last_end_s_ = std::max(last_end_s_, record.end_s);
      if (record.intended_s >= options_.warmup_s) {
        result_.records.push_back(std::move(record));
      }
      bool again = options_.workload.arrivals == Arrivals::kClosed && MaySend(Now());
      // A closed loop must not spin on a daemon that refuses everything.
      if (again && !error.empty() && ++failures_ > kMostFailures) again = false;
      if (again) next = Prepare();
      // Under the lock: whoever waits for the end destroys this object.
      if (!again && --streams_ == 0) ended_.NotifyAll();
    }
    if (next.call != nullptr) next.call->Start(*next.stub);
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
      Ready ready;
      {
        MutexLock lock(mutex_);
        if (!MaySend(Now())) {
          --streams_;  // those that have ended already took the last requests
          continue;
        }
        ready = Prepare();
      }
      ready.call->Start(*ready.stub);
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

  struct Ready {
    LoadCall* call = nullptr;
    v1::CompletionService::Stub* stub = nullptr;
  };

  // The next request of a closed loop: meant for now.
  Ready Prepare() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    auto* call = new LoadCall(*this, workload_.Next(), Now());
    return {.call = call, .stub = Register(call)};
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
      auto* call = new LoadCall(*this, request, request.at_s);
      v1::CompletionService::Stub* stub = nullptr;
      {
        MutexLock lock(mutex_);
        ++streams_;
        stub = Register(call);
      }
      call->Start(*stub);
    }
  }

  bool MaySendAt(double at_s) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return at_s < CountedEnd() && (options_.requests == 0 || sent_ < options_.requests);
  }

  v1::CompletionService::Stub* Register(LoadCall* call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    calls_.insert(call);
    return stubs_[static_cast<size_t>(sent_++) % stubs_.size()].get();
  }

  void CancelAll() {
    MutexLock lock(mutex_);
    for (LoadCall* call : calls_) call->Cancel();
  }

  // Every call has a deadline.
  void WaitForAll() {
    MutexLock lock(mutex_);
    while (streams_ > 0) ended_.Wait(mutex_);
  }

  const LoadOptions& options_;
  const Clock::time_point began_ = Clock::now();
  std::vector<std::unique_ptr<v1::CompletionService::Stub>> stubs_;
  Mutex mutex_;
  CondVar ended_;
  Workload workload_ ABSL_GUARDED_BY(mutex_);
  std::unordered_set<LoadCall*> calls_ ABSL_GUARDED_BY(mutex_);
  int64_t streams_ ABSL_GUARDED_BY(mutex_) = 0;  // requests under way, or closed loops that go on
  int64_t sent_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t failures_ ABSL_GUARDED_BY(mutex_) = 0;
  double last_end_s_ ABSL_GUARDED_BY(mutex_) = 0;
  LoadResult result_ ABSL_GUARDED_BY(mutex_);
};

LoadCall::LoadCall(LoadRun& run, const BenchRequest& request, double intended_s) : run_(run) {
  const LoadOptions& options = run.options();
  request_.set_model(options.model);
  request_.mutable_token_ids()->mutable_ids()->Add(request.prompt.begin(), request.prompt.end());
  request_.mutable_sampling()->set_temperature(options.temperature);
  request_.mutable_stop()->set_max_tokens(request.output_tokens);
  request_.mutable_stop()->set_ignore_eos(true);
  request_.mutable_output()->set_token_ids(true);  // they are counted
  record_.prompt_tokens = static_cast<int32_t>(request.prompt.size());
  record_.intended_s = intended_s;
  record_.gaps_s.reserve(static_cast<size_t>(std::min(request.output_tokens, 1024)));
}

void LoadCall::Start(v1::CompletionService::Stub& stub) {
  const auto timeout = std::chrono::duration<double>(run_.options().request_timeout_s);
  context_.set_deadline(std::chrono::system_clock::now() +
                        std::chrono::duration_cast<std::chrono::system_clock::duration>(timeout));
  record_.sent_s = run_.Now();
  stub.async()->Generate(&context_, &request_, this);
  StartRead(&response_);
  StartCall();
}

void LoadCall::OnReadDone(bool ok) {
  if (!ok) return;
  if (response_.has_delta() && response_.delta().token_ids_size() > 0) {
    const double now = run_.Now();
    if (record_.output_tokens == 0) {
      record_.first_s = now;
    } else {
      record_.gaps_s.push_back(static_cast<float>(now - record_.last_s));
    }
    record_.last_s = now;
    record_.output_tokens += response_.delta().token_ids_size();
    if (run_.Counts(now)) record_.counted_tokens += response_.delta().token_ids_size();
  }
  StartRead(&response_);
}

void LoadCall::OnDone(const grpc::Status& status) {
  record_.end_s = run_.Now();
  record_.code = static_cast<absl::StatusCode>(status.error_code());
  const std::string error = status.ok() ? ""
                                        : absl::StrCat(absl::StatusCodeToString(record_.code), ": ",
                                                       status.error_message());
  LoadRun& run = run_;
  RequestRecord record = std::move(record_);
  run.Forget(this);
  delete this;
  run.Ended(std::move(record), error);
}

}  // namespace

absl::StatusOr<LoadResult> RunLoad(const std::vector<std::shared_ptr<grpc::Channel>>& channels,
                                   const LoadOptions& options, int32_t vocab_size) {
  return LoadRun(channels, options, vocab_size).Run();
}

}  // namespace based
