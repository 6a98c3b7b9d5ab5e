// What metrics cost. Three figures:
//   scrape   GET /metrics over HTTP with as many tenants as an access file may name, each with its
//            series, while other threads count tokens
//   share    time that Metrics takes for a token and for a step, as a share of the engine's own
//   paired   the engine on the same work with and without an observer, in turns
//
//   metrics_bench [--model=models/demo] [--rounds=8] [--tenants=1024]
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "engine/model.h"
#include "kernels/backends.h"
#include "kernels/base/check.h"
#include "kernels/base/mutex.h"
#include "server/metrics.h"
#include "server/metrics_listener.h"
#include "server/step_profile.h"

namespace based {
namespace {

constexpr int32_t kStreams = 32;
constexpr int64_t kTokens = 200;  // of each stream in a round
constexpr int kScrapes = 200;

struct Options {
  std::string model = "models/demo";
  int rounds = 8;
  int tenants = 1024;
};

double Seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

double Quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1))];
}

// The answer's bytes.
size_t Get(int port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  constexpr std::string_view kRequest = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
  size_t bytes = 0;
  if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0 &&
      ::send(fd, kRequest.data(), kRequest.size(), 0) > 0) {
    char buffer[1 << 16];
    for (ssize_t got = 0; (got = ::recv(fd, buffer, sizeof(buffer), 0)) > 0;) {
      bytes += static_cast<size_t>(got);
    }
  }
  ::close(fd);
  return bytes;
}

std::vector<TenantUse> Tenants(int count) {
  std::vector<TenantUse> tenants;
  for (int i = 0; i < count; ++i) {
    tenants.push_back({.name = "tenant-with-a-name-of-some-length-" + std::to_string(i),
                       .active = i,
                       .admitted = 1'000'000 + i,
                       .refused = i,
                       .tokens = 123'456'789 + i});
  }
  return tenants;
}

void Scrape(int tenants) {
  Metrics metrics;
  metrics.SetBuildInfo("cpu", "demo");
  const std::vector<TenantUse> use = Tenants(tenants);
  auto listener = MetricsListener::Start("127.0.0.1:0", {.metrics = [&](const auto& names) {
                                           metrics.SetTenants(use);
                                           return metrics.Render(names);
                                         }});
  BASED_CHECK(listener.ok());
  std::atomic<bool> stop{false};
  std::thread load([&] {
    while (!stop) {
      for (int i = 0; i < 32; ++i) {
        metrics.OnInterToken(Priority::kInteractive, std::chrono::microseconds(120));
      }
      metrics.OnStep({.decode_tokens = 32, .sequences = 32});
      std::this_thread::sleep_for(std::chrono::microseconds(500));
    }
  });
  std::vector<double> times;
  size_t bytes = 0;
  for (int i = 0; i < kScrapes; ++i) {
    const Clock::time_point begin = Clock::now();
    bytes = Get((*listener)->port());
    times.push_back(1e3 * Seconds(Clock::now() - begin));
  }
  stop = true;
  load.join();
  std::printf("scrape, %4d tenants: %.2f ms median, %.2f ms p99, %zu bytes\n", tenants,
              Quantile(times, 0.5), Quantile(times, 0.99), bytes);
}

// Nanoseconds of one call, the best of several runs.
template <typename Body>
double Nanoseconds(int calls, Body&& body) {
  double best = 1e18;
  for (int run = 0; run < 10; ++run) {
    const Clock::time_point begin = Clock::now();
    for (int i = 0; i < calls; ++i) body();
    best = std::min(best, 1e9 * Seconds(Clock::now() - begin) / calls);
  }
  return best;
}

// Tells when all requests of a round are over.
class Round {
 public:
  explicit Round(int requests) : left_(requests) {}
  void End() {
    MutexLock lock(mutex_);
    --left_;
    changed_.NotifyAll();
  }
  void Wait() {
    MutexLock lock(mutex_);
    while (left_ > 0) changed_.Wait(mutex_);
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  int left_ ABSL_GUARDED_BY(mutex_);
};

class Sink final : public TokenSink {
 public:
  explicit Sink(Round& round) : round_(round) {}
  void OnStarted(const Started&) override {}
  bool OnDelta(Delta) override { return true; }
  void OnFinished(const Finished&) override { round_.End(); }
  void OnError(const absl::Status&) override { round_.End(); }

 private:
  Round& round_;
};

std::unique_ptr<Engine> NewEngine(const std::string& dir, Backend& backend, Observer* observer) {
  auto model = LoadModel({.model_dir = dir, .compile = backend.DefaultOptions()}, backend);
  BASED_CHECK(model.ok());
  auto engine = Engine::Create(*std::move(model), {.slots = kStreams}, observer);
  BASED_CHECK(engine.ok());
  return *std::move(engine);
}

// Seconds for the same work.
double Work(Engine& engine) {
  Round round(kStreams);
  const Clock::time_point begin = Clock::now();
  for (int32_t i = 0; i < kStreams; ++i) {
    Request request;
    request.prompt_is_text = false;
    request.prompt_token_ids = {1, 2, 3, i + 1};
    request.stop.max_tokens = kTokens;
    request.stop.ignore_eos = true;
    request.sampling.seed = static_cast<uint64_t>(i);
    BASED_CHECK(engine.Submit(std::move(request), std::make_shared<Sink>(round)).ok());
  }
  round.Wait();
  return Seconds(Clock::now() - begin);
}

void Cost(const Options& options) {
  auto backend = NewBackend({.kind = "cpu"});
  BASED_CHECK(backend.ok());
  Metrics metrics;
  StepProfile profile(metrics);
  const std::unique_ptr<Engine> with = NewEngine(options.model, **backend, &profile);
  const std::unique_ptr<Engine> without = NewEngine(options.model, **backend, nullptr);
  Work(*with);
  Work(*without);
  std::vector<double> ratios, times;
  for (int round = 0; round < options.rounds; ++round) {
    // Either first in turns: a machine that speeds up or slows down favours neither.
    const bool first = round % 2 == 0;
    const double a = Work(first ? *with : *without);
    const double b = Work(first ? *without : *with);
    ratios.push_back(first ? a / b : b / a);
    times.push_back(first ? b : a);
  }
  const double token = Nanoseconds(100'000, [&] {
    profile.OnInterToken(Priority::kInteractive, std::chrono::microseconds(130));
  });
  const double step = Nanoseconds(10'000, [&] {
    profile.OnSlots(kStreams, 0, 0);
    profile.OnSlots(kStreams, 0, 0);
    profile.OnStep({.decode_tokens = kStreams,
                    .sequences = kStreams,
                    .duration = std::chrono::milliseconds(4)});
  });
  const double tokens = kStreams * static_cast<double>(kTokens);
  const double own = 1e9 * Quantile(times, 0.1) / tokens;  // nanoseconds of a token
  const double share = (token + step / kStreams) / own;
  std::printf(
      "metrics: %.0f ns a token and %.0f ns a step of %d, %.3f%% of the engine's %.1f us a "
      "token\n",
      token, step, kStreams, 100 * share, own / 1e3);
  std::printf("paired: with metrics %.3f of the time without (median of %zu pairs, %.3f to %.3f)\n",
              Quantile(ratios, 0.5), ratios.size(), Quantile(ratios, 0), Quantile(ratios, 1));
}

int Main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.starts_with("--model=")) options.model = argument.substr(8);
    if (argument.starts_with("--rounds=")) options.rounds = std::atoi(argv[i] + 9);
    if (argument.starts_with("--tenants=")) options.tenants = std::atoi(argv[i] + 10);
  }
  Scrape(0);
  Scrape(options.tenants);
  Cost(options);
  return 0;
}

}  // namespace
}  // namespace based

int main(int argc, char** argv) { return based::Main(argc, argv); }
