// based: one program, a command each for talking to a daemon and for running the engine in process.
#include <cstdio>
#include <exception>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/synchronization/mutex.h"
#include "client/batch_command.h"
#include "client/bench_command.h"
#include "client/common_flags.h"
#include "client/daemon_credentials.h"
#include "client/generate_command.h"
#include "client/generate_local.h"
#include "client/generate_remote.h"
#include "client/jobs_command.h"
#include "client/local.h"
#include "client/plan_command.h"
#include "client/remote.h"
#include "client/tokenize_command.h"
#include "kernels/backends.h"

namespace based {
namespace {

constexpr double kMostTimeoutS = 1e8;  // three years

absl::StatusOr<std::unique_ptr<Backend>> MakeBackend(const std::string& kind, int32_t threads,
                                                     int32_t device) {
  return NewBackend({.kind = kind, .threads = threads, .device = device});
}

std::vector<Command> Commands() {
  const auto generate_here = [](const GenerateOptions& options,
                                const std::function<void(GenerateEvent)>& on_event) {
    return GenerateHere(MakeBackend, options, on_event);
  };
  const auto score_here = [](int32_t window) { return ScoreHere(MakeBackend, window); };
  return {GenerateCommand(GenerateAtDaemon, generate_here),
          BatchCommand(),
          JobsCommand(),
          BenchCommand(),
          InfoCommand(),
          TokenizeCommand({TokenizeAtDaemon, DetokenizeAtDaemon}, {TokenizeHere, DetokenizeHere}),
          PerplexityCommand(ScoreAtDaemon, score_here),
          VerifyCommand(MakeBackend),
          SessionCommand(),
          PlanCommand([](int32_t threads, int64_t working_set) {
            const CpuSpeed speed = MeasureCpu(threads, working_set);
            return MeasuredCpu{speed.flops_per_second, speed.bytes_per_second};
          }),
          KeygenCommand()};
}

std::string Help(const std::vector<Command>& commands) {
  std::string text =
      "based talks to a based-server, or runs a BASED model in this process.\n\n"
      "  based COMMAND [flags]\n\nCommands:\n";
  for (const Command& command : commands) {
    absl::StrAppendFormat(&text, "  %-11s %s\n", command.name, command.summary);
  }
  absl::StrAppend(&text, "\nbased COMMAND --help shows a command's flags. Examples:\n");
  for (const Command& command : commands) absl::StrAppend(&text, command.examples);
  absl::StrAppend(&text, "\nExit status: 0, 1 for a failure, 2 for a wrong command line.\n");
  return text;
}

std::string ExitStatusHelp(const Command& command) {
  if (command.exit_status.empty()) return "";
  return absl::StrCat("\nExit status:\n  ",
                      absl::StrReplaceAll(command.exit_status, {{"\n", "\n  "}}), "\n");
}

std::string Help(const Command& command) {
  return absl::StrCat(command.summary, "\n\n  based ", command.name, " [flags]\n\nExamples:\n",
                      command.examples, FlagsHelp(command.flags), ExitStatusHelp(command));
}

int Fail(absl::string_view message, int exit_code) {
  std::fprintf(stderr, "based: %s\n", std::string(message).c_str());
  return exit_code;
}

absl::Status CheckTimeout() {
  const double seconds = absl::GetFlag(FLAGS_timeout);
  if (seconds >= 0 && seconds <= kMostTimeoutS) return absl::OkStatus();
  return UsageError(absl::StrCat("--timeout is ", seconds, "; expected seconds in [0, ",
                                 kMostTimeoutS, "], 0 for no limit"));
}

int RunCommand(const Command& command, absl::Span<const char* const> arguments) {
  const absl::StatusOr<CommandLine> line = ParseCommandLine(arguments, command.flags);
  if (!line.ok()) return Fail(line.status().message(), kExitUsage);
  if (line->help) return std::fputs(Help(command).c_str(), stdout) < 0;
  absl::Status status = CheckTimeout();
  if (status.ok()) status = ReadDaemonCredentials().status();
  if (status.ok()) status = command.run(*line);
  if (status.ok()) return 0;
  return Fail(status.message(), IsUsageError(status) ? kExitUsage : 1);
}

int Run(absl::Span<const char* const> arguments) {
  const std::vector<Command> commands = Commands();
  const absl::string_view name = arguments.empty() ? "" : arguments[0];
  if (name == "--help" || name == "-h" || name == "help") {
    return std::fputs(Help(commands).c_str(), stdout) < 0;
  }
  if (name == "--version") return std::printf("based %s\n", BASED_VERSION) < 0;
  for (const Command& command : commands) {
    if (name == command.name) return RunCommand(command, arguments.subspan(1));
  }
  return Fail(name.empty() ? "no command; see based --help"
                           : absl::StrCat("'", name, "' is no command; see based --help"),
              kExitUsage);
}

}  // namespace
}  // namespace based

int main(int argc, char** argv) {
  // Debian builds absl with its detector of lock cycles on; gRPC would pay for it at every lock.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  // Third-party code may throw (out of memory, file system); nothing of ours does.
  try {
    const std::vector<const char*> arguments(argv + 1, argv + argc);
    return based::Run(arguments);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "based: %s\n", error.what());
    return 1;
  }
}
