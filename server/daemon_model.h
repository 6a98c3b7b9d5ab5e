// What the daemon serves: where the model lies, how the command line sizes it, what the log says of
// it.
#ifndef BASED_SERVER_DAEMON_MODEL_H_
#define BASED_SERVER_DAEMON_MODEL_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "kernels/backend.h"
#include "server/flags.h"

namespace based {

// options.model_dir, or where the demo model lies relative to this executable. NOT_FOUND when there
// is none; the message says what to do.
absl::StatusOr<std::string> FindModelDir(const std::string& model_dir);

// The model that the options name, compiled for `backend`.
absl::StatusOr<std::unique_ptr<Model>> LoadServedModel(const DaemonOptions& options,
                                                       Backend& backend);

// Where the daemon listens; "none" where it does not.
struct Addresses {
  std::string grpc;
  std::string http = "none";
  std::string metrics = "none";
  std::string admin = "none";
};

// The event "ready", and the model's warnings.
void LogReady(const Engine& engine, const Addresses& addresses, double load_seconds);

}  // namespace based

#endif  // BASED_SERVER_DAEMON_MODEL_H_
