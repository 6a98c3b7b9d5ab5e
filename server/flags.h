// The daemon's command line as a checked struct.
#ifndef BASED_SERVER_FLAGS_H_
#define BASED_SERVER_FLAGS_H_

#include <chrono>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/engine.h"
#include "kernels/base/command_line.h"
#include "server/batch_store.h"
#include "server/http_api.h"
#include "server/log.h"
#include "server/network_flags.h"
#include "server/server.h"

namespace based {

struct DaemonOptions {
  std::string model_dir;  // empty: find the demo model
  std::string model_name;
  std::string tokenizer_dir;
  std::string backend;
  int32_t threads = 0;
  int32_t device = 0;
  bool batch_invariant = false;
  int32_t max_batch = 0;  // 0: the backend's default
  std::string metrics_listen;
  EngineOptions engine;
  ServerOptions server;
  HttpApiOptions http;
  BatchOptions batches;
  NetworkOptions network;
  LogOptions log;
  std::chrono::milliseconds drain_timeout{0};
  bool help = false;
  bool version = false;
  bool print_metrics_reference = false;
};

// `arguments` without the program's name. INVALID_ARGUMENT in one line: flag, value and what was
// expected.
absl::StatusOr<DaemonOptions> ReadFlags(absl::Span<const char* const> arguments);

// The text of --help.
std::string HelpText();

// Bytes of "268435456", "256MiB", "4GiB" or "4G" (powers of 1024; K, M, G, T). INVALID_ARGUMENT
// otherwise.
absl::StatusOr<int64_t> ParseBytes(absl::string_view text);

}  // namespace based

#endif  // BASED_SERVER_FLAGS_H_
