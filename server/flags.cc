#include "server/flags.h"

#include <array>
#include <limits>

#include "absl/flags/flag.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "kernels/base/status.h"
#include "server/batch_flags.h"
#include "server/http_flags.h"
#include "server/load_flags.h"
#include "server/session_flags.h"

ABSL_FLAG(std::string, model, "",
          "Directory of the model: config.json and model.safetensors. Empty: the demo model that "
          "ships with the daemon.");
ABSL_FLAG(std::string, model_name, "", "Name that clients use. Empty: the last part of --model.");
ABSL_FLAG(std::string, tokenizer, "",
          "Directory of tokenizer.json (or vocab.json and merges.txt). Empty: --model, if it holds "
          "one; else token ids only.");
ABSL_FLAG(std::string, backend, "auto", "auto, cpu, cuda or reference (slow and exact).");
ABSL_FLAG(int32_t, threads, 0, "CPU threads; 0: one per core.");
ABSL_FLAG(int32_t, device, 0, "Index of the CUDA device.");
ABSL_FLAG(std::string, listen, "127.0.0.1:7433", "HOST:PORT for gRPC. Port 0 takes a free one.");
ABSL_FLAG(std::string, metrics_listen, "127.0.0.1:7490",
          "HOST:PORT for /metrics and /healthz over HTTP; empty: none.");
ABSL_FLAG(std::string, slots, "auto",
          "Sequences that live at once, or auto: as many as --memory_budget holds.");
ABSL_FLAG(
    std::string, memory_budget, "0",
    "Bytes for weights, workspace and slots together, e.g. 2GiB. 0: on a CPU a quarter of the "
    "machine's memory, at most 1 GiB beyond weights and workspace; on a GPU its free memory less "
    "a reserve.");
ABSL_FLAG(int32_t, token_budget, 0,
          "Most tokens in one step, at least 2; 0: the backend's default.");
ABSL_FLAG(int32_t, max_batch, 0,
          "Most sequences in one step, at least 2; 0: the backend's default. Slots may be more.");
ABSL_FLAG(bool, batch_invariant, false,
          "On a GPU: results bitwise independent of the batch, at some cost in speed. The CPU's "
          "always are.");
ABSL_FLAG(
    int32_t, max_connections, 16384,
    "Connections to --listen at a time; more are closed at once. Fewer if the process may not "
    "open so many descriptors.");
ABSL_FLAG(
    int32_t, stream_queue, 256,
    "Messages that may wait for one stream's reader, each of up to 16 tokens; a slower reader "
    "is ended.");
ABSL_FLAG(int32_t, write_timeout_ms, 30000,
          "A client that takes no message for so long is cut, and what it was sent is dropped; a "
          "single answer of several MiB has as long for each.");
ABSL_FLAG(int32_t, drain_timeout_ms, 10000,
          "On SIGTERM, time for running requests to end before they are cut.");
ABSL_FLAG(std::string, log_level, "info", "debug, info, warning, error or off.");
ABSL_FLAG(std::string, log_format, "text", "text (key=value) or json.");
ABSL_FLAG(bool, version, false, "Prints the version and exits.");
ABSL_FLAG(bool, print_metrics_reference, false,
          "Prints what every series at /metrics means, as Markdown, and exits.");

namespace based {
namespace {

const std::array<FlagGroup, 11>& Groups() {
  static const auto* groups = new std::array<FlagGroup, 11>{{
      {"Model", {"model", "model_name", "tokenizer"}},
      {"Hardware", {"backend", "threads", "device", "batch_invariant"}},
      {"Addresses", {"listen", "metrics_listen"}},
      HttpFlags(),
      {"Capacity",
       {"slots", "memory_budget", "token_budget", "max_batch", "max_connections", "stream_queue",
        "write_timeout_ms", "drain_timeout_ms"}},
      LoadFlags(),
      SessionFlags(),
      BatchFlags(),
      SecurityFlags(),
      ConnectionFlags(),
      {"Logs and other", {"log_level", "log_format", "version", "print_metrics_reference"}},
  }};
  return *groups;
}

absl::Status Wrong(absl::string_view flag, auto value, absl::string_view expected) {
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, " is '", value, "'; expected ", expected));
}

absl::Status CheckAtLeast(absl::string_view flag, int32_t value, int32_t least) {
  if (value >= least) return absl::OkStatus();
  return Wrong(flag, value, absl::StrCat(least, " or more"));
}

absl::Status ReadCapacity(DaemonOptions& options) {
  const std::string slots = absl::GetFlag(FLAGS_slots);
  if (slots != "auto" &&
      (!absl::SimpleAtoi(slots, &options.engine.slots) || options.engine.slots < 1)) {
    return Wrong("slots", slots, "auto or a number of 1 or more");
  }
  const std::string budget = absl::GetFlag(FLAGS_memory_budget);
  const absl::StatusOr<int64_t> bytes = ParseBytes(budget);
  if (!bytes.ok()) return Wrong("memory_budget", budget, "bytes, e.g. 268435456, 512MiB or 2GiB");
  options.engine.memory_budget = *bytes;
  options.engine.token_budget = absl::GetFlag(FLAGS_token_budget);
  options.max_batch = absl::GetFlag(FLAGS_max_batch);
  if (options.max_batch != 0)
    BASED_RETURN_IF_ERROR(CheckAtLeast("max_batch", options.max_batch, 2));
  options.server.connections.max_connections = absl::GetFlag(FLAGS_max_connections);
  BASED_RETURN_IF_ERROR(
      CheckAtLeast("max_connections", options.server.connections.max_connections, 1));
  options.server.stream_queue = absl::GetFlag(FLAGS_stream_queue);
  const int32_t drain = absl::GetFlag(FLAGS_drain_timeout_ms);
  if (options.engine.token_budget != 0) {
    BASED_RETURN_IF_ERROR(CheckAtLeast("token_budget", options.engine.token_budget, 2));
  }
  BASED_RETURN_IF_ERROR(CheckAtLeast("stream_queue", options.server.stream_queue, 1));
  BASED_RETURN_IF_ERROR(CheckAtLeast("drain_timeout_ms", drain, 0));
  const int32_t write_timeout = absl::GetFlag(FLAGS_write_timeout_ms);
  BASED_RETURN_IF_ERROR(CheckAtLeast("write_timeout_ms", write_timeout, 1));
  options.server.write_timeout = std::chrono::milliseconds(write_timeout);
  options.drain_timeout = std::chrono::milliseconds(drain);
  return absl::OkStatus();
}

absl::Status ReadHardware(DaemonOptions& options) {
  options.backend = absl::GetFlag(FLAGS_backend);
  options.threads = absl::GetFlag(FLAGS_threads);
  options.device = absl::GetFlag(FLAGS_device);
  options.batch_invariant = absl::GetFlag(FLAGS_batch_invariant);
  if (options.backend != "auto" && options.backend != "cpu" && options.backend != "cuda" &&
      options.backend != "reference") {
    return Wrong("backend", options.backend, "auto, cpu, cuda or reference");
  }
  BASED_RETURN_IF_ERROR(CheckAtLeast("threads", options.threads, 0));
  return CheckAtLeast("device", options.device, 0);
}

absl::Status ReadAddresses(DaemonOptions& options) {
  options.server.listen = absl::GetFlag(FLAGS_listen);
  options.metrics_listen = absl::GetFlag(FLAGS_metrics_listen);
  BASED_RETURN_IF_ERROR(CheckAddress("listen", options.server.listen));
  if (options.metrics_listen.empty()) return absl::OkStatus();
  return CheckAddress("metrics_listen", options.metrics_listen);
}

}  // namespace

absl::StatusOr<int64_t> ParseBytes(absl::string_view text) {
  const std::string whole(text);
  const size_t unit_at = std::min(text.find_first_not_of("0123456789"), text.size());
  int64_t number = 0;
  absl::string_view unit = text.substr(unit_at);
  int shift = 0;
  if (!unit.empty()) {
    constexpr absl::string_view kUnits = "KMGT";
    const size_t exponent = kUnits.find(unit.front());
    if (exponent == absl::string_view::npos ||
        (unit.size() > 1 && unit.substr(1) != "iB" && unit.substr(1) != "B")) {
      return absl::InvalidArgumentError(absl::StrCat("'", whole, "' is no number of bytes"));
    }
    shift = 10 * (static_cast<int>(exponent) + 1);
  }
  if (!absl::SimpleAtoi(whole.substr(0, unit_at), &number) || number < 0 ||
      number > std::numeric_limits<int64_t>::max() >> shift) {
    return absl::InvalidArgumentError(absl::StrCat("'", whole, "' is no number of bytes"));
  }
  return number << shift;
}

absl::StatusOr<DaemonOptions> ReadFlags(absl::Span<const char* const> arguments) {
  BASED_ASSIGN_OR_RETURN(const CommandLine line, ParseCommandLine(arguments, Groups()));
  DaemonOptions options;
  options.help = line.help;
  options.version = absl::GetFlag(FLAGS_version);
  options.print_metrics_reference = absl::GetFlag(FLAGS_print_metrics_reference);
  if (options.help || options.version || options.print_metrics_reference) return options;
  if (!line.positional.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", line.positional[0], "' is no flag; expected flags only, see --help"));
  }
  options.model_dir = absl::GetFlag(FLAGS_model);
  options.model_name = absl::GetFlag(FLAGS_model_name);
  options.tokenizer_dir = absl::GetFlag(FLAGS_tokenizer);
  BASED_RETURN_IF_ERROR(ReadHardware(options));
  BASED_RETURN_IF_ERROR(ReadAddresses(options));
  BASED_RETURN_IF_ERROR(ReadCapacity(options));
  BASED_RETURN_IF_ERROR(ReadLoadFlags(options.engine));
  BASED_RETURN_IF_ERROR(ReadSessionFlags(options.engine));
  BASED_RETURN_IF_ERROR(ReadBatchFlags(options.batches));
  BASED_RETURN_IF_ERROR(ReadNetworkFlags(options.network, options.server.connections));
  BASED_RETURN_IF_ERROR(ReadHttpFlags(options.server, options.http));
  const absl::StatusOr<LogLevel> level = ParseLogLevel(absl::GetFlag(FLAGS_log_level));
  if (!level.ok()) {
    return Wrong("log_level", absl::GetFlag(FLAGS_log_level), "debug, info, warning, error or off");
  }
  const std::string format = absl::GetFlag(FLAGS_log_format);
  if (format != "text" && format != "json") return Wrong("log_format", format, "text or json");
  options.log = {.level = *level, .json = format == "json"};
  return options;
}

std::string HelpText() {
  return absl::StrCat(
      "based-server serves one BASED language model over gRPC and HTTP.\n\n"
      "  based-server --model DIR [flags]\n\n"
      "Exit status: 0 after SIGTERM or SIGINT, 1 when it cannot serve, 2 for a wrong command "
      "line.\n",
      FlagsHelp(Groups()));
}

}  // namespace based
