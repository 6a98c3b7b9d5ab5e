// based-server: command line, backend, and the daemon's life.
#include <csignal>
#include <cstdio>
#include <exception>
#include <vector>

#include "kernels/backends.h"
#include "server/daemon.h"
#include "server/metric_reference.h"
#include "server/version.h"

namespace based {
namespace {

int Fail(const absl::Status& status, int exit_code) {
  std::fprintf(stderr, "based-server: %s\n", std::string(status.message()).c_str());
  return exit_code;
}

int Run(absl::Span<const char* const> arguments) {
  const absl::StatusOr<DaemonOptions> options = ReadFlags(arguments);
  if (!options.ok()) return Fail(options.status(), kExitUsage);
  if (options->help) return std::fputs(HelpText().c_str(), stdout) < 0;
  if (options->version) return std::printf("based-server %s\n", kVersion) < 0;
  if (options->print_metrics_reference) {
    return std::fputs(MetricsReference(DocumentedFamilies()).c_str(), stdout) < 0;
  }
  SetLogOptions(options->log);
  const sigset_t signals = DaemonSignals();
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  // A file at the process's limit is then as a full disk: the write says so. A log whose reader has
  // gone, as a log that cannot be written.
  ::signal(SIGXFSZ, SIG_IGN);
  ::signal(SIGPIPE, SIG_IGN);
  const absl::StatusOr<std::unique_ptr<Backend>> backend = NewBackend(
      {.kind = options->backend,
       .threads = options->threads,
       .device = options->device,
       .batch_invariant = options->batch_invariant});
  if (!backend.ok()) return Fail(backend.status(), 1);
  const absl::Status status = RunDaemon(*options, **backend);
  return status.ok() ? 0 : Fail(status, 1);
}

}  // namespace
}  // namespace based

int main(int argc, char** argv) {
  // Third-party code may throw (out of memory, file system); nothing of ours does.
  try {
    const std::vector<const char*> arguments(argv + 1, argv + argc);
    return based::Run(arguments);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "based-server: %s\n", error.what());
    return 1;
  }
}
