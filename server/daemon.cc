#include "server/daemon.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <ctime>
#include <future>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "kernels/base/mutex.h"
#include "kernels/base/status.h"
#include "server/access.h"
#include "server/admin_service.h"
#include "server/batch_jobs.h"
#include "server/daemon_model.h"
#include "server/engine_watch.h"
#include "server/http_api.h"
#include "server/live_requests.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/metrics_listener.h"
#include "server/openai_model.h"
#include "server/process_memory.h"
#include "server/service_notify.h"
#include "server/step_profile.h"
#include "server/tls.h"

namespace based {
namespace {

// After the drain, time for the last messages to leave.
constexpr std::chrono::milliseconds kFlushLimit{2000};
constexpr int64_t kTrimGrowth = int64_t{32} << 20;
constexpr std::chrono::seconds kTickInterval{5};
constexpr int kWatchesPerLimit = 4;  // a late one or two are no reason to be killed
constexpr int32_t kAdminConnections = 64;
// Fewer than clients leave: they cannot keep the operator out.
constexpr int32_t kAdminReservedDescriptors = 64;
constexpr std::chrono::seconds kProfileWindow{10};
constexpr timespec kHealthPoll = {.tv_sec = 0, .tv_nsec = 200'000'000};
constexpr timespec kLoadPoll = {.tv_sec = 0, .tv_nsec = 5'000'000};

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// HOST:PORT with the port that was really taken.
std::string WithPort(const std::string& address, int port) {
  return absl::StrCat(address.substr(0, address.rfind(':') + 1), port);
}

sigset_t TerminationSignals() {
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  ::sigaddset(&signals, SIGINT);
  return signals;
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

void LogReload(absl::string_view what, const absl::Status& status) {
  if (status.ok()) return Log(LogLevel::kInfo, "reload", {{"what", what}});
  Log(LogLevel::kError, "reload_failed", {{"what", what}, {"message", status.message()}});
}

// The chat template of the model in `model_dir`, by the flags; why it cannot be used is logged.
ServedChatTemplate LoadChatTemplate(const DaemonOptions& options, const std::string& model_dir) {
  if (options.http.plain_chat_template) return nullptr;
  ServedChatTemplate loaded =
      ChatTemplate::Load(options.tokenizer_dir.empty() ? model_dir : options.tokenizer_dir);
  if (!loaded.ok()) {
    // Completions are none the worse for it; chat is refused in the same words.
    Log(LogLevel::kWarning, "chat_template", {{"message", loaded.status().message()}});
  }
  return loaded;
}

class Daemon {
 public:
  Daemon(const DaemonOptions& options, Backend& backend) : options_(options), backend_(backend) {}

  absl::Status Run() {
    BASED_RETURN_IF_ERROR(Open());
    BASED_RETURN_IF_ERROR(Load());
    const std::optional<int> signal = WaitForEnd();
    Drain(signal);
    return engine_->health();
  }

 private:
  // Reads what guards the addresses, and opens them.
  absl::Status Open();
  absl::Status OpenMetrics();
  absl::Status OpenAdmin();
  absl::Status OpenHttp();
  // Logs those that --insecure_listen allows.
  void WarnOfOpenAddresses() const;
  absl::Status Load();
  // Returns the first termination signal, or nothing when the device fails: the process then ends,
  // so that its supervisor starts it anew.
  std::optional<int> WaitForEnd();
  // What is done every few seconds: memory that a burst of clients has left goes back to the
  // system, certificates that were replaced are read.
  void Tick();
  // Tells the service manager that the engine goes round, when that is due.
  void TellWatchdog();
  std::string StatusLine() const;
  // The access file, tenants' limits and certificates; the first error, each having been tried.
  absl::Status Reload();
  absl::Status ApplyTenants() ABSL_EXCLUSIVE_LOCKS_REQUIRED(reload_mutex_);
  void Drain(std::optional<int> signal);
  absl::Status Health() const;
  DebugView View(bool steps) const;
  // Tokens per second with all slots decoding; of more slots than a step has rows, some at a time.
  double FullSpeed(const Engine& engine) const {
    const Capacity capacity = engine.capacity();
    return profile_.DecodeTokensPerSecond(std::min(capacity.slots_total, capacity.token_budget));
  }

  const DaemonOptions& options_;
  Backend& backend_;
  const Clock::time_point start_ = Clock::now();
  Addresses addresses_;
  MemoryTrimmer trimmer_{kTrimGrowth};
  // In the order of their dependence.
  Metrics metrics_;
  StepProfile profile_{metrics_};
  std::unique_ptr<AccessControl> access_;
  std::shared_ptr<TlsCertificates> tls_;  // null: no TLS
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<LiveRequests> live_;    // over engine_; what calls reach
  std::atomic<Engine*> loaded_{nullptr};  // engine_, once other threads may use it
  std::unique_ptr<BatchJobs> batches_;    // null: none
  std::unique_ptr<Server> server_;
  std::unique_ptr<HttpApi> http_;  // null: none
  std::unique_ptr<AdminService> admin_;
  std::unique_ptr<GrpcEndpoint> admin_endpoint_;
  std::unique_ptr<MetricsListener> metrics_listener_;
  std::atomic<bool> draining_{false};
  const ServiceNotifier notifier_;
  std::unique_ptr<EngineWatch> watch_;  // null: no watchdog
  Clock::time_point next_watch_;
  Mutex reload_mutex_;  // held while reading: SIGHUP and AdminService take turns
};

absl::Status Daemon::Open() {
  BASED_ASSIGN_OR_RETURN(access_, AccessControl::Load(options_.network.access_file));
  ServerOptions server_options = options_.server;
  if (options_.network.tls.enabled()) {
    BASED_ASSIGN_OR_RETURN(tls_, TlsCertificates::Load(options_.network.tls));
    server_options.connections.credentials = tls_->NewCredentials();
  }
  if (!options_.batches.dir.empty()) {
    BASED_ASSIGN_OR_RETURN(batches_, BatchJobs::Open(options_.batches));
  }
  BASED_RETURN_IF_ERROR(CheckListenPolicy("listen", options_.server.listen, options_.network,
                                          access_->keys_required()));
  BASED_ASSIGN_OR_RETURN(server_, Server::Start(server_options, *access_, metrics_));
  addresses_.grpc = WithPort(options_.server.listen, server_->port());
  if (!options_.metrics_listen.empty()) BASED_RETURN_IF_ERROR(OpenMetrics());
  if (!options_.network.admin_listen.empty()) BASED_RETURN_IF_ERROR(OpenAdmin());
  if (!options_.http.server.listen.empty()) BASED_RETURN_IF_ERROR(OpenHttp());
  Log(LogLevel::kInfo, "listening",
      {{"grpc", absl::string_view(addresses_.grpc)},
       {"http", absl::string_view(addresses_.http)},
       {"metrics", absl::string_view(addresses_.metrics)},
       {"admin", absl::string_view(addresses_.admin)},
       {"tls", tls_ != nullptr},
       {"keys", access_->keys_required()}});
  WarnOfOpenAddresses();
  return absl::OkStatus();
}

void Daemon::WarnOfOpenAddresses() const {
  const bool keys = access_->keys_required();
  const auto warn = [&](absl::string_view flag, const std::string& address,
                        const NetworkOptions& network) {
    if (!IsOpen(address, network, keys)) return;
    Log(LogLevel::kWarning, "insecure_listen",
        {{"flag", flag},
         {"address", absl::string_view(address)},
         {"tls", network.tls.enabled()},
         {"keys", keys},
         {"message", keys ? absl::string_view("keys and texts can be read on the way")
                          : absl::string_view("whoever reaches this address is served")}});
  };
  warn("listen", addresses_.grpc, options_.network);
  if (admin_ != nullptr) warn("admin_listen", addresses_.admin, options_.network);
  NetworkOptions plain = options_.network;
  plain.tls = {};
  if (http_ != nullptr) warn("http_listen", addresses_.http, plain);
}

absl::Status Daemon::OpenMetrics() {
  MetricsListener::Handlers handlers = {.metrics =
                                            [this](const std::set<std::string>& names) {
                                              if (Engine* engine = loaded_) {
                                                metrics_.SetCapacity(engine->capacity());
                                                metrics_.SetTenants(engine->tenants());
                                                metrics_.SetSessions(engine->sessions()->use());
                                                if (batches_ != nullptr)
                                                  metrics_.SetBatches(batches_->use());
                                                metrics_.SetFullSpeed(FullSpeed(*engine));
                                                metrics_.SetLive(live_->Phases());
                                              }
                                              return metrics_.Render(names);
                                            },
                                        .health = [this] { return Health(); },
                                        .debug = [this](bool steps) { return View(steps); }};
  BASED_ASSIGN_OR_RETURN(metrics_listener_,
                         MetricsListener::Start(options_.metrics_listen, std::move(handlers)));
  addresses_.metrics = WithPort(options_.metrics_listen, metrics_listener_->port());
  return absl::OkStatus();
}

absl::Status Daemon::OpenAdmin() {
  const std::string& address = options_.network.admin_listen;
  BASED_RETURN_IF_ERROR(
      CheckListenPolicy("admin_listen", address, options_.network, access_->keys_required()));
  admin_ = std::make_unique<AdminService>(
      *access_,
      AdminHandlers{
          .status = [this] { return View(true); },
          .reload = [this] { return Reload(); },
          .set_limits =
              [this](const TenantLimits& limits) {
                MutexLock lock(reload_mutex_);
                BASED_RETURN_IF_ERROR(access_->SetLimits(limits));
                return ApplyTenants();
              },
          .drain = [] { ::kill(::getpid(), SIGTERM); },
          .profile =
              [this](std::chrono::nanoseconds window) { return profile_.Summarize(window); }},
      options_.server.write_timeout);
  EndpointOptions connections = options_.server.connections;
  connections.max_connections = kAdminConnections;
  connections.reserved_descriptors = kAdminReservedDescriptors;
  connections.credentials = tls_ != nullptr ? tls_->NewCredentials() : nullptr;
  // It knows no keys: for the machine itself only.
  if (IsLoopback(address)) ServeChannelz();
  BASED_ASSIGN_OR_RETURN(admin_endpoint_,
                         GrpcEndpoint::Start("admin_listen", address, connections, {admin_.get()}));
  admin_endpoint_->SetServing(v1::AdminService::service_full_name(), true);
  addresses_.admin = WithPort(address, admin_endpoint_->port());
  return absl::OkStatus();
}

absl::Status Daemon::OpenHttp() {
  const std::string& address = options_.http.server.listen;
  if (!IsLoopback(address) && !options_.network.insecure_listen) {
    return absl::FailedPreconditionError(
        absl::StrCat("--http_listen is '", address,
                     "', which others can reach, and HTTP is not encrypted here; listen on "
                     "127.0.0.1 behind a proxy that does TLS, or say --insecure_listen if the "
                     "network itself keeps strangers out"));
  }
  BASED_ASSIGN_OR_RETURN(http_, HttpApi::Start(options_.http, *access_, metrics_));
  addresses_.http = WithPort(address, http_->port());
  return absl::OkStatus();
}

DebugView Daemon::View(bool steps) const {
  DebugView view = {.uptime_s = SecondsSince(start_)};
  if (steps) view.profile = profile_.Summarize(kProfileWindow);
  const Engine* engine = loaded_;
  if (engine == nullptr) return view;
  view.state = !engine->health().ok() ? DebugView::State::kFailed
               : draining_            ? DebugView::State::kDraining
                                      : DebugView::State::kReady;
  view.model = engine->model().name;
  view.capacity = engine->capacity();
  view.requests = live_->List();
  view.ended = live_->Ended();
  view.full_tokens_per_second = FullSpeed(*engine);
  return view;
}

absl::Status Daemon::Health() const {
  const Engine* engine = loaded_;
  return engine == nullptr ? absl::UnavailableError("the model is loading") : engine->health();
}

absl::Status Daemon::Load() {
  notifier_.Loading(options_.model_dir);
  std::future<absl::StatusOr<std::unique_ptr<Model>>> loading =
      std::async(std::launch::async, [this] { return LoadServedModel(options_, backend_); });
  const sigset_t signals = TerminationSignals();
  while (loading.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
    if (const int signal = ::sigtimedwait(&signals, nullptr, &kLoadPoll); signal > 0) {
      // Nothing has begun that could be ended well, and a load cannot be stopped.
      Log(LogLevel::kInfo, "stopped", {{"signal", int64_t{signal}}, {"complete", true}});
      std::_Exit(0);
    }
  }
  BASED_ASSIGN_OR_RETURN(std::unique_ptr<Model> model, loading.get());
  BASED_ASSIGN_OR_RETURN(const std::string model_dir, FindModelDir(options_.model_dir));
  BASED_ASSIGN_OR_RETURN(engine_, Engine::Create(std::move(model), options_.engine, &profile_));
  live_ = std::make_unique<LiveRequests>(*engine_);
  metrics_.SetModel(engine_->model(), Clock::now() - start_);
  metrics_.SetCapacity(engine_->capacity());
  {
    MutexLock lock(reload_mutex_);
    BASED_RETURN_IF_ERROR(engine_->SetTenants(access_->tenants()));
    loaded_ = engine_.get();
  }
  const ChatFormat chat =
      ChatFormatOf(engine_->model().tokenizer.get(), engine_->model().config.eos_token_id,
                   LoadChatTemplate(options_, model_dir));
  if (batches_ != nullptr) {
    batches_->Start(*live_, {.openai = OpenAiModelOf(engine_->model(), chat),
                             .digest = engine_->model().checkpoint.digest});
  }
  server_->Serve(*live_, chat, batches_.get());
  if (http_ != nullptr) http_->Serve(*live_, chat);
  LogReady(*engine_, addresses_, SecondsSince(start_));
  if (notifier_.watchdog()) watch_ = std::make_unique<EngineWatch>(*engine_, profile_);
  notifier_.Ready(StatusLine());
  return absl::OkStatus();
}

std::optional<int> Daemon::WaitForEnd() {
  const sigset_t signals = DaemonSignals();
  Clock::time_point next_tick = Clock::now() + kTickInterval;
  while (true) {
    const int signal = ::sigtimedwait(&signals, nullptr, &kHealthPoll);
    if (signal == SIGHUP) {
      notifier_.Reloading();
      Reload().IgnoreError();  // logged
      notifier_.Ready(StatusLine());
    } else if (signal > 0) {
      return signal;
    }
    TellWatchdog();
    if (Clock::now() >= next_tick) {
      Tick();
      next_tick = Clock::now() + kTickInterval;
    }
    if (!engine_->health().ok()) return std::nullopt;
  }
}

void Daemon::TellWatchdog() {
  if (watch_ == nullptr || Clock::now() < next_watch_) return;
  next_watch_ = Clock::now() + *notifier_.watchdog() / kWatchesPerLimit;
  if (watch_->Moved()) notifier_.Watchdog();
}

std::string Daemon::StatusLine() const {
  const Capacity capacity = engine_->capacity();
  return absl::StrCat("serving ", engine_->model().name, ": ", capacity.slots_active, " of ",
                      capacity.slots_total, " slots in use, ", capacity.queued_requests, " queued");
}

void Daemon::Tick() {
  engine_->sessions()->Expire(Clock::now());
  trimmer_.Tick();
  notifier_.Status(StatusLine());
  if (tls_ == nullptr) return;
  bool changed = false;
  const absl::Status status = tls_->ReloadIfChanged(changed);
  if (changed) LogReload("certificates", status);
}

// Load does it for an engine that is not there yet.
absl::Status Daemon::ApplyTenants() {
  Engine* engine = loaded_;
  return engine == nullptr ? absl::OkStatus() : engine->SetTenants(access_->tenants());
}

absl::Status Daemon::Reload() {
  MutexLock lock(reload_mutex_);
  absl::Status first;
  if (!options_.network.access_file.empty()) {
    absl::Status status = access_->Reload();
    if (status.ok()) status = ApplyTenants();
    LogReload("access_file", status);
    first.Update(status);
  }
  if (tls_ != nullptr) {
    const absl::Status status = tls_->Reload();
    LogReload("certificates", status);
    first.Update(status);
  }
  return first;
}

void Daemon::Drain(std::optional<int> signal) {
  draining_ = true;
  notifier_.Stopping(signal ? "draining" : "the device failed");
  server_->SetServing(false);
  if (http_ != nullptr) http_->BeginDrain();
  ExitAtNextSignal();
  if (signal) {
    Log(LogLevel::kInfo, "draining",
        {{"signal", int64_t{*signal}},
         {"grace_ms", int64_t{options_.network.drain_grace.count()}},
         {"limit_ms", int64_t{options_.drain_timeout.count()}}});
    std::this_thread::sleep_for(options_.network.drain_grace);
  } else {
    Log(LogLevel::kError, "device_failed", {{"message", engine_->health().message()}});
  }
  // Their lines run again after the next start: nobody waits for them.
  if (batches_ != nullptr) batches_->Stop();
  const bool complete = engine_->Drain(options_.drain_timeout);
  if (http_ != nullptr) http_->Shutdown(kFlushLimit);
  server_->Shutdown(kFlushLimit);
  if (admin_endpoint_ != nullptr) admin_endpoint_->Shutdown(kFlushLimit);
  if (batches_ != nullptr) batches_->Shutdown();
  Log(LogLevel::kInfo, "stopped", {{"complete", complete}});
}

}  // namespace

sigset_t DaemonSignals() {
  sigset_t signals = TerminationSignals();
  ::sigaddset(&signals, SIGHUP);
  return signals;
}

absl::Status RunDaemon(const DaemonOptions& options, Backend& backend) {
  return Daemon(options, backend).Run();
}

}  // namespace based
