// Serves N closed-loop streams, or with --rate requests that arrive at random, and prints one line
// of figures: on a daemon (--address) or on an engine in this process (--engine), with the same
// model and the same requests. With --engine also what the engine thread did in each step.
//
// Times are the client's. processor_us_per_token is of the daemon (--server_pid) or, with --engine,
// of this process; client_us_per_token is of this process.
#include <cstdio>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/flags/flag.h"
#include "kernels/backends.h"
#include "kernels/base/command_line.h"
#include "kernels/base/status.h"
#include "tests/bench/load_report.h"
#include "tests/bench/open_loop.h"
#include "tests/bench/serve_load.h"
#include "tests/bench/step_trace.h"

ABSL_FLAG(std::string, address, "127.0.0.1:7433", "Daemon to load.");
ABSL_FLAG(bool, engine, false, "Load an engine in this process instead.");
ABSL_FLAG(std::string, model, "models/demo", "With --engine: directory of the model.");
ABSL_FLAG(std::string, tokenizer, "",
          "With --engine: directory of the tokenizer; empty: the model's.");
ABSL_FLAG(std::string, backend, "cpu", "With --engine: cpu, cuda or reference.");
ABSL_FLAG(int32_t, slots, 64, "With --engine: sequences that live at once.");
ABSL_FLAG(int32_t, threads, 0, "With --engine: CPU threads; 0: one per core.");
ABSL_FLAG(bool, late_rules, true,
          "With --engine and cuda: constraints' rules follow a step that was launched ahead.");
ABSL_FLAG(int32_t, max_queue, 4096, "With --engine: requests that may wait.");
ABSL_FLAG(int32_t, streams, 32, "Closed-loop streams; with --rate, requests at the start.");
ABSL_FLAG(double, rate, 0, "Requests a second that arrive at random (open loop); 0: closed loop.");
ABSL_FLAG(int32_t, connections, 1, "Connections that the streams share.");
ABSL_FLAG(double, warmup, 1, "Seconds before the measurement.");
ABSL_FLAG(double, seconds, 5, "Seconds of the measurement.");
ABSL_FLAG(int64_t, max_tokens, 1000, "Tokens of each completion.");
ABSL_FLAG(int32_t, prompt_tokens, 16, "Tokens of each prompt.");
ABSL_FLAG(double, spread, 0,
          "Lengths of prompts and completions vary by so much of the mean, up or down, by stream.");
ABSL_FLAG(double, temperature, 0, "0: greedy.");
ABSL_FLAG(int32_t, n, 1, "Completions of each request, which share its prompt.");
ABSL_FLAG(std::string, regex, "", "Expression that each completion matches; empty: any text.");
ABSL_FLAG(std::string, json_schema, "",
          "JSON schema that each completion follows; empty: any text.");
ABSL_FLAG(int32_t, delta_interval_ms, 0, "Tokens of so long a time go into one message.");
ABSL_FLAG(int32_t, long_prompt, 0, "Tokens of one prompt sent after the measurement; 0: none.");
ABSL_FLAG(int32_t, server_pid, 0, "The daemon's process, for its processor time.");

namespace based {
namespace {

constexpr std::chrono::seconds kLongPromptLimit(300);
constexpr int32_t kPromptIds = 60;  // fewer than any model has

Moment Now() { return Moment::Now(absl::GetFlag(FLAGS_server_pid)); }

ConstraintAsk Constrained() {
  using Kind = ConstraintAsk::Kind;
  const std::string regex = absl::GetFlag(FLAGS_regex);
  if (!regex.empty()) return {.kind = Kind::kRegex, .text = regex};
  const std::string schema = absl::GetFlag(FLAGS_json_schema);
  if (!schema.empty()) return {.kind = Kind::kJsonSchema, .text = schema};
  return {};
}

// Around `mean` as --spread says, at least 1.
template <typename T>
T Spread(T mean, std::mt19937& random) {
  const double spread = absl::GetFlag(FLAGS_spread);
  if (spread <= 0) return mean;
  std::uniform_real_distribution<double> factor(1 - spread, 1 + spread);
  return std::max(T{1}, static_cast<T>(std::lround(static_cast<double>(mean) * factor(random))));
}

Ask MakeAsk(int32_t stream, int32_t prompt_tokens, int64_t max_tokens) {
  std::mt19937 random(static_cast<uint32_t>(stream));
  prompt_tokens = Spread(prompt_tokens, random);
  max_tokens = Spread(max_tokens, random);
  Ask ask{.max_tokens = max_tokens,
          .seed = static_cast<uint64_t>(stream) * 1'000'000,
          .temperature = static_cast<float>(absl::GetFlag(FLAGS_temperature)),
          .n = absl::GetFlag(FLAGS_n),
          .delta_interval_ms = absl::GetFlag(FLAGS_delta_interval_ms),
          .constraint = Constrained()};
  for (int32_t i = 0; i < prompt_tokens; ++i) {
    ask.prompt.push_back(static_cast<int32_t>(random() % kPromptIds));
  }
  return ask;
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

absl::Status RunRate(Target& target, const std::function<void()>& measured) {
  const OpenLoopOptions options = {.rate = absl::GetFlag(FLAGS_rate),
                                   .live = absl::GetFlag(FLAGS_streams),
                                   .warmup = absl::GetFlag(FLAGS_warmup),
                                   .seconds = absl::GetFlag(FLAGS_seconds),
                                   .server_pid = absl::GetFlag(FLAGS_server_pid)};
  const auto make_ask = [](int32_t i) {
    return MakeAsk(i, absl::GetFlag(FLAGS_prompt_tokens), absl::GetFlag(FLAGS_max_tokens));
  };
  return RunOpenLoop(target, options, make_ask, measured);
}

// `measured` is called when the measurement begins.
absl::Status RunLoad(Target& target, const std::function<void()>& measured) {
  if (absl::GetFlag(FLAGS_rate) > 0) return RunRate(target, measured);
  const int32_t streams = absl::GetFlag(FLAGS_streams);
  std::vector<std::unique_ptr<LoadStream>> load;
  for (int32_t i = 0; i < streams; ++i) {
    load.push_back(std::make_unique<LoadStream>(
        target, MakeAsk(i, absl::GetFlag(FLAGS_prompt_tokens), absl::GetFlag(FLAGS_max_tokens)),
        /*repeat=*/true));
    load.back()->Start();
  }
  SleepSeconds(absl::GetFlag(FLAGS_warmup));
  measured();
  const Moment begin = Now();
  SleepSeconds(absl::GetFlag(FLAGS_seconds));
  const Moment end = Now();
  Moment after = end;
  absl::Status status;
  if (const int32_t tokens = absl::GetFlag(FLAGS_long_prompt); tokens > 0) {
    LoadStream prompt(target, MakeAsk(streams, tokens, 1), /*repeat=*/false);
    prompt.Start();
    if (!prompt.WaitFor(kLongPromptLimit)) status = absl::DeadlineExceededError("the long prompt");
    after = Now();
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
  PrintLoad(records, begin, end);
  if (absl::GetFlag(FLAGS_long_prompt) > 0) ReportLong(records, begin, end, after);
  std::printf("\n");
  return absl::OkStatus();
}

absl::Status RunOnEngine() {
  BASED_ASSIGN_OR_RETURN(const std::unique_ptr<Backend> backend,
                         NewBackend({.kind = absl::GetFlag(FLAGS_backend),
                                     .threads = absl::GetFlag(FLAGS_threads),
                                     .late_rules = absl::GetFlag(FLAGS_late_rules)}));
  BASED_ASSIGN_OR_RETURN(std::unique_ptr<Model> model,
                         LoadModel({.model_dir = absl::GetFlag(FLAGS_model),
                                    .tokenizer_dir = absl::GetFlag(FLAGS_tokenizer),
                                    .compile = backend->DefaultOptions()},
                                   *backend));
  StepTrace trace;
  BASED_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                         Engine::Create(std::move(model),
                                        {.slots = absl::GetFlag(FLAGS_slots),
                                         .max_queue = absl::GetFlag(FLAGS_max_queue)},
                                        &trace));
  BASED_RETURN_IF_ERROR(RunLoad(*NewEngineTarget(*engine), [&] { trace.Clear(); }));
  trace.Print();
  return absl::OkStatus();
}

absl::Status Main(absl::Span<const char* const> arguments) {
  const std::vector<FlagGroup> groups = {
      {"Target",
       {"address", "server_pid", "engine", "model", "tokenizer", "backend", "threads", "slots",
        "max_queue", "late_rules"}},
      {"Load",
       {"streams", "rate", "connections", "warmup", "seconds", "max_tokens", "prompt_tokens",
        "spread", "temperature", "n", "regex", "json_schema", "delta_interval_ms", "long_prompt"}}};
  BASED_ASSIGN_OR_RETURN(const CommandLine line, ParseCommandLine(arguments, groups));
  if (line.help) {
    std::fputs(FlagsHelp(groups).c_str(), stdout);
    return absl::OkStatus();
  }
  if (absl::GetFlag(FLAGS_engine)) return RunOnEngine();
  return RunLoad(*NewGrpcTarget(absl::GetFlag(FLAGS_address), absl::GetFlag(FLAGS_connections)),
                 [] {});
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
