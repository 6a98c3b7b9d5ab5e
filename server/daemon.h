// The daemon's life: load, serve, drain. main.cc adds the command line and the backend.
#ifndef BASED_SERVER_DAEMON_H_
#define BASED_SERVER_DAEMON_H_

#include <csignal>

#include "absl/status/status.h"
#include "kernels/backend.h"
#include "server/flags.h"

namespace based {

// SIGTERM, SIGINT and SIGHUP. Block them before the first thread starts; RunDaemon waits for them.
sigset_t DaemonSignals();

// Listens at once, loads the model (health NOT_SERVING, calls UNAVAILABLE), serves, and ends at
// SIGTERM or SIGINT: health NOT_SERVING, options.network.drain_grace in which requests are still
// taken, then running requests end or are cut after options.drain_timeout. A second signal ends the
// process at once with status 1; one during the load ends it with status 0. SIGHUP reads the access
// file and the certificates again.
//
// Events in the log: "listening", "ready" with what it serves, where, and the seconds until then,
// "reload", "draining", "stopped". When the device fails, every request ends with UNAVAILABLE and
// the fault is returned. FAILED_PRECONDITION for an address that CheckListenPolicy refuses.
absl::Status RunDaemon(const DaemonOptions& options, Backend& backend);

}  // namespace based

#endif  // BASED_SERVER_DAEMON_H_
