// The daemon's life: load, serve, drain. main.cc adds the command line and the backend.
#ifndef BASED_SERVER_DAEMON_H_
#define BASED_SERVER_DAEMON_H_

#include <csignal>

#include "absl/status/status.h"
#include "kernels/backend.h"
#include "server/flags.h"

namespace based {

// SIGTERM and SIGINT. Block them before the first thread starts; RunDaemon waits for them.
sigset_t TerminationSignals();

// Serves until a termination signal, then drains: health NOT_SERVING, running requests end or are
// cut after options.drain_timeout. A second signal ends the process at once with status 1. When it
// serves it logs the event "ready" with what it serves, where, and the seconds that loading took.
// When the device fails, every request ends with UNAVAILABLE and the fault is returned.
absl::Status RunDaemon(const DaemonOptions& options, Backend& backend);

// options.model_dir, or where the demo model lies relative to this executable. NOT_FOUND when there
// is none; the message says what to do.
absl::StatusOr<std::string> FindModelDir(const std::string& model_dir);

}  // namespace based

#endif  // BASED_SERVER_DAEMON_H_
