// Flags of how many sessions are kept, and for how long.
#ifndef BASED_SERVER_SESSION_FLAGS_H_
#define BASED_SERVER_SESSION_FLAGS_H_

#include "absl/status/status.h"
#include "engine/engine.h"
#include "kernels/base/command_line.h"

namespace based {

// INVALID_ARGUMENT in one line.
absl::Status ReadSessionFlags(EngineOptions& options);

FlagGroup SessionFlags();

}  // namespace based

#endif  // BASED_SERVER_SESSION_FLAGS_H_
