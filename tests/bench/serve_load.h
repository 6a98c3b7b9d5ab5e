// Streams of requests to an engine in this process or to a daemon over gRPC. Every token's time is
// kept.
#ifndef BASED_TESTS_BENCH_SERVE_LOAD_H_
#define BASED_TESTS_BENCH_SERVE_LOAD_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/engine.h"
#include "kernels/base/mutex.h"

namespace based {

struct Ask {
  std::vector<int32_t> prompt;
  int64_t max_tokens = 1;
  uint64_t seed = 1;
  float temperature = 0;
  int32_t n = 1;  // completions of the prompt
  std::string tenant;
  bool batch = false;
  int32_t delta_interval_ms = 0;  // tokens of so long a time go into one message
  ConstraintAsk constraint;       // kNothing, kJsonSchema or kRegex
};

// Hears one request, from one thread at a time: any number of OnTokens, then OnEnd.
class Listener {
 public:
  virtual ~Listener() = default;
  virtual void OnTokens(int64_t tokens) = 0;  // one message
  virtual void OnEnd(const absl::Status& status) = 0;
};

// What serves. Listeners must live until their OnEnd.
class Target {
 public:
  virtual ~Target() = default;
  virtual void Start(const Ask& ask, Listener& listener) = 0;
  virtual void CancelAll() = 0;
};

// `engine` must outlive the target.
std::unique_ptr<Target> NewEngineTarget(Engine& engine);
// Streams take `connections` (at least 1) in turn.
std::unique_ptr<Target> NewGrpcTarget(const std::string& address, int32_t connections);

// One request, or with `repeat` a closed loop: it asks again as soon as it has been answered.
// Thread-safe where it says so.
class LoadStream final : public Listener {
 public:
  struct Gap {
    Clock::time_point when;
    float seconds;
  };
  struct Record {
    std::vector<float> first_token;         // seconds since the ask
    std::vector<Gap> gaps;                  // between messages of one request
    std::vector<Clock::time_point> tokens;  // one per token
    int64_t messages = 0;
    absl::Status error;
  };

  LoadStream(Target& target, Ask ask, bool repeat)
      : target_(target), ask_(std::move(ask)), repeat_(repeat) {}

  void Start();
  void Stop();                               // asks no more; thread-safe
  void Wait();                               // until the last completion has ended
  bool ended();                              // thread-safe
  bool WaitFor(std::chrono::seconds limit);  // the same; false when it takes longer
  Record Take();                             // REQUIRES: ended

  void OnTokens(int64_t tokens) override;
  void OnEnd(const absl::Status& status) override;

 private:
  void Begin();

  Target& target_;
  Ask ask_;
  const bool repeat_;
  // The listener's own.
  Record record_;
  Clock::time_point asked_;
  Clock::time_point last_;
  bool first_ = true;

  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = true;
};

// The q-quantile, 0 for no values.
double Quantile(std::vector<float> values, double q);

}  // namespace based

#endif  // BASED_TESTS_BENCH_SERVE_LOAD_H_
