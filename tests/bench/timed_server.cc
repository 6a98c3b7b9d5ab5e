// The daemon over a backend with programmed step times, for load runs. Flags are the daemon's; the
// environment gives the times in microseconds (BASED_TIMED_FIXED_US, BASED_TIMED_DECODE_US and
// BASED_TIMED_PREFILL_US), and rows and sequences of a step (BASED_TIMED_ROWS, BASED_TIMED_SPANS).
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "server/daemon.h"
#include "tests/bench/timed_backend.h"

namespace based {
namespace {

int64_t FromEnvironment(const char* name, int64_t fallback) {
  const char* text = std::getenv(name);
  return text == nullptr ? fallback : std::stoll(text);
}

int Run(absl::Span<const char* const> arguments) {
  const absl::StatusOr<DaemonOptions> options = ReadFlags(arguments);
  if (!options.ok()) {
    std::fprintf(stderr, "timed_server: %s\n", options.status().ToString().c_str());
    return 2;
  }
  SetLogOptions(options->log);
  const sigset_t signals = DaemonSignals();
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  const auto microseconds = [](const char* name, int64_t fallback) {
    return std::chrono::microseconds(FromEnvironment(name, fallback));
  };
  const std::unique_ptr<Backend> backend = NewTimedBackend(
      {.fixed = microseconds("BASED_TIMED_FIXED_US", 5000),
       .decode = microseconds("BASED_TIMED_DECODE_US", 50),
       .prefill = microseconds("BASED_TIMED_PREFILL_US", 20),
       .max_rows = static_cast<int32_t>(FromEnvironment("BASED_TIMED_ROWS", 512)),
       .max_spans = static_cast<int32_t>(FromEnvironment("BASED_TIMED_SPANS", 256))});
  const absl::Status status = RunDaemon(*options, *backend);
  if (!status.ok()) std::fprintf(stderr, "timed_server: %s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}

}  // namespace
}  // namespace based

int main(int argc, char** argv) {
  const std::vector<const char*> arguments(argv + 1, argv + argc);
  return based::Run(arguments);
}
