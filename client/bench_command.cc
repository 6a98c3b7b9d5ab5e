#include "client/bench_command.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>

#include "absl/flags/flag.h"
#include "absl/flags/reflection.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/bench_report.h"
#include "client/bench_sweep.h"
#include "client/common_flags.h"
#include "client/daemon_credentials.h"
#include "client/output_file.h"
#include "client/remote.h"
#include "kernels/base/status.h"

ABSL_FLAG(std::string, http, "",
          "http://HOST:PORT of the daemon's HTTP API: the load goes there, as streams of POST "
          "/v1/completions with a connection each, and not to --address. No TLS.");
ABSL_FLAG(double, rate, 0,
          "Open loop: requests per second, whatever the daemon does. 0: closed loop of "
          "--concurrency streams. With --sweep: where the search begins.");
ABSL_FLAG(std::string, arrivals, "poisson", "Open loop: poisson or fixed gaps.");
ABSL_FLAG(
    std::string, trace, "",
    "Open loop: plays a JSONL file of {\"arrival_s\", \"prompt_tokens\", \"output_tokens\"}.");
ABSL_FLAG(std::string, prompt_length, "128",
          "Tokens of a prompt: N, uniform:LOW,HIGH or lognormal:MEDIAN,SIGMA,MOST.");
ABSL_FLAG(std::string, output_length, "128", "Tokens of a completion, likewise.");
ABSL_FLAG(int32_t, prefixes, 0, "Prompts begin with one of so many shared prefixes; 0: with none.");
ABSL_FLAG(int32_t, prefix_length, 0, "Tokens of a shared prefix, beside --prompt_length.");
ABSL_FLAG(double, warmup, 2, "Seconds of load that are not counted.");
ABSL_FLAG(double, duration, 10, "Seconds of load that are counted; with --sweep, of each rate.");
ABSL_FLAG(int64_t, requests, 0, "Most requests, warm-up included; 0: as many as the time takes.");
ABSL_FLAG(int32_t, connections, 1, "gRPC: connections that the requests take in turn.");
ABSL_FLAG(uint64_t, workload_seed, 1, "The same seed gives the same requests.");
ABSL_FLAG(std::string, goodput, "",
          "Limits in milliseconds, e.g. ttft:200,itl:20; also tpot and e2e. itl is kept when 99% "
          "of a request's gaps keep it.");
ABSL_FLAG(bool, sweep, false, "Searches the highest rate that keeps the limits of --goodput.");
ABSL_FLAG(double, attainment, 0.99, "With --sweep: share of requests that must keep the limits.");
ABSL_FLAG(int32_t, refinements, 4, "With --sweep: halvings of the last interval.");
ABSL_FLAG(std::string, output, "",
          "File for the figures as JSON; an older one stays until they are there.");
ABSL_FLAG(std::string, html, "", "File for a page with plots, likewise; it fetches nothing.");
ABSL_DECLARE_FLAG(int32_t, concurrency);
ABSL_DECLARE_FLAG(float, temperature);

namespace based {
namespace {

constexpr int32_t kDefaultStreams = 32;
constexpr double kDefaultTimeoutS = 600;
constexpr double kSweepStart = 1;

// What HTTP cannot carry, or has no use for.
constexpr const char* kGrpcOnly[] = {"address", "connections", "tls",
                                     "tls_ca",  "tls_cert",    "tls_key"};

const std::vector<absl::string_view>& LoadFlags() {
  static const auto* const kFlags = new std::vector<absl::string_view>{
      "http",          "rate",          "arrivals",      "trace",  "concurrency", "prompt_length",
      "output_length", "prefixes",      "prefix_length", "warmup", "duration",    "requests",
      "connections",   "workload_seed", "temperature",   "model"};
  return *kFlags;
}

absl::StatusOr<LoadOptions> OptionsFromFlags() {
  LoadOptions options;
  WorkloadOptions& workload = options.workload;
  workload.rate = absl::GetFlag(FLAGS_rate);
  const std::string arrivals = absl::GetFlag(FLAGS_arrivals);
  if (arrivals != "poisson" && arrivals != "fixed") {
    return UsageError(absl::StrCat("--arrivals is '", arrivals, "'; expected poisson or fixed"));
  }
  if (workload.rate < 0 || workload.rate > 1e6) {
    return UsageError("--rate is out of range; expected 0 to 1000000 requests per second");
  }
  if (const std::string trace = absl::GetFlag(FLAGS_trace); !trace.empty()) {
    workload.arrivals = Arrivals::kTrace;
    BASED_ASSIGN_OR_RETURN(workload.trace, ReadTrace(trace));
  } else if (workload.rate > 0 || absl::GetFlag(FLAGS_sweep)) {
    workload.arrivals = arrivals == "fixed" ? Arrivals::kFixed : Arrivals::kPoisson;
  }
  BASED_ASSIGN_OR_RETURN(workload.prompt, LengthDistribution::Parse(
                                              "prompt_length", absl::GetFlag(FLAGS_prompt_length)));
  BASED_ASSIGN_OR_RETURN(workload.output, LengthDistribution::Parse(
                                              "output_length", absl::GetFlag(FLAGS_output_length)));
  workload.prefixes = absl::GetFlag(FLAGS_prefixes);
  workload.prefix_tokens = absl::GetFlag(FLAGS_prefix_length);
  workload.seed = absl::GetFlag(FLAGS_workload_seed);
  options.concurrency = absl::GetFlag(FLAGS_concurrency);
  if (options.concurrency == 0) options.concurrency = kDefaultStreams;
  options.warmup_s = absl::GetFlag(FLAGS_warmup);
  options.duration_s = absl::GetFlag(FLAGS_duration);
  options.requests = absl::GetFlag(FLAGS_requests);
  if (options.concurrency < 1 || options.concurrency > kMostLoadInFlight || workload.prefixes < 0 ||
      workload.prefix_tokens < 0 || options.warmup_s < 0 || !(options.duration_s > 0) ||
      options.requests < 0) {
    return UsageError(
        "--concurrency, --prefixes, --prefix_length, --warmup, --duration or --requests is out "
        "of range");
  }
  return options;
}

absl::StatusOr<std::unique_ptr<LoadTransport>> TransportFromFlags(const CommandLine& line) {
  const double timeout = absl::GetFlag(FLAGS_timeout);
  const RequestOptions options{.model = absl::GetFlag(FLAGS_model),
                               .temperature = absl::GetFlag(FLAGS_temperature),
                               .timeout_s = timeout > 0 ? timeout : kDefaultTimeoutS};
  if (line.Has("http")) {
    BASED_ASSIGN_OR_RETURN(const HttpTarget target,
                           HttpTarget::Parse("http", absl::GetFlag(FLAGS_http)));
    for (const char* flag : kGrpcOnly) {
      if (line.Has(flag)) {
        return UsageError(absl::StrCat("--", flag, " is of gRPC; expected it without --http"));
      }
    }
    BASED_ASSIGN_OR_RETURN(const DaemonCredentials credentials, ReadDaemonCredentials());
    return NewHttpTransport(target, credentials.api_key, options);
  }
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (int32_t i = 0; i < std::max(absl::GetFlag(FLAGS_connections), 1); ++i) {
    channels.push_back(DaemonChannel(i));
  }
  return NewGrpcTransport(std::move(channels), options);
}

// Where the report goes.
struct Outputs {
  std::optional<OutputFile> json, page;
};

absl::StatusOr<Outputs> OpenOutputs() {
  Outputs outputs;
  if (const std::string path = absl::GetFlag(FLAGS_output); !path.empty()) {
    BASED_ASSIGN_OR_RETURN(OutputFile file, OutputFile::Open(path));
    outputs.json.emplace(std::move(file));
  }
  if (const std::string path = absl::GetFlag(FLAGS_html); !path.empty()) {
    BASED_ASSIGN_OR_RETURN(OutputFile file, OutputFile::Open(path));
    outputs.page.emplace(std::move(file));
  }
  return outputs;
}

// The figures of a load of which nothing came are told all the same.
absl::Status CheckSomeSucceeded(const BenchReport& report) {
  int64_t requests = 0;
  const std::string* error = nullptr;
  for (const LoadStep& step : report.steps) {
    if (step.report.ok > 0) return absl::OkStatus();
    requests += step.report.requests;
    if (error == nullptr && !step.report.first_error.empty()) error = &step.report.first_error;
  }
  if (requests == 0 || error == nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("every request failed, ", requests, " of ", requests, "; the first: ", *error));
}

absl::Status Publish(const BenchReport& report, Outputs& outputs) {
  std::fputs(ReportText(report.steps[report.shown].report, report.limited).c_str(), stdout);
  if (outputs.json) {
    BASED_RETURN_IF_ERROR(outputs.json->Commit(ReportJson(report).dump(1) + "\n"));
  }
  if (outputs.page) BASED_RETURN_IF_ERROR(outputs.page->Commit(ReportPage(report)));
  return CheckSomeSucceeded(report);
}

std::vector<std::pair<std::string, std::string>> Settings(const ServedModel& model) {
  std::vector<std::pair<std::string, std::string>> settings = {{"daemon", model.server},
                                                               {"served", model.name}};
  for (const absl::string_view flag : LoadFlags()) {
    settings.emplace_back(flag, absl::FindCommandLineFlag(flag)->CurrentValue());
  }
  settings.emplace_back("goodput", absl::GetFlag(FLAGS_goodput));
  return settings;
}

absl::Status Bench(const CommandLine& line) {
  if (!line.positional.empty()) return UsageError("bench takes flags only");
  BASED_ASSIGN_OR_RETURN(LoadOptions options, OptionsFromFlags());
  BASED_ASSIGN_OR_RETURN(const LatencyLimits limits,
                         LatencyLimits::Parse(absl::GetFlag(FLAGS_goodput)));
  BenchReport report{.limited = !absl::GetFlag(FLAGS_goodput).empty()};
  const bool sweep = absl::GetFlag(FLAGS_sweep);
  if (sweep && (!report.limited || options.workload.arrivals == Arrivals::kTrace)) {
    return UsageError("--sweep needs the limits of --goodput, and no --trace");
  }
  BASED_ASSIGN_OR_RETURN(const std::unique_ptr<LoadTransport> transport, TransportFromFlags(line));
  BASED_ASSIGN_OR_RETURN(Outputs outputs, OpenOutputs());
  BASED_ASSIGN_OR_RETURN(const ServedModel model, transport->FindModel());
  report.settings = Settings(model);
  const auto load = [&](double rate) -> absl::StatusOr<LoadStep> {
    options.workload.rate = rate;
    BASED_ASSIGN_OR_RETURN(const LoadResult result, RunLoad(*transport, options, model.vocab_size));
    LoadStep step{.rate = rate, .report = Summarize(result, limits)};
    step.keeps_limits = step.report.good_share() >= absl::GetFlag(FLAGS_attainment);
    return step;
  };
  if (!sweep) {
    BASED_ASSIGN_OR_RETURN(LoadStep step, load(options.workload.rate));
    report.steps.push_back(std::move(step));
    return Publish(report, outputs);
  }
  const double start = options.workload.rate > 0 ? options.workload.rate : kSweepStart;
  const LoadAtRate told = [&](double rate) -> absl::StatusOr<LoadStep> {
    absl::StatusOr<LoadStep> step = load(rate);
    if (step.ok()) {
      std::fprintf(stderr,
                   "%8.2f requests/s: %6.2f%% keep the limits, TTFT p99 %.1f ms, ITL p99 "
                   "%.1f ms\n",
                   rate, 100 * step->report.good_share(), step->report.ttft.Quantile(0.99),
                   step->report.itl.Quantile(0.99));
    }
    return step;
  };
  BASED_ASSIGN_OR_RETURN(SweepResult found, Sweep(start, absl::GetFlag(FLAGS_refinements), told));
  report.steps = std::move(found.steps);
  report.shown = found.best.value_or(0);
  if (found.best) {
    std::printf("highest rate   %.2f requests/s keeps the limits\n",
                report.steps[*found.best].rate);
  } else {
    std::printf("highest rate   none that was tried keeps the limits\n");
  }
  return Publish(report, outputs);
}

}  // namespace

Command BenchCommand() {
  return {
      .name = "bench",
      .summary =
          "Loads the daemon, over gRPC or HTTP, and reports latencies, throughput and goodput.",
      .examples =
          "  based bench --concurrency 64 --prompt_length 128 --output_length uniform:16,256\n"
          "  based bench --rate 20 --duration 60 --goodput ttft:200,itl:20 --html load.html\n"
          "  based bench --sweep --goodput ttft:500,itl:50 --output sweep.json\n"
          "  based bench --http http://127.0.0.1:7480 --concurrency 64\n"
          "  based bench --trace arrivals.jsonl --output trace.json\n",
      .exit_status =
          "0 when a request succeeded, whatever the limits say. 1 when every request failed; the "
          "reports are written.",
      .flags = {{"Load", LoadFlags()},
                {"Limits", {"goodput", "sweep", "attainment", "refinements"}},
                {"Report", {"output", "html"}},
                kDaemonFlags},
      .run = Bench};
}

}  // namespace based
