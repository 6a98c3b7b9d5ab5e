// Serves N closed-loop streams and prints one line of figures: on a daemon (--address) or on an
// engine in this process (--engine), with the same model and the same requests.
//
// Times are the client's. processor_us_per_token is of the daemon (--server_pid) or, with --engine,
// of this process; client_us_per_token is of this process.
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/flags/flag.h"
#include "kernels/backends.h"
#include "kernels/base/command_line.h"
#include "kernels/base/status.h"
#include "tests/bench/serve_load.h"

ABSL_FLAG(std::string, address, "127.0.0.1:7433", "Daemon to load.");
ABSL_FLAG(bool, engine, false, "Load an engine in this process instead.");
ABSL_FLAG(std::string, model, "models/demo", "With --engine: directory of the model.");
ABSL_FLAG(int32_t, threads, 0, "With --engine: CPU threads; 0: one per core.");
ABSL_FLAG(int32_t, streams, 32, "Closed-loop streams.");
ABSL_FLAG(int32_t, connections, 1, "Connections that the streams share.");
ABSL_FLAG(double, warmup, 1, "Seconds before the measurement.");
ABSL_FLAG(double, seconds, 5, "Seconds of the measurement.");
ABSL_FLAG(int64_t, max_tokens, 1000, "Tokens of each completion.");
ABSL_FLAG(int32_t, prompt_tokens, 16, "Tokens of each prompt.");
ABSL_FLAG(double, temperature, 0, "0: greedy.");
ABSL_FLAG(int32_t, long_prompt, 0, "Tokens of one prompt sent after the measurement; 0: none.");
ABSL_FLAG(int32_t, server_pid, 0, "The daemon's process, for its processor time.");

namespace based {
namespace {

constexpr std::chrono::seconds kLongPromptLimit(300);
constexpr int32_t kPromptIds = 60;  // fewer than any model has

double ProcessorSecondsOf(int32_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string text((std::istreambuf_iterator<char>(stat)), std::istreambuf_iterator<char>());
  // The name may hold spaces; user and system ticks are the 12th and 13th field behind it.
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return 0;
  long user = 0, system = 0;
  if (std::sscanf(text.c_str() + name_end + 1,
                  " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld %ld", &user, &system) != 2) {
    return 0;
  }
  return static_cast<double>(user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

struct Moment {
  Clock::time_point when = Clock::now();
  double server = 0;  // processor seconds
  double client = 0;

  static Moment Now() {
    const int32_t server = absl::GetFlag(FLAGS_server_pid);
    return {.server = ProcessorSecondsOf(server > 0 ? server : ::getpid()),
            .client = ProcessorSecondsOf(::getpid())};
  }
};

Ask MakeAsk(int32_t stream, int32_t prompt_tokens, int64_t max_tokens) {
  Ask ask{.max_tokens = max_tokens,
          .seed = static_cast<uint64_t>(stream) * 1'000'000,
          .temperature = static_cast<float>(absl::GetFlag(FLAGS_temperature))};
  for (int32_t i = 0; i < prompt_tokens; ++i) {
    ask.prompt.push_back((stream * 31 + i * 7) % kPromptIds);
  }
  return ask;
}

std::vector<float> GapsBetween(const std::vector<LoadStream::Record>& records,
                               Clock::time_point from, Clock::time_point to) {
  std::vector<float> gaps;
  for (const auto& record : records) {
    for (const auto& gap : record.gaps) {
      if (gap.when >= from && gap.when < to) gaps.push_back(gap.seconds);
    }
  }
  return gaps;
}

void Report(const std::vector<LoadStream::Record>& records, const Moment& begin,
            const Moment& end) {
  int64_t tokens = 0, all = 0, messages = 0;
  std::vector<float> first;
  for (const auto& record : records) {
    for (const Clock::time_point when : record.tokens)
      tokens += when >= begin.when && when < end.when;
    all += static_cast<int64_t>(record.tokens.size());
    messages += record.messages;
    first.insert(first.end(), record.first_token.begin(), record.first_token.end());
  }
  const double seconds = std::chrono::duration<double>(end.when - begin.when).count();
  const auto count = static_cast<double>(tokens);
  const std::vector<float> gaps = GapsBetween(records, begin.when, end.when);
  std::printf(
      "tokens_per_s=%.0f tokens_per_delta=%.3f ttft_p50_ms=%.2f ttft_p99_ms=%.2f "
      "itl_p50_ms=%.2f itl_p99_ms=%.2f processor_us_per_token=%.2f client_us_per_token=%.2f",
      count / seconds, static_cast<double>(all) / static_cast<double>(messages),
      1e3 * Quantile(first, 0.5), 1e3 * Quantile(first, 0.99), 1e3 * Quantile(gaps, 0.5),
      1e3 * Quantile(gaps, 0.99), 1e6 * (end.server - begin.server) / count,
      1e6 * (end.client - begin.client) / count);
}

void SleepSeconds(double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

// The long prompt's own figures; `before` is when the load ran alone.
void ReportLong(const std::vector<LoadStream::Record>& records, const Moment& begin,
                const Moment& before_end, const Moment& after) {
  const double before = Quantile(GapsBetween(records, begin.when, before_end.when), 0.99);
  const double during = Quantile(GapsBetween(records, before_end.when, after.when), 0.99);
  std::printf(" long_prompt_s=%.2f itl_p99_before_ms=%.2f itl_p99_during_ms=%.2f ratio=%.2f",
              std::chrono::duration<double>(after.when - before_end.when).count(), 1e3 * before,
              1e3 * during, during / before);
}

absl::Status RunLoad(Target& target) {
  const int32_t streams = absl::GetFlag(FLAGS_streams);
  std::vector<std::unique_ptr<LoadStream>> load;
  for (int32_t i = 0; i < streams; ++i) {
    load.push_back(std::make_unique<LoadStream>(
        target, MakeAsk(i, absl::GetFlag(FLAGS_prompt_tokens), absl::GetFlag(FLAGS_max_tokens)),
        /*repeat=*/true));
    load.back()->Start();
  }
  SleepSeconds(absl::GetFlag(FLAGS_warmup));
  const Moment begin = Moment::Now();
  SleepSeconds(absl::GetFlag(FLAGS_seconds));
  const Moment end = Moment::Now();
  Moment after = end;
  absl::Status status;
  if (const int32_t tokens = absl::GetFlag(FLAGS_long_prompt); tokens > 0) {
    LoadStream prompt(target, MakeAsk(streams, tokens, 1), /*repeat=*/false);
    prompt.Start();
    if (!prompt.WaitFor(kLongPromptLimit)) status = absl::DeadlineExceededError("the long prompt");
    after = Moment::Now();
    prompt.Stop();
    if (!status.ok()) target.CancelAll();
    prompt.Wait();
    if (auto record = prompt.Take(); !record.error.ok()) status = record.error;
  }
  for (auto& stream : load) stream->Stop();
  target.CancelAll();
  std::vector<LoadStream::Record> records;
  for (auto& stream : load) {
    stream->Wait();
    records.push_back(stream->Take());
    if (!records.back().error.ok()) status = records.back().error;
  }
  BASED_RETURN_IF_ERROR(status);
  Report(records, begin, end);
  if (absl::GetFlag(FLAGS_long_prompt) > 0) ReportLong(records, begin, end, after);
  std::printf("\n");
  return absl::OkStatus();
}

absl::Status RunOnEngine() {
  BASED_ASSIGN_OR_RETURN(const std::unique_ptr<Backend> backend,
                         NewBackend({.kind = "cpu", .threads = absl::GetFlag(FLAGS_threads)}));
  BASED_ASSIGN_OR_RETURN(std::unique_ptr<Model> model,
                         LoadModel({.model_dir = absl::GetFlag(FLAGS_model)}, *backend));
  BASED_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                         Engine::Create(std::move(model), {.slots = 64}, nullptr));
  return RunLoad(*NewEngineTarget(*engine));
}

absl::Status Main(absl::Span<const char* const> arguments) {
  const std::vector<FlagGroup> groups = {
      {"Target", {"address", "server_pid", "engine", "model", "threads"}},
      {"Load",
       {"streams", "connections", "warmup", "seconds", "max_tokens", "prompt_tokens", "temperature",
        "long_prompt"}}};
  BASED_ASSIGN_OR_RETURN(const CommandLine line, ParseCommandLine(arguments, groups));
  if (line.help) {
    std::fputs(FlagsHelp(groups).c_str(), stdout);
    return absl::OkStatus();
  }
  if (absl::GetFlag(FLAGS_engine)) return RunOnEngine();
  return RunLoad(*NewGrpcTarget(absl::GetFlag(FLAGS_address), absl::GetFlag(FLAGS_connections)));
}

}  // namespace
}  // namespace based

int main(int argc, char** argv) {
  const std::vector<const char*> arguments(argv + 1, argv + argc);
  const absl::Status status = based::Main(arguments);
  if (status.ok()) return 0;
  std::fprintf(stderr, "serve_bench: %s\n", status.ToString().c_str());
  return 1;
}
