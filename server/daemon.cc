#include "server/daemon.h"

#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <filesystem>
#include <optional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "kernels/base/status.h"
#include "server/http_api.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/metrics_listener.h"
#include "server/process_memory.h"
#include "server/version.h"

namespace based {
namespace {

// After the drain, time for the last messages to leave.
constexpr std::chrono::milliseconds kFlushLimit{2000};
constexpr int64_t kTrimGrowth = int64_t{32} << 20;
constexpr std::chrono::seconds kTrimInterval{5};
constexpr timespec kHealthPoll = {.tv_sec = 0, .tv_nsec = 200'000'000};

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// HOST:PORT with the port that was really taken.
std::string WithPort(const std::string& address, int port) {
  return absl::StrCat(address.substr(0, address.rfind(':') + 1), port);
}

absl::StatusOr<std::unique_ptr<Model>> Load(const DaemonOptions& options, Backend& backend) {
  ModelOptions model_options;
  BASED_ASSIGN_OR_RETURN(model_options.model_dir, FindModelDir(options.model_dir));
  model_options.tokenizer_dir = options.tokenizer_dir;
  model_options.name = options.model_name;
  model_options.compile = backend.DefaultOptions();
  if (options.engine.token_budget > 0) {
    model_options.compile.max_rows = options.engine.token_budget;
  }
  if (options.max_batch > 0) {
    model_options.compile.max_spans = model_options.compile.max_samples = options.max_batch;
  }
  return LoadModel(model_options, backend);
}

void LogReady(const Engine& engine, const std::string& grpc_address,
              const std::string& http_address, const std::string& metrics_address,
              double load_seconds) {
  const Model& model = engine.model();
  const ExecutableInfo& info = model.executable->info();
  const Capacity capacity = engine.capacity();
  for (const std::string& warning : model.config.warnings) {
    Log(LogLevel::kWarning, "model", {{"message", absl::string_view(warning)}});
  }
  Log(LogLevel::kInfo, "ready",
      {{"version", absl::string_view(kVersion)},
       {"model", absl::string_view(model.name)},
       {"parameters", model.checkpoint.parameters},
       {"tokenizer", model.tokenizer != nullptr},
       {"backend", absl::string_view(info.backend)},
       {"device", absl::string_view(info.device)},
       {"slots", int64_t{capacity.slots_total}},
       {"slot_bytes", capacity.slot_bytes},
       {"pool_bytes", capacity.pool_bytes},
       {"weight_bytes", capacity.weight_bytes},
       {"workspace_bytes", capacity.workspace_bytes},
       {"token_budget", int64_t{capacity.token_budget}},
       {"grpc", absl::string_view(grpc_address)},
       {"http", absl::string_view(http_address)},
       {"metrics", absl::string_view(metrics_address)},
       {"load_s", load_seconds}});
}

absl::StatusOr<std::unique_ptr<HttpApi>> StartHttp(const DaemonOptions& options, Engine& engine,
                                                   Metrics& metrics) {
  std::string tokenizer_dir = options.tokenizer_dir;
  if (tokenizer_dir.empty()) {
    BASED_ASSIGN_OR_RETURN(tokenizer_dir, FindModelDir(options.model_dir));
  }
  return HttpApi::Start(options.http, tokenizer_dir, engine, metrics);
}

// Returns the first termination signal, or nothing when the device fails: the process then ends,
// so that its supervisor starts it anew. Meanwhile memory that a burst of clients has left goes
// back to the system.
std::optional<int> WaitForSignal(const Engine& engine) {
  const sigset_t signals = TerminationSignals();
  MemoryTrimmer trimmer(kTrimGrowth);
  Clock::time_point next_trim = Clock::now() + kTrimInterval;
  while (true) {
    const int signal = ::sigtimedwait(&signals, nullptr, &kHealthPoll);
    if (signal > 0) return signal;
    if (Clock::now() >= next_trim) {
      trimmer.Tick();
      next_trim = Clock::now() + kTrimInterval;
    }
    if (!engine.health().ok()) return std::nullopt;
  }
}

// Ends the process at the second signal; runs until then, or until main returns.
void ExitAtNextSignal() {
  std::thread([] {
    const sigset_t signals = TerminationSignals();
    int signal = 0;
    ::sigwait(&signals, &signal);
    std::_Exit(1);
  }).detach();
}

}  // namespace

sigset_t TerminationSignals() {
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  ::sigaddset(&signals, SIGINT);
  return signals;
}

absl::StatusOr<std::string> FindModelDir(const std::string& model_dir) {
  if (!model_dir.empty()) return model_dir;
  std::error_code error;
  const std::filesystem::path binary = std::filesystem::read_symlink("/proc/self/exe", error);
  for (const char* relative : {"models/demo", "../share/based/models/demo", "../../models/demo",
                               "../../../models/demo"}) {
    const std::filesystem::path candidate = (binary.parent_path() / relative).lexically_normal();
    if (std::filesystem::exists(candidate / "config.json", error)) return candidate.string();
  }
  return absl::NotFoundError(
      "no --model is given and the demo model is not beside this program; start with --model DIR, "
      "where DIR holds config.json and model.safetensors");
}

absl::Status RunDaemon(const DaemonOptions& options, Backend& backend) {
  const Clock::time_point start = Clock::now();
  Metrics metrics;
  BASED_ASSIGN_OR_RETURN(std::unique_ptr<Model> model, Load(options, backend));
  BASED_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                         Engine::Create(std::move(model), options.engine, &metrics));
  metrics.SetBuildInfo(engine->model().executable->info().backend, engine->model().name);
  metrics.SetCapacity(engine->capacity());

  BASED_ASSIGN_OR_RETURN(const std::unique_ptr<Server> server,
                         Server::Start(options.server, *engine, metrics));
  std::unique_ptr<HttpApi> http;
  std::string http_address = "none";
  if (!options.http.server.listen.empty()) {
    BASED_ASSIGN_OR_RETURN(http, StartHttp(options, *engine, metrics));
    http_address = WithPort(options.http.server.listen, http->port());
  }
  std::unique_ptr<MetricsListener> listener;
  std::string metrics_address = "none";
  if (!options.metrics_listen.empty()) {
    BASED_ASSIGN_OR_RETURN(
        listener, MetricsListener::Start(options.metrics_listen,
                                         {.metrics =
                                              [&] {
                                                metrics.SetCapacity(engine->capacity());
                                                return metrics.Render();
                                              },
                                          .health = [&] { return engine->health(); }}));
    metrics_address = WithPort(options.metrics_listen, listener->port());
  }

  const std::string grpc_address = WithPort(options.server.listen, server->port());
  LogReady(*engine, grpc_address, http_address, metrics_address, SecondsSince(start));

  const std::optional<int> signal = WaitForSignal(*engine);
  server->SetServing(false);
  if (http != nullptr) http->BeginDrain();
  ExitAtNextSignal();
  if (signal) {
    Log(LogLevel::kInfo, "draining", {{"signal", int64_t{*signal}},
                                      {"limit_ms", int64_t{options.drain_timeout.count()}}});
  } else {
    Log(LogLevel::kError, "device_failed", {{"message", engine->health().message()}});
  }
  const bool complete = engine->Drain(options.drain_timeout);
  if (http != nullptr) http->Shutdown(kFlushLimit);
  server->Shutdown(kFlushLimit);
  Log(LogLevel::kInfo, "stopped", {{"complete", complete}});
  return engine->health();
}

}  // namespace based
