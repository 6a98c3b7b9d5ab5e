// Open-loop load on a daemon: requests arrive at random at a fixed rate, whether or not earlier
// ones have ended, and each is timed from the moment it was due. Prints one line of figures.
//
// Tokens are counted from --warmup until --seconds later, other figures over the requests that came
// in that time. late: how long after they were due this program sent them, a part of every other
// time.
#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/flags/flag.h"
#include "kernels/base/command_line.h"
#include "kernels/base/status.h"
#include "tests/bench/serve_load.h"

ABSL_FLAG(std::string, address, "127.0.0.1:7433", "Daemon to load.");
ABSL_FLAG(int32_t, connections, 4, "Connections that the requests share.");
ABSL_FLAG(std::string, tenant, "", "Tenant of the requests.");
ABSL_FLAG(bool, batch, false, "Requests of PRIORITY_BATCH.");
ABSL_FLAG(double, rate, 10, "Requests per second.");
ABSL_FLAG(double, warmup, 5, "Seconds before the measurement.");
ABSL_FLAG(double, seconds, 10, "Seconds of the measurement.");
ABSL_FLAG(int64_t, max_tokens, 64, "Tokens of each completion.");
ABSL_FLAG(int32_t, prompt_tokens, 64, "Tokens of each prompt.");
ABSL_FLAG(uint64_t, seed, 1, "Of the arrivals.");

namespace based {
namespace {

constexpr int32_t kPromptIds = 60;  // fewer than any model has

struct Window {
  Clock::time_point begin, end;
  bool Holds(Clock::time_point when) const { return when >= begin && when < end; }
};

// One request. Heard by one thread at a time; read after its end.
class Shot final : public Listener {
 public:
  Shot(Clock::time_point due, const Window& window, Mutex& mutex, CondVar& changed, int64_t& open)
      : due_(due),
        sent_(Clock::now()),
        window_(window),
        mutex_(mutex),
        changed_(changed),
        open_(open) {}

  void OnTokens(int64_t tokens) override {
    const Clock::time_point now = Clock::now();
    if (first_ == Clock::time_point()) {
      first_ = now;
    } else {
      gaps_.push_back(std::chrono::duration<float>(now - last_).count());
    }
    last_ = now;
    if (window_.Holds(now)) tokens_ += tokens;
  }

  void OnEnd(const absl::Status& status) override {
    MutexLock lock(mutex_);
    end_ = Clock::now();
    code_ = status.code();
    --open_;
    changed_.NotifyAll();
  }

  bool counts() const { return window_.Holds(due_); }
  bool refused() const {
    return first_ == Clock::time_point() && code_ == absl::StatusCode::kResourceExhausted;
  }
  bool spoke() const { return first_ != Clock::time_point(); }
  float first_seconds() const { return std::chrono::duration<float>(first_ - due_).count(); }
  float end_seconds() const { return std::chrono::duration<float>(end_ - due_).count(); }
  float late_seconds() const { return std::chrono::duration<float>(sent_ - due_).count(); }
  const std::vector<float>& gaps() const { return gaps_; }
  int64_t tokens() const { return tokens_; }
  absl::StatusCode code() const { return code_; }

 private:
  const Clock::time_point due_;
  const Clock::time_point sent_;
  const Window window_;
  Mutex& mutex_;
  CondVar& changed_;
  int64_t& open_;
  Clock::time_point first_, last_, end_;
  std::vector<float> gaps_;
  int64_t tokens_ = 0;
  absl::StatusCode code_ = absl::StatusCode::kOk;
};

void Report(const std::vector<std::unique_ptr<Shot>>& shots) {
  std::vector<float> first, gaps, refusals, late;
  int64_t tokens = 0, sent = 0, ok = 0, refused = 0;
  for (const auto& shot : shots) {
    tokens += shot->tokens();
    if (!shot->counts()) continue;
    ++sent;
    late.push_back(shot->late_seconds());
    if (shot->refused()) {
      ++refused;
      refusals.push_back(shot->end_seconds());
    }
    if (!shot->spoke()) continue;
    ok += shot->code() == absl::StatusCode::kOk;
    first.push_back(shot->first_seconds());
    gaps.insert(gaps.end(), shot->gaps().begin(), shot->gaps().end());
  }
  const auto ms = [](const std::vector<float>& values, double q) {
    return 1e3 * Quantile(values, q);
  };
  std::printf(
      "tokens_per_s=%.1f sent=%lld ok=%lld refused=%lld ttft_p50_ms=%.2f ttft_p99_ms=%.2f "
      "itl_p50_ms=%.2f itl_p99_ms=%.2f refusal_p50_ms=%.3f refusal_p99_ms=%.3f "
      "refusal_max_ms=%.3f late_p99_ms=%.3f late_max_ms=%.3f\n",
      static_cast<double>(tokens) / absl::GetFlag(FLAGS_seconds), static_cast<long long>(sent),
      static_cast<long long>(ok), static_cast<long long>(refused), ms(first, 0.5), ms(first, 0.99),
      ms(gaps, 0.5), ms(gaps, 0.99), ms(refusals, 0.5), ms(refusals, 0.99), ms(refusals, 1),
      ms(late, 0.99), ms(late, 1));
}

void RunLoad() {
  const std::unique_ptr<Target> target =
      NewGrpcTarget(absl::GetFlag(FLAGS_address), absl::GetFlag(FLAGS_connections));
  Ask ask{.max_tokens = absl::GetFlag(FLAGS_max_tokens),
          .tenant = absl::GetFlag(FLAGS_tenant),
          .batch = absl::GetFlag(FLAGS_batch)};
  for (int32_t i = 0; i < absl::GetFlag(FLAGS_prompt_tokens); ++i) {
    ask.prompt.push_back(i * 7 % kPromptIds);
  }
  std::mt19937_64 random(absl::GetFlag(FLAGS_seed));
  std::exponential_distribution<double> gap(absl::GetFlag(FLAGS_rate));
  const auto after = [](Clock::time_point time, double seconds) {
    return time +
           std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  };
  Mutex mutex;
  CondVar changed;
  int64_t open = 0;
  std::vector<std::unique_ptr<Shot>> shots;
  Window window{.begin = after(Clock::now(), absl::GetFlag(FLAGS_warmup))};
  window.end = after(window.begin, absl::GetFlag(FLAGS_seconds));
  Clock::time_point due = Clock::now();
  while ((due = after(due, gap(random))) < window.end) {
    std::this_thread::sleep_until(due);
    {
      MutexLock lock(mutex);
      ++open;
    }
    ++ask.seed;
    shots.push_back(std::make_unique<Shot>(due, window, mutex, changed, open));
    target->Start(ask, *shots.back());
  }
  std::this_thread::sleep_until(window.end);
  target->CancelAll();
  MutexLock lock(mutex);
  while (open > 0) changed.Wait(mutex);
  Report(shots);
}

}  // namespace
}  // namespace based

int main(int argc, char** argv) {
  const std::vector<const char*> arguments(argv + 1, argv + argc);
  const std::vector<based::FlagGroup> groups = {
      {"Load",
       {"address", "connections", "tenant", "batch", "rate", "warmup", "seconds", "max_tokens",
        "prompt_tokens", "seed"}}};
  const auto line = based::ParseCommandLine(arguments, groups);
  if (!line.ok()) {
    std::fprintf(stderr, "overload_load: %s\n", line.status().ToString().c_str());
    return 2;
  }
  if (line->help) return std::fputs(based::FlagsHelp(groups).c_str(), stdout) < 0;
  if (absl::GetFlag(FLAGS_rate) <= 0) {
    std::fprintf(stderr, "overload_load: --rate is %g; expected more than 0\n",
                 absl::GetFlag(FLAGS_rate));
    return 2;
  }
  based::RunLoad();
  return 0;
}
